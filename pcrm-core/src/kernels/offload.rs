//! Vectors in host memory that pass through a device part by part.

use std::fmt::Debug;

use crate::dtype::DType;
use crate::error::Result;
use crate::host::HostTensor;
use crate::tensor::Tensor;

/// The vectors of one part: their types and lengths. All parts have vectors of the same types.
pub type Vectors = Vec<(DType, usize)>;

/// Takes the number of a part and its vectors on the device, and may change these in place. The tensors hold
/// the part only during the call.
pub type Visit<'a> = &'a mut dyn FnMut(usize, &[Tensor]) -> Result<()>;

/// Vectors in host memory, f32 or u8, which are on the device only while they are used.
pub trait Offloaded: Debug + Send {
    /// Brings every part to the device, in order, and keeps the changes that `visit` makes. An implementation
    /// copies the next part in and the previous one out while the device computes with the current one.
    ///
    /// # Errors
    /// Fails if the backend fails, and with the error of `visit`.
    fn each(&mut self, visit: Visit<'_>) -> Result<()>;

    /// Returns a vector of a part.
    ///
    /// # Errors
    /// Fails if there is no such vector.
    fn read(&self, part: usize, vector: usize) -> Result<HostTensor>;

    /// Overwrites a vector of a part.
    ///
    /// # Errors
    /// Fails if there is no such vector, or if it has another type or length.
    fn write(&mut self, part: usize, vector: usize, host: HostTensor) -> Result<()>;
}
