//! The processes of one run, and exchanges of tensors and bytes between all of them.
//!
//! Every process calls the same operations in the same order, and each operation returns when its result is
//! complete, except those that are started and waited for later ([`Exchange`]). If another process is gone, the
//! operation fails, and the error names the process if it is known.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Backend;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::host::HostTensor;
use crate::tensor::Tensor;

/// An exchange in progress. If dropped, it still completes, and its result is lost.
pub trait Exchange: Debug + Send {
    /// Waits until the exchange is complete and returns its result.
    ///
    /// # Errors
    /// Fails if a rank is gone or does not join within the timeout.
    fn wait(self: Box<Self>) -> Result<Tensor>;
}

/// An exchange that was complete when it was started.
#[derive(Debug)]
struct Complete(Tensor);

impl Exchange for Complete {
    fn wait(self: Box<Self>) -> Result<Tensor> {
        Ok(self.0)
    }
}

/// The processes of a run, as seen by one of them.
pub trait Collective: Debug + Send + Sync {
    /// Returns the number of this process, from 0.
    fn rank(&self) -> usize;

    /// Returns the number of processes.
    fn world(&self) -> usize;

    /// Sends the `r`th of `world` equal parts of the first dimension to rank `r`. Returns the parts that all
    /// ranks sent to this one, in rank order, in f32 and in the shape of the input.
    ///
    /// # Errors
    /// Fails if a rank is gone or does not join within the timeout.
    fn all_to_all(&self, parts: &Tensor) -> Result<Tensor>;

    /// Starts [`Collective::all_to_all`] and returns at once. Every process starts and calls all operations in
    /// the same order, and may wait for those it started in any order. The default implementation completes the
    /// exchange before it returns.
    ///
    /// # Errors
    /// Fails as [`Collective::all_to_all`] does.
    fn start_all_to_all(&self, parts: &Tensor) -> Result<Box<dyn Exchange>> {
        Ok(Box::new(Complete(self.all_to_all(parts)?)))
    }

    /// Returns the tensors of all ranks, concatenated along the first dimension: f32, of equal shapes.
    ///
    /// # Errors
    /// Fails as [`Collective::all_to_all`] does.
    fn all_gather(&self, own: &Tensor) -> Result<Tensor>;

    /// Returns the bytes of all ranks in rank order; their lengths may differ.
    ///
    /// # Errors
    /// Fails as [`Collective::all_to_all`] does.
    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Leaves the group. Later operations of other processes fail, and their error contains the reason.
    fn leave(&self, reason: &str);

    /// Returns the number of tensor bytes that this process has sent to others so far.
    fn sent(&self) -> u64;

    /// Returns true for rank 0, which writes files and prints.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Waits until every rank has reached this call.
    ///
    /// # Errors
    /// Fails as [`Collective::all_to_all`] does.
    fn barrier(&self) -> Result<()> {
        self.gather(&[]).map(drop)
    }

    /// Returns true on every rank if the value is true on any of them.
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

/// The environment variable that hands a listening socket, bound to the store's port, to the process that
/// serves the store. Its value is the number of the socket's descriptor. If it is unset, that process opens its
/// own socket.
pub const STORE_SOCKET: &str = "PCRM_STORE_SOCKET";

/// The rendezvous of a run's processes: a key-value store, and the rank of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// The host of the key-value store.
    pub host: String,
    /// The port of the store.
    pub port: u16,
    /// True if this process serves the store; false if it is a client.
    pub serves: bool,
    /// The prefix of all keys; it differs for every run and restart that share a store.
    pub prefix: String,
    /// The number of this process.
    pub rank: usize,
    /// The number of processes.
    pub world: usize,
    /// The longest time that an operation waits for the other processes.
    pub timeout: Duration,
}

/// The backend of one process of a group, with the group.
#[derive(Debug)]
pub struct Joined<B: ?Sized> {
    /// The processes.
    pub collective: Arc<dyn Collective>,
    /// The backend of this process.
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

    fn memory_in_use(&self) -> Option<u64> {
        self.backend.memory_in_use()
    }

    fn synchronize(&self) -> Result<()> {
        self.backend.synchronize()
    }

    fn collective(&self) -> Arc<dyn Collective> {
        Arc::clone(&self.collective)
    }
}
