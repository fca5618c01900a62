//! Loads an encoder's weights by their names in the file.

use std::path::Path;

use super::{Bert, BertConfig, Layer};
use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::Result;
use crate::model::encoders::EncoderWeights;

/// Opens the weights of a folder.
///
/// # Errors
/// Fails if a file is missing or malformed.
pub(super) fn open<'a>(
    backend: &'a dyn Backend,
    config: &BertConfig,
    dir: &Path,
    compute: DType,
) -> Result<EncoderWeights<'a>> {
    EncoderWeights::open(backend, dir, config.family.prefix, compute, config.norm_eps)
}

/// Reads the body.
///
/// # Errors
/// Fails if a weight is missing or has another shape.
pub(super) fn body(config: BertConfig, weights: &EncoderWeights<'_>) -> Result<Bert> {
    let family = config.family;
    let width = config.width;
    let rows = config.position_rows();
    let positions = weights.take("embeddings.position_embeddings.weight", &[rows, width])?;
    // One table for each token type, with the sums of the embeddings of position and type.
    let mut summed = Vec::with_capacity(config.types() * positions.len());
    match family.token_types {
        None => summed.extend(&positions),
        Some(name) => {
            let types = weights.take(&format!("{name}.weight"), &[config.token_types, width])?;
            for kind in types.chunks_exact(width).take(config.types()) {
                summed.extend(
                    positions.iter().zip(kind.iter().cycle()).map(|(position, kind)| position + kind),
                );
            }
        }
    }
    let mut layers = Vec::with_capacity(config.layers);
    for layer in 0..config.layers {
        let at = |name: &str| format!("{}{layer}.{name}", family.layers);
        layers.push(Layer {
            qkv: weights.linear(&family.qkv.map(at), [width, width], true)?,
            output: weights.linear(&[at(family.output)], [width, width], true)?,
            attention_norm: weights.norm(&at(family.attention_norm), width, true)?,
            up: weights.linear(&[at(family.up)], [config.ffn, width], true)?,
            down: weights.linear(&[at(family.down)], [width, config.ffn], true)?,
            norm: weights.norm(&at(family.norm), width, true)?,
        });
    }
    Ok(Bert {
        words: weights.embedding("embeddings.word_embeddings", [config.vocabulary, width])?,
        positions: weights.table("embeddings.position_embeddings", [config.types() * rows, width], summed)?,
        norm: weights.norm("embeddings.LayerNorm", width, true)?,
        layers,
        config,
    })
}
