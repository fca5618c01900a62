//! The processes of one run: exchanges of tensors and of bytes that all of them take part in.
//!
//! Every process calls the same operations in the same order, and each operation ends when its result is complete. An
//! operation whose other side is gone is an error that names the process, as far as it is known.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::host::HostTensor;
use crate::tensor::Tensor;

/// The processes of a run, as one of them sees them.
pub trait Collective: Debug + Send + Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// The number of processes.
    fn world(&self) -> usize;

    /// Sends the `r`th of `world` equal parts of the first dimension to rank `r`, and returns what all ranks sent to this
    /// one, in the order of ranks: f32, of the shape that was sent.
    ///
    /// # Errors
    /// Fails if a rank is gone or does not come within the timeout.
    fn all_to_all(&self, parts: &Tensor) -> Result<Tensor>;

    /// Returns the tensors of all ranks, one after the other along the first dimension: f32, of equal shapes.
    ///
    /// # Errors
    /// Fails as [`Collective::all_to_all`] does.
    fn all_gather(&self, own: &Tensor) -> Result<Tensor>;

    /// Returns the bytes of all ranks, of any lengths, in the order of ranks.
    ///
    /// # Errors
    /// Fails as [`Collective::all_to_all`] does.
    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Ends this process's part. Operations that others make after this fail, with the reason in their message.
    fn leave(&self, reason: &str);

    /// Bytes of tensors that this process has sent to others so far.
    fn sent(&self) -> u64;

    /// Returns true for rank 0, which writes files and prints.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Waits until every rank has come here.
    ///
    /// # Errors
    /// Fails as [`Collective::all_to_all`] does.
    fn barrier(&self) -> Result<()> {
        self.gather(&[]).map(drop)
    }

    /// Returns true on every rank if any of them says so.
    ///
    /// # Errors
    /// Fails as [`Collective::all_to_all`] does.
    fn any(&self, own: bool) -> Result<bool> {
        Ok(self.gather(&[u8::from(own)])?.iter().any(|of| of.first() == Some(&1)))
    }
}

/// A process that runs alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn all_to_all(&self, parts: &Tensor) -> Result<Tensor> {
        Ok(parts.clone())
    }

    fn all_gather(&self, own: &Tensor) -> Result<Tensor> {
        Ok(own.clone())
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![own.to_vec()])
    }

    fn leave(&self, _reason: &str) {}

    fn sent(&self) -> u64 {
        0
    }
}

/// The place where the processes of a run find each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// The host of the store of keys.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// True if this process serves the store; false if it is a client of it.
    pub serves: bool,
    /// Comes before all keys: another one for every run and every restart that share a store.
    pub prefix: String,
    /// The number of this process.
    pub rank: usize,
    /// The number of processes.
    pub world: usize,
    /// The longest time that an operation waits for the others.
    pub timeout: Duration,
}

/// A backend whose process is one of several.
#[derive(Debug)]
pub struct Joined<B: ?Sized> {
    /// The processes.
    pub collective: Arc<dyn Collective>,
    /// The backend of this one.
    pub backend: Box<B>,
}

impl Backend for Joined<dyn Backend> {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn device(&self) -> Device {
        self.backend.device()
    }

    fn dtypes(&self) -> &'static [DType] {
        self.backend.dtypes()
    }

    fn upload(&self, host: &HostTensor, dtype: DType) -> Result<Tensor> {
        self.backend.upload(host, dtype)
    }

    fn synchronize(&self) -> Result<()> {
        self.backend.synchronize()
    }

    fn collective(&self) -> Arc<dyn Collective> {
        Arc::clone(&self.collective)
    }
}
