//! The states of an optimiser by name, as stored in checkpoints.

use std::collections::BTreeMap;

use super::held::Held;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::tensor::Tensor;

/// The name of the rounding error of a bf16 weight.
const REST: &str = "rest";

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
    states: &'a BTreeMap<String, HostTensor>,
    part: &str,
    name: &str,
    shape: &[usize],
    dtype: DType,
) -> Result<&'a HostTensor> {
    let key = format!("{part}.{name}");
    match states.get(&key) {
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
pub(super) fn put(
    states: &BTreeMap<String, HostTensor>,
    part: &str,
    name: &str,
    tensor: &Tensor,
) -> Result<()> {
    let host = stored(states, part, name, &tensor.shape(), tensor.dtype())?;
    tensor.assign(&tensor.constant(host)?.cast(tensor.dtype())?)
}

/// Restores the rounding error of a weight.
///
/// # Errors
/// Fails as [`stored`] does.
pub(super) fn put_rest(states: &BTreeMap<String, HostTensor>, name: &str, held: &Held) -> Result<()> {
    held.rest().map_or(Ok(()), |rest| put(states, REST, name, rest))
}
