//! A tensor library, opened on a device.

use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::host::HostTensor;
use crate::params::{Gradients, Params};
use crate::tensor::Tensor;

/// Where a backend computes, and with how many threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The device.
    pub device: Device,
    /// Threads on the host; `None`: as many as the library thinks fit.
    pub threads: Option<usize>,
}

impl From<Device> for Place {
    fn from(device: Device) -> Self {
        Self { device, threads: None }
    }
}

/// A backend that may be opened: for what needs one later, or only perhaps.
#[derive(Debug, Clone, Copy)]
pub struct Engine {
    /// How it is opened.
    pub open: fn(Place) -> Result<Box<dyn Backend>>,
    /// Where it computes.
    pub place: Place,
    /// The element type to compute in.
    pub dtype: DType,
}

impl Engine {
    /// Opens it.
    ///
    /// # Errors
    /// The backend's.
    pub fn open(&self) -> Result<Box<dyn Backend>> {
        (self.open)(self.place)
    }
}

/// A tensor library, opened on a device. Tensors are made here and then carry their backend with them.
pub trait Backend: Send {
    /// The name it is registered under.
    fn name(&self) -> &'static str;

    /// The device it was opened on.
    fn device(&self) -> Device;

    /// The element types it computes in on this device, the best first.
    fn dtypes(&self) -> &'static [DType];

    /// A tensor with these elements in this type, without history.
    ///
    /// # Errors
    /// A type the device does not serve, no memory.
    fn upload(&self, host: &HostTensor, dtype: DType) -> Result<Tensor>;

    /// Computes d loss / d parameter for every trained parameter; the loss has one element. Consumes the history.
    ///
    /// # Errors
    /// A trained parameter that no gradient reaches ([`crate::Error::MissingGradient`]): the graph is cut.
    fn backward(&self, loss: &Tensor, params: &Params) -> Result<Gradients>;

    /// Waits until everything asked for is computed.
    ///
    /// # Errors
    /// What failed meanwhile.
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}
