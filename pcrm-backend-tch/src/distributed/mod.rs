//! The processes of a run over libtorch's c10d: a TCP store where they meet, and a Gloo group.
//!
//! Tensors on a GPU are exchanged through host memory: this build has no NCCL.

mod c10d;
mod health;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pcrm_core::collective::Meeting;
use pcrm_core::{Collective, Error, Result, Tensor};
use tch::{Device, Kind, Tensor as Torch};

use self::c10d::{Failed, Group};
use self::health::Health;
use crate::tensor::TchTensor;
use crate::{NAME, failed};

/// The group of a run's processes.
#[derive(Debug)]
struct Gloo {
    meeting: Meeting,
    /// `None` after this process has left.
    group: Mutex<Option<Group>>,
    health: Health,
    sent: AtomicU64,
}

/// Meets the other processes of a run and returns when all have joined.
///
/// # Errors
/// Fails if the store cannot be opened or reached, or if processes do not join within the timeout; the
/// message names them.
pub fn join(meeting: &Meeting) -> Result<Arc<dyn Collective>> {
    let failed = |message: String| Error::Collective { message };
    let health = Health::begin(meeting).map_err(|message| {
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
    Ok(Arc::new(Gloo {
        meeting: meeting.clone(),
        group: Mutex::new(Some(group)),
        health,
        sent: AtomicU64::new(0),
    }))
}

impl Gloo {
    /// Runs an operation of the group; the error of a failed one names the process that caused it.
    fn run(&self, operation: impl FnOnce(&mut Group) -> Result<(), Failed>) -> Result<()> {
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        let done = match group.as_mut() {
            Some(group) => operation(group),
            None => Err("this process has left the group".to_owned()),
        };
        done.map_err(|message| Error::Collective { message: self.health.diagnosis(&message) })
    }

    fn count(&self, elements: usize, size: usize) {
        self.sent.fetch_add((elements * size) as u64, Ordering::Relaxed);
    }

    /// Gathers tensors of one shape on the host.
    fn gathered(&self, own: &Torch) -> Result<Torch> {
        let world = self.meeting.world as i64;
        let shape: Vec<i64> =
            std::iter::once(world * own.size()[0]).chain(own.size()[1..].to_vec()).collect();
        let mut out = Torch::f_empty(shape, (own.kind(), Device::Cpu)).map_err(failed("all_gather"))?;
        self.run(|group| group.all_gather(&mut out, own))?;
        Ok(out)
    }
}

/// Converts a tensor to what the group exchanges: f32, contiguous, on the host.
fn on_host(op: &'static str, tensor: &Tensor) -> Result<(Torch, Device)> {
    let value = &tensor.downcast::<TchTensor>(op, NAME)?.value;
    let dense = || value.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous();
    Ok((dense().map_err(failed(op))?, value.device()))
}

fn tensor(op: &'static str, value: &Torch, device: Device) -> Result<Tensor> {
    Ok(Tensor::new(TchTensor::constant(value.f_to_device(device).map_err(failed(op))?)))
}

impl Collective for Gloo {
    fn rank(&self) -> usize {
        self.meeting.rank
    }

    fn world(&self) -> usize {
        self.meeting.world
    }

    fn all_to_all(&self, parts: &Tensor) -> Result<Tensor> {
        const OP: &str = "all_to_all";
        let (own, device) = on_host(OP, parts)?;
        let mut out = own.f_empty_like().map_err(failed(OP))?;
        self.run(|group| group.all_to_all(&mut out, &own))?;
        self.count(own.numel() / self.meeting.world * (self.meeting.world - 1), 4);
        tensor(OP, &out, device)
    }

    fn all_gather(&self, own: &Tensor) -> Result<Tensor> {
        const OP: &str = "all_gather";
        let (own, device) = on_host(OP, own)?;
        let out = self.gathered(&own)?;
        self.count(own.numel() * (self.meeting.world - 1), 4);
        tensor(OP, &out, device)
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let err = || failed("gather");
        let length = Torch::f_from_slice(&[own.len() as i64]).map_err(err())?;
        let lengths = Vec::<i64>::try_from(self.gathered(&length)?).map_err(err())?;
        let most = lengths.iter().copied().max().unwrap_or(0).max(1) as usize;
        let mut padded = own.to_vec();
        padded.resize(most, 0);
        let all = self.gathered(&Torch::f_from_slice(&padded).map_err(err())?)?;
        let all = Vec::<u8>::try_from(all).map_err(err())?;
        let of = |(part, length): (&[u8], &i64)| part[..*length as usize].to_vec();
        Ok(all.chunks(most).zip(&lengths).map(of).collect())
    }

    fn leave(&self, reason: &str) {
        self.health.ending(reason);
        // Closing the connections ends the operations of processes that wait for this one.
        drop(self.group.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.health.heard();
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}
