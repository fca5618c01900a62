//! The processes of a run over libtorch's c10d: a TCP store where they meet, and a Gloo group.
//!
//! Tensors on GPUs are exchanged over NCCL if it has proved itself ([`nccl`]), otherwise through host memory.

mod c10d;
mod health;
mod nccl;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pcrm_core::collective::{Exchange, Meeting, STORE_SOCKET};
use pcrm_core::registry::CollectivePlugin;
use pcrm_core::{Collective, Error, Result, Tensor};
use tch::{Device, Kind, Tensor as Torch};

use self::c10d::{Failed, Group, Part, Pending};
use self::health::Health;
use crate::tensor::TchTensor;
use crate::{NAME, failed};

inventory::submit! {
    CollectivePlugin { name: NAME, about: "libtorch's c10d: Gloo, and NCCL on GPUs", join }
}

/// A group; `None` after this process has left.
type Joined = Mutex<Option<Group>>;

/// The group of a run's processes.
#[derive(Debug)]
struct Processes {
    meeting: Meeting,
    gloo: Joined,
    /// Opened by the first exchange of tensors; `None` if the processes exchange over Gloo only.
    nccl: OnceLock<Option<Joined>>,
    health: Arc<Health>,
    sent: AtomicU64,
}

/// Meets the other processes of a run and returns when all have joined.
///
/// # Errors
/// Fails if the store cannot be opened or reached, or if processes do not join within the timeout; the
/// message names them.
pub fn join(meeting: &Meeting) -> Result<Arc<dyn Collective>> {
    let failed = |message: String| Error::Collective { message };
    let health = Health::begin(meeting, part(meeting).map_err(failed)?).map_err(|message| {
        failed(format!(
            "rank {} of {}: no store of keys at {}:{}: {message}",
            meeting.rank, meeting.world, meeting.host, meeting.port
        ))
    })?;
    let interface = std::env::var("GLOO_SOCKET_IFNAME").unwrap_or_default();
    let is_local = ["localhost", "127.0.0.1", "::1"].contains(&meeting.host.as_str());
    let address = if is_local { &meeting.host } else { "" };
    let Meeting { rank, world, timeout, .. } = *meeting;
    let group = Group::join(health.store(), rank, world, address, &interface, timeout);
    let group = group.map_err(|message| failed(health.absent(&message)))?;
    Ok(Arc::new(Processes {
        meeting: meeting.clone(),
        gloo: Mutex::new(Some(group)),
        nccl: OnceLock::new(),
        health: Arc::new(health),
        sent: AtomicU64::new(0),
    }))
}

/// Returns the role of this process in the store.
fn part(meeting: &Meeting) -> Result<Part, Failed> {
    match std::env::var(STORE_SOCKET) {
        _ if !meeting.serves => Ok(Part::Client),
        Err(_) => Ok(Part::Server),
        Ok(text) => match text.parse() {
            Ok(socket) if socket >= 0 => Ok(Part::Heir(socket)),
            _ => Err(format!("{STORE_SOCKET}={text}: expected the number of a descriptor")),
        },
    }
}

impl Processes {
    /// Runs an operation of a group; the error of a failed one names the process that caused it.
    fn run<T>(&self, group: &Joined, operation: impl FnOnce(&mut Group) -> Result<T, Failed>) -> Result<T> {
        let mut group = group.lock().unwrap_or_else(PoisonError::into_inner);
        let done = match group.as_mut() {
            Some(group) => operation(group),
            None => Err("this process has left the group".to_owned()),
        };
        done.map_err(|message| self.health.blaming(&message))
    }

    /// Returns the group that exchanges tensors of a device, and the device that they must be on.
    fn carrier(&self, device: Device) -> Result<(&Joined, Device)> {
        let nccl = match self.nccl.get() {
            Some(found) => found,
            None => {
                let agree = |own: &str| -> Result<Vec<String>> {
                    let texts = self.gather(own.as_bytes())?;
                    Ok(texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect())
                };
                let opened = nccl::opened(&self.meeting, self.health.store(), device, agree)?;
                self.nccl.get_or_init(|| opened.map(|group| Mutex::new(Some(group))))
            }
        };
        Ok(nccl.as_ref().map_or((&self.gloo, Device::Cpu), |group| (group, device)))
    }

