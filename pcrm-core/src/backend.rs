//! A tensor library, opened on a device.

use std::sync::Arc;

use crate::collective::{Alone, Collective};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::params::{Gradients, Params, Ready};
use crate::tensor::Tensor;

/// The device and the number of threads of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The device.
    pub device: Device,
    /// The number of threads on the host; `None` for the library's default.
    pub threads: Option<usize>,
}

impl From<Device> for Place {
    fn from(device: Device) -> Self {
        Self { device, threads: None }
    }
}

/// A backend and where to run it, opened when it is needed.
#[derive(Debug, Clone, Copy)]
pub struct Engine {
    /// Opens the backend.
    pub open: fn(Place) -> Result<Box<dyn Backend>>,
    /// The device and the number of threads to open it with.
    pub place: Place,
    /// The element type to compute in.
    pub dtype: DType,
}

impl Engine {
    /// Opens the backend.
    ///
    /// # Errors
    /// Fails with the backend's error.
    pub fn open(&self) -> Result<Box<dyn Backend>> {
        (self.open)(self.place)
    }
}

/// A tensor library, opened on a device. It creates tensors, which then carry their backend with them.
pub trait Backend: Send {
    /// Returns the registered name of the backend.
    fn name(&self) -> &'static str;

    /// Returns the device of the backend.
    fn device(&self) -> Device;

    /// Returns the element types it can compute in on this device, the best first.
    fn dtypes(&self) -> &'static [DType];

    /// Copies `host` to the device with elements of type `dtype`, without history.
    ///
    /// # Errors
    /// Fails if the device does not support the type or has no memory left.
    fn upload(&self, host: &HostTensor, dtype: DType) -> Result<Tensor>;

    /// Computes d loss / d parameter for every trained parameter; the loss has one element. Consumes the
    /// history.
    ///
    /// # Errors
    /// Fails as [`Backend::backward_from`] does.
    fn backward(&self, loss: &Tensor, params: &Params) -> Result<Gradients> {
        if loss.size() != 1 {
            return Err(Error::shape("backward", "the loss must have one element", &[&loss.shape()]));
        }
        let one = loss.constant(&HostTensor::f32(loss.shape(), vec![1.0])?)?;
        self.backward_from(&[(loss, &one)], params)
    }

    /// Computes d Σ outputs·gradients / d parameter for every trained parameter, for losses computed on the
    /// host: each output comes with d loss / d output, of the same shape. Consumes the history.
    ///
    /// # Errors
    /// Fails if no gradient reaches a trained parameter ([`Error::MissingGradient`]), which means that the
    /// graph is cut, if shapes differ, and if an earlier backward pass consumed the history.
    fn backward_from(&self, outputs: &[(&Tensor, &Tensor)], params: &Params) -> Result<Gradients> {
        let mut gradients = Gradients::default();
        self.backward_each(outputs, params, &mut |name, gradient| {
            gradients.insert(name, gradient);
            Ok(())
        })?;
        Ok(gradients)
    }

    /// Computes the gradients of [`Backend::backward_from`], and calls `ready` with each as soon as it is
    /// complete, while the pass continues.
    ///
    /// # Errors
    /// Fails as [`Backend::backward_from`] does, and with the error of `ready`.
    fn backward_each(&self, outputs: &[(&Tensor, &Tensor)], params: &Params, ready: Ready<'_>) -> Result<()> {
        let (names, leaves): (Vec<&str>, Vec<&Tensor>) = params.iter_trained().unzip();
        let mut arrived = vec![false; names.len()];
        Tensor::pull_each(outputs, &leaves, &mut |leaf, gradient| {
            arrived[leaf] = true;
            // Gradients of batch parts are accumulated in f32, regardless of the parameter's type.
            ready(names[leaf], gradient.cast(DType::F32)?)
        })?;
        let missing = names.into_iter().zip(arrived).filter(|(_, arrived)| !arrived);
        let names: Vec<String> = missing.map(|(name, _)| name.to_owned()).collect();
        if names.is_empty() { Ok(()) } else { Err(Error::MissingGradient { names }) }
    }

    /// Returns the processes that train together, including this one. By default there are no others.
    fn collective(&self) -> Arc<dyn Collective> {
        Arc::new(Alone)
    }

    /// Returns the bytes in use on the device, by all programs, including memory that a library keeps for
    /// reuse. `None` if the device does not report them, as a CPU does not.
    fn memory_in_use(&self) -> Option<u64> {
        None
    }

    /// Waits until all requested computations are done.
    ///
    /// # Errors
    /// Fails with the error of a pending computation.
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}
