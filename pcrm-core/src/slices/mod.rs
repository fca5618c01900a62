//! Kernels on f32 slices of the host's memory, which backends call where a tensor lies on a CPU.
//!
//! Both backends attend by the same code here, in training and in generation, so that the tokens that a model samples
//! have the log-probabilities that training gives them, to the bit. A row gets the same bits whatever rows are beside
//! it: sums run over a fixed number of lanes, over whole tiles of keys, and in an order that its position fixes.

pub mod attention;
mod cache;
pub mod lanes;
pub mod product;
pub mod sampling;

pub use self::cache::HostCache;
use crate::error::Result;

/// Runs independent pieces of work on the threads of a backend.
pub trait Spread: Send + Sync {
    /// Does all pieces and returns their results in order.
    ///
    /// # Errors
    /// A piece that panicked.
    fn each<P: Send, R: Send>(&self, pieces: Vec<P>, work: impl Fn(P) -> R + Send + Sync) -> Result<Vec<R>>;
}

/// Runs pieces one after the other on the calling thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct OneThread;

impl Spread for OneThread {
    fn each<P: Send, R: Send>(&self, pieces: Vec<P>, work: impl Fn(P) -> R + Send + Sync) -> Result<Vec<R>> {
        Ok(pieces.into_iter().map(work).collect())
    }
}
