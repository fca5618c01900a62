//! Loading of an encoder's weights, from file names to layers.

use std::path::Path;

use super::{Bert, BertConfig, Layer};
use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::model::checkpoint::Checkpoint;
use crate::model::layers::{Embedding, Linear, Norm, Weight};

/// Loads the weights of a folder.
///
/// # Errors
/// Fails if a file is missing or broken, and if a weight is missing or has another shape.
pub(super) fn load(backend: &dyn Backend, config: BertConfig, dir: &Path, compute: DType) -> Result<Bert> {
    let stored = Stored { checkpoint: Checkpoint::open(dir)?, prefix: config.family.prefix };
    let up = Upload { stored, backend, compute, norm_eps: config.norm_eps };
    let family = config.family;
    let width = config.width;
    let mut positions =
        up.stored.take("embeddings.position_embeddings.weight", &[config.position_rows(), width])?;
    if let Some(name) = family.token_types {
        let types = up.stored.take(&format!("{name}.weight"), &[config.token_types, width])?;
        let first = &types[..width];
        positions.iter_mut().zip(first.iter().cycle()).for_each(|(position, first)| *position += first);
    }
    let mut layers = Vec::with_capacity(config.layers);
    for layer in 0..config.layers {
        let at = |name: &str| format!("{}{layer}.{name}", family.layers);
        layers.push(Layer {
            qkv: up.linear(&family.qkv.map(at), [width, width])?,
            output: up.linear(&[at(family.output)], [width, width])?,
            attention_norm: up.norm(&at(family.attention_norm), width)?,
            up: up.linear(&[at(family.up)], [config.ffn, width])?,
            down: up.linear(&[at(family.down)], [width, config.ffn])?,
            norm: up.norm(&at(family.norm), width)?,
        });
    }
    let words = up.stored.take("embeddings.word_embeddings.weight", &[config.vocabulary, width])?;
    Ok(Bert {
        words: up.embedding("embeddings.word_embeddings", [config.vocabulary, width], words)?,
        positions: up.embedding(
            "embeddings.position_embeddings",
            [config.position_rows(), width],
            positions,
        )?,
        norm: up.norm("embeddings.LayerNorm", width)?,
        layers,
        config,
    })
}

/// The tensors of a folder.
struct Stored {
    checkpoint: Checkpoint,
    prefix: &'static str,
}

impl Stored {
    /// Reads the weight of this name, with or without the family's prefix.
    fn take(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let refuse = |message: String| Err(Error::file(self.checkpoint.dir(), format!("{name} {message}")));
        let long = format!("{}{name}", self.prefix);
        let stored = if self.checkpoint.contains(name) { name } else { long.as_str() };
        match self.checkpoint.shape(stored) {
            Some(found) if found == shape => Ok(self.checkpoint.read(stored)?.into_f32()),
            Some(found) => refuse(format!("has shape {found:?}, expected {shape:?}")),
            None => refuse("is missing from the weights".to_owned()),
        }
    }
}

/// The upload of weights to the device.
struct Upload<'a> {
    stored: Stored,
    backend: &'a dyn Backend,
    compute: DType,
    norm_eps: f64,
}

impl Upload<'_> {
    fn upload(&self, name: &str, shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Result<Weight> {
        Ok(Weight::new(name, self.backend.upload(&HostTensor::f32(shape, values)?, self.compute)?))
    }

    fn embedding(&self, name: &str, shape: [usize; 2], values: Vec<f32>) -> Result<Embedding> {
        Ok(Embedding::new(self.upload(&format!("{name}.weight"), shape, values)?))
    }

    /// Loads linear layers with the same input as one, with their outputs concatenated.
    fn linear(&self, names: &[String], [out, width]: [usize; 2]) -> Result<Linear> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            weight.extend(self.stored.take(&format!("{name}.weight"), &[out, width])?);
            bias.extend(self.stored.take(&format!("{name}.bias"), &[out])?);
        }
        let out = out * names.len();
        let name = names.join("+");
        let bias = self.upload(&format!("{name}.bias"), [out], bias)?;
        Ok(Linear::new(self.upload(&format!("{name}.weight"), [out, width], weight)?, Some(bias)))
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm> {
        // Checkpoints converted from TensorFlow use the older names.
        let part = |part: &str, older: &str| -> Result<_> {
            let values = self
                .stored
                .take(&format!("{name}.{part}"), &[width])
                .or_else(|error| self.stored.take(&format!("{name}.{older}"), &[width]).map_err(|_| error))?;
            self.upload(&format!("{name}.{part}"), [width], values)
        };
        Ok(Norm::layer(part("weight", "gamma")?, part("bias", "beta")?, self.norm_eps))
    }
}
