//! The tensors of an adapter's file, by the parameters that they belong to.

use std::collections::BTreeMap;

use half::{bf16, f16};

use super::naming::AdapterLayout;
use super::tying;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::model::checkpoint::Checkpoint;
use crate::model::decoder::Decoder;

/// The tensors of a file, by the names of parameters.
#[derive(Debug, Default)]
pub(super) struct Tensors {
    /// The adapter's tensors, and base weights that PEFT may store with them.
    pub own: BTreeMap<String, HostTensor>,
    /// The weights under the adapters, which belong to the base.
    beneath: BTreeMap<String, HostTensor>,
}

impl Tensors {
    /// Reads a file.
    ///
    /// # Errors
    /// Fails if it is broken or holds other elements than floats.
    pub fn read(checkpoint: &Checkpoint, layout: &AdapterLayout<'_>) -> Result<Self> {
        let mut tensors = Self::default();
        for name in checkpoint.names() {
            let (own, is_beneath) = layout.own(name);
            let part = if is_beneath { &mut tensors.beneath } else { &mut tensors.own };
            part.insert(own, checkpoint.read(name)?);
        }
        Ok(tensors)
    }

    /// Drops language-model heads that PEFT stores in addition to the embedding they are tied to.
    ///
    /// # Errors
    /// Fails if the two differ.
    pub fn tie(&mut self, layout: &AdapterLayout<'_>) -> Result<()> {
        tying::as_one(&mut self.own, layout)?;
        tying::as_one(&mut self.beneath, layout)
    }

    /// Checks that the tensors that no adapter took equal those of the base, because PEFT would use the file's
    /// values. Returns their names.
    ///
    /// # Errors
    /// Fails if one has other values or another shape, and if the base has no such weight.
    pub fn check_rest(&self, base: &Decoder, config: &str) -> Result<Vec<&str>> {
        let mut names = Vec::new();
        for (name, host) in self.own.iter().chain(&self.beneath) {
            let Some(own) = base.params().find(name) else {
                return Err(Error::invalid(
                    name,
                    format!("does not belong to an adapter described by {config}"),
                ));
            };
            if own.shape() != host.shape() {
                let message = format!("has shape {:?}, the base model's has {:?}", host.shape(), own.shape());
                return Err(Error::invalid(name, message));
            }
            let stored = own.constant(host)?.cast(own.dtype())?.read()?.into_f32();
            if !is_rounded(&stored, &own.read()?.into_f32()) {
                let message = format!(
                    "has other values than the base model's, and is not described by {config}; expected equal \
                     ones: merge the adapter in Python with peft's merge_and_unload"
                );
                return Err(Error::invalid(name, message));
            }
            names.push(name.as_str());
        }
        Ok(names)
    }
}

/// Returns true if values equal the base's, perhaps rounded to a type that the adapter was trained in.
fn is_rounded(stored: &[f32], base: &[f32]) -> bool {
    let types: [fn(f32) -> f32; 3] =
        [|value| value, |value| bf16::from_f32(value).to_f32(), |value| f16::from_f32(value).to_f32()];
    let same = |round: fn(f32) -> f32| stored.iter().zip(base).all(|(stored, base)| *stored == round(*base));
    types.into_iter().any(same)
}