    fn count(&self, elements: usize, size: usize) {
        self.sent.fetch_add((elements * size) as u64, Ordering::Relaxed);
    }

    /// Gathers tensors of one shape, which must be on the group's device.
    fn gathered(&self, group: &Joined, own: &Torch) -> Result<Torch> {
        let world = self.meeting.world as i64;
        let shape: Vec<i64> =
            std::iter::once(world * own.size()[0]).chain(own.size()[1..].to_vec()).collect();
        let mut out = Torch::f_empty(shape, (own.kind(), own.device())).map_err(failed("all_gather"))?;
        self.run(group, |group| group.all_gather(&mut out, own))?;
        Ok(out)
    }
}

/// Converts a tensor to what a group exchanges: f32, contiguous, on the group's device.
fn dense(op: &'static str, value: &Torch, device: Device) -> Result<Torch> {
    let dense = || value.f_to_device(device)?.f_to_kind(Kind::Float)?.f_contiguous();
    dense().map_err(failed(op))
}

fn value<'a>(op: &'static str, tensor: &'a Tensor) -> Result<&'a Torch> {
    Ok(&tensor.downcast::<TchTensor>(op, NAME)?.value)
}

fn tensor(op: &'static str, value: &Torch, device: Device) -> Result<Tensor> {
    Ok(Tensor::new(TchTensor::constant(value.f_to_device(device).map_err(failed(op))?)))
}

const ALL_TO_ALL: &str = "all_to_all";

/// An all-to-all under way, whose result goes to a device.
#[derive(Debug)]
struct Started {
    pending: Pending,
    device: Device,
    health: Arc<Health>,
}

impl Exchange for Started {
    fn wait(self: Box<Self>) -> Result<Tensor> {
        let Self { pending, device, health } = *self;
        let out = pending.wait().map_err(|message| health.blaming(&message))?;
        tensor(ALL_TO_ALL, &out, device)
    }
}

impl Collective for Processes {
    fn rank(&self) -> usize {
        self.meeting.rank
    }

    fn world(&self) -> usize {
        self.meeting.world
    }

    fn all_to_all(&self, parts: &Tensor) -> Result<Tensor> {
        self.start_all_to_all(parts)?.wait()
    }

    fn start_all_to_all(&self, parts: &Tensor) -> Result<Box<dyn Exchange>> {
        let parts = value(ALL_TO_ALL, parts)?;
        let (group, place) = self.carrier(parts.device())?;
        let own = dense(ALL_TO_ALL, parts, place)?;
        let out = own.f_empty_like().map_err(failed(ALL_TO_ALL))?;
        self.count(own.numel() / self.meeting.world * (self.meeting.world - 1), 4);
        let pending = self.run(group, |group| group.start_all_to_all(out, own))?;
        Ok(Box::new(Started { pending, device: parts.device(), health: Arc::clone(&self.health) }))
    }

    fn all_gather(&self, own: &Tensor) -> Result<Tensor> {
        const OP: &str = "all_gather";
        let part = value(OP, own)?;
        let (group, place) = self.carrier(part.device())?;
        let own = dense(OP, part, place)?;
        let out = self.gathered(group, &own)?;
        self.count(own.numel() * (self.meeting.world - 1), 4);
        tensor(OP, &out, part.device())
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let err = || failed("gather");
        let length = Torch::f_from_slice(&[own.len() as i64]).map_err(err())?;
        let lengths = Vec::<i64>::try_from(self.gathered(&self.gloo, &length)?).map_err(err())?;
        let most = lengths.iter().copied().max().unwrap_or(0).max(1) as usize;
        let mut padded = own.to_vec();
        padded.resize(most, 0);
        let all = self.gathered(&self.gloo, &Torch::f_from_slice(&padded).map_err(err())?)?;
        let all = Vec::<u8>::try_from(all).map_err(err())?;
        let of = |(part, length): (&[u8], &i64)| part[..*length as usize].to_vec();
        Ok(all.chunks(most).zip(&lengths).map(of).collect())
    }

    fn leave(&self, reason: &str) {
        self.health.ending(reason);
        // Closing the connections ends the operations of processes that wait for this one.
        let left = |group: &Joined| group.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut nccl) = self.nccl.get().and_then(Option::as_ref).and_then(left) {
            nccl.abort();
        }
        drop(left(&self.gloo));
        self.health.heard();
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}
