//! Kernels on f32 slices in host memory, which backends call for tensors on a CPU.
//!
//! Both backends share this attention code, in training and in generation, so that sampled tokens have
//! exactly the log-probabilities that training computes, to the bit. A row gets the same bits whatever the
//! other rows: sums run over a fixed number of lanes, over whole tiles of keys, and in an order that depends
//! only on its position.

pub mod adamw8;
pub mod attention;
mod cache;
pub mod coded;
pub mod lanes;
pub mod product;
pub mod sampling;

pub use self::cache::HostCache;
use crate::error::Result;

/// A way to run independent work items on the threads of a backend.
pub trait Spread: Send + Sync {
    /// Processes all pieces and returns their results in order.
    ///
    /// # Errors
    /// Fails if a piece panicked.
    fn each<P: Send, R: Send>(&self, pieces: Vec<P>, work: impl Fn(P) -> R + Send + Sync) -> Result<Vec<R>>;
}

/// Processes pieces sequentially on the calling thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct OneThread;

impl Spread for OneThread {
    fn each<P: Send, R: Send>(&self, pieces: Vec<P>, work: impl Fn(P) -> R + Send + Sync) -> Result<Vec<R>> {
        Ok(pieces.into_iter().map(work).collect())
    }
}
