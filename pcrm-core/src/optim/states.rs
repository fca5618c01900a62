//! The states of an optimiser by name, as stored in checkpoints.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::held::Held;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::tensor::Tensor;

/// The name of the rounding error of a bf16 weight.
const REST: &str = "rest";

/// Stored states of an optimiser, by name: in memory, or in a file that is read a tensor at a time.
pub trait StoredStates {
    /// Returns the state of this name, or `None` if there is none.
    ///
    /// # Errors
    /// Fails if it cannot be read.
    fn state(&self, name: &str) -> Result<Option<Cow<'_, HostTensor>>>;
}

impl StoredStates for BTreeMap<String, HostTensor> {
    fn state(&self, name: &str) -> Result<Option<Cow<'_, HostTensor>>> {
        Ok(self.get(name).map(Cow::Borrowed))
    }
}

/// States, named `PART.PARAMETER`.
#[derive(Debug, Default)]
pub(super) struct States(pub BTreeMap<String, HostTensor>);

impl States {
    pub fn add(&mut self, part: &str, name: &str, host: HostTensor) {
        self.0.insert(format!("{part}.{name}"), host);
    }

    /// Adds the rounding error of a weight, if there is one.
    pub fn add_rest(&mut self, name: &str, held: &Held) -> Result<()> {
        if let Some(rest) = held.rest() {
            self.add(REST, name, rest.read()?);
        }
        Ok(())
    }
}

/// Returns a state.
///
/// # Errors
/// Fails if the state is missing or has another shape or type, as with a state of another optimiser.
pub(super) fn stored<'a>(
    states: &'a dyn StoredStates,
    part: &str,
    name: &str,
    shape: &[usize],
    dtype: DType,
) -> Result<Cow<'a, HostTensor>> {
    let key = format!("{part}.{name}");
    match states.state(&key)? {
        None => Err(Error::invalid(key, "is missing from the optimiser's state")),
        Some(host) if host.shape() != shape => {
            Err(Error::invalid(key, format!("has shape {:?}, expected {shape:?}", host.shape())))
        }
        // bf16 files are read as f32, without loss.
        Some(host) if (host.dtype() == DType::U32) != (dtype == DType::U32) => {
            Err(Error::invalid(key, format!("is {}, expected {dtype}", host.dtype())))
        }
        Some(host) => Ok(host),
    }
}

/// Copies a state into a tensor.
///
/// # Errors
/// Fails as [`stored`] does.
pub(super) fn put(states: &dyn StoredStates, part: &str, name: &str, tensor: &Tensor) -> Result<()> {
    let host = stored(states, part, name, &tensor.shape(), tensor.dtype())?;
    tensor.assign(&tensor.constant(&host)?.cast(tensor.dtype())?)
}

/// Restores the rounding error of a weight.
///
/// # Errors
/// Fails as [`stored`] does.
pub(super) fn put_rest(states: &dyn StoredStates, name: &str, held: &Held) -> Result<()> {
    held.rest().map_or(Ok(()), |rest| put(states, REST, name, rest))
}
