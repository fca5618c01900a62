//! A tensor library, opened on a device.

use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
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
    /// As [`Backend::backward_from`].
    fn backward(&self, loss: &Tensor, params: &Params) -> Result<Gradients> {
        if loss.size() != 1 {
            return Err(Error::shape("backward", "the loss must have one element", &[&loss.shape()]));
        }
        let one = loss.constant(&HostTensor::f32(loss.shape(), vec![1.0])?)?;
        self.backward_from(&[(loss, &one)], params)
    }

    /// Computes d Σ outputs·gradients / d parameter for every trained parameter. Each output comes with its gradient, of
    /// one shape: d loss / d output, where the loss was computed on the host. Consumes the history.
    ///
    /// # Errors
    /// A trained parameter that no gradient reaches ([`Error::MissingGradient`]): the graph is cut. Shapes that differ; a
    /// history that an earlier backward pass consumed.
    fn backward_from(&self, outputs: &[(&Tensor, &Tensor)], params: &Params) -> Result<Gradients> {
        let leaves: Vec<&Tensor> = params.iter_trained().map(|(_, param)| param).collect();
        let mut gradients = Gradients::default();
        let mut missing = Vec::new();
        for ((name, _), gradient) in params.iter_trained().zip(Tensor::pull(outputs, &leaves)?) {
            match gradient {
                Some(gradient) => gradients.insert(name, gradient),
                None => missing.push(name.to_owned()),
            }
        }
        match missing.is_empty() {
            true => Ok(gradients),
            false => Err(Error::MissingGradient { names: missing }),
        }
    }

    /// Waits until everything asked for is computed.
    ///
    /// # Errors
    /// What failed meanwhile.
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}
