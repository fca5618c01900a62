//! Processes that are threads of a test, and exchange through memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use anyhow::{Result, bail};
use pcrm_core::collective::{Alone, Exchange};
use pcrm_core::{Collective, Error, HostTensor, Tensor};

/// The longest time that a process waits for the others.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The part of one process in an operation: its rank, the operation it called, and its bytes.
type Brought = (usize, String, Vec<u8>);

/// The parts of all processes in each operation, by its number.
#[derive(Debug, Default)]
struct Hall {
    brought: Mutex<HashMap<u64, Vec<Brought>>>,
    came: Condvar,
}

/// One of the processes.
#[derive(Debug)]
pub struct Seat {
    hall: Arc<Hall>,
    rank: usize,
    world: usize,
    /// The number of operations so far.
    next: AtomicU64,
    /// The number of all-to-alls so far.
    exchanges: Arc<AtomicU64>,
}

/// An all-to-all under way.
#[derive(Debug)]
struct Started {
    hall: Arc<Hall>,
    number: u64,
    rank: usize,
    world: usize,
    parts: Tensor,
}

fn failed(message: String) -> Error {
    Error::Collective { message }
}

impl Hall {
    /// Waits until all processes have reached an operation, and returns their bytes by rank.
    fn wait(&self, number: u64, world: usize) -> pcrm_core::Result<Vec<Vec<u8>>> {
        let brought = self.brought.lock().unwrap_or_else(PoisonError::into_inner);
        let absent = |brought: &mut HashMap<u64, Vec<_>>| brought.get(&number).map_or(0, Vec::len) < world;
        let (brought, late) =
            self.came.wait_timeout_while(brought, TIMEOUT, absent).unwrap_or_else(PoisonError::into_inner);
        if late.timed_out() {
            return Err(failed(format!("a process did not come to operation {number}")));
        }
        let mut all = brought.get(&number).cloned().unwrap_or_default();
        all.sort_unstable();
        let called: Vec<&String> = all.iter().map(|(_, called, _)| called).collect();
        if called.iter().any(|other| *other != called[0]) {
            return Err(failed(format!("operation {number} is another one in every process: {called:?}")));
        }
        Ok(all.into_iter().map(|(_, _, bytes)| bytes).collect())
    }
}

impl Seat {
    /// Enters the next operation, and returns its number.
    fn bring(&self, called: String, bytes: Vec<u8>) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut brought = self.hall.brought.lock().unwrap_or_else(PoisonError::into_inner);
        brought.entry(number).or_default().push((self.rank, called, bytes));
        self.hall.came.notify_all();
        number
    }
}

fn bytes(tensor: &Tensor) -> pcrm_core::Result<Vec<u8>> {
    Ok(tensor.read()?.into_f32().into_iter().flat_map(f32::to_le_bytes).collect())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

impl Exchange for Started {
    fn wait(self: Box<Self>) -> pcrm_core::Result<Tensor> {
        let all = self.hall.wait(self.number, self.world)?;
        let part = self.parts.size() / self.world;
        let of = |bytes: &Vec<u8>| floats(bytes)[self.rank * part..(self.rank + 1) * part].to_vec();
        let received = all.iter().flat_map(of).collect();
        self.parts.constant(&HostTensor::f32(self.parts.shape(), received)?)
    }
}

impl Collective for Seat {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn all_to_all(&self, parts: &Tensor) -> pcrm_core::Result<Tensor> {
        self.start_all_to_all(parts)?.wait()
    }

    fn start_all_to_all(&self, parts: &Tensor) -> pcrm_core::Result<Box<dyn Exchange>> {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        let number = self.bring(format!("all_to_all of {:?}", parts.shape()), bytes(parts)?);
        let hall = Arc::clone(&self.hall);
        Ok(Box::new(Started { hall, number, rank: self.rank, world: self.world, parts: parts.clone() }))
    }

    fn all_gather(&self, own: &Tensor) -> pcrm_core::Result<Tensor> {
        let mut shape = own.shape();
        let number = self.bring(format!("all_gather of {shape:?}"), bytes(own)?);
        shape[0] *= self.world;
        let all = floats(&self.hall.wait(number, self.world)?.concat());
        own.constant(&HostTensor::f32(shape, all)?)
    }

    fn gather(&self, own: &[u8]) -> pcrm_core::Result<Vec<Vec<u8>>> {
        let number = self.bring("gather".into(), own.to_vec());
        self.hall.wait(number, self.world)
    }

    fn leave(&self, _reason: &str) {}

    fn sent(&self) -> u64 {
        0
    }
}

/// Runs `work` in this many processes. Returns its results by rank, and the number of all-to-alls that each
/// process made.
pub fn together<T: Send>(
    world: usize,
    work: impl Fn(Arc<dyn Collective>) -> Result<T> + Sync,
) -> Result<(Vec<T>, u64)> {
    if world == 1 {
        return Ok((vec![work(Arc::new(Alone))?], 0));
    }
    let (hall, exchanges) = (Arc::<Hall>::default(), Arc::<AtomicU64>::default());
    let seat = |rank| Seat {
        hall: Arc::clone(&hall),
        rank,
        world,
        next: AtomicU64::new(0),
        exchanges: Arc::clone(&exchanges),
    };
    let made: Vec<Result<T>> = std::thread::scope(|scope| {
        let work = &work;
        let seats: Vec<Seat> = (0..world).map(seat).collect();
        let threads: Vec<_> =
            seats.into_iter().map(|seat| scope.spawn(move || work(Arc::new(seat)))).collect();
        let ended = threads.into_iter().map(ScopedJoinHandle::join);
        ended.map(|ended| ended.unwrap_or_else(|_| bail!("a process panicked"))).collect()
    });
    Ok((made.into_iter().collect::<Result<_>>()?, exchanges.load(Ordering::Relaxed) / world as u64))
}
