//! Encoders of the BERT family (Devlin et al., arXiv 1810.04805), over packed texts without padding.
//!
//! A batch is a flat tree with one segment per text; every row sees all rows of its text. A layer is x ←
//! norm(x + attention(x)), x ← norm(x + W₂·gelu(W₁·x)), where norms are layer norms with biases.

mod config;
mod families;
mod loading;

use std::path::Path;

pub use config::BertConfig;

use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernels::{Attention, Mask, PlannedTree};
use crate::model::encoders::EncoderWeights;
use crate::model::layers::{Embedding, Linear, Norm};
use crate::model::lora::Noise;
use crate::model::{Rows, notes, select};
use crate::tensor::{Tensor, Unary};
use crate::tree::Packed;

/// A frozen encoder, with weights in the type it computes in.
#[derive(Debug, Clone)]
pub struct Bert {
    config: BertConfig,
    words: Embedding,
    /// The learned position embeddings with the token-type embedding added: one table of positions per type.
    positions: Embedding,
    norm: Norm,
    layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
struct Layer {
    /// Queries, keys and values as one matrix, `[3·width, width]`.
    qkv: Linear,
    output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

impl Bert {
    /// Loads the encoder of a Hugging Face folder, which computes in `compute`. Heads in the checkpoint (a
    /// pooler, one for masked words) are ignored.
    ///
    /// # Errors
    /// Fails if a file is missing or broken, if the model is not supported (the error lists the supported
    /// ones), and if a weight is missing or has another shape.
    pub fn load(backend: &dyn Backend, dir: &Path, compute: DType) -> Result<Self> {
        let config = BertConfig::from_dir(dir)?;
        notes::unknown_keys(&config.unknown_keys, config.model_type());
        let weights = loading::open(backend, &config, dir, compute)?;
        loading::body(config, &weights)
    }

    /// Opens the weights of a folder for [`Bert::body`].
    pub(super) fn open<'a>(
        backend: &'a dyn Backend,
        config: &BertConfig,
        dir: &Path,
        compute: DType,
    ) -> Result<EncoderWeights<'a>> {
        loading::open(backend, config, dir, compute)
    }

    /// Reads the body from open weights.
    pub(super) fn body(config: BertConfig, weights: &EncoderWeights<'_>) -> Result<Self> {
        loading::body(config, weights)
    }

    /// Returns the configuration of the encoder.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Computes the hidden states after the last layer, `[wanted rows, width]`.
    ///
    /// # Errors
    /// Fails if token ids are outside the vocabulary or texts are too long, and with the backend's errors.
    pub fn forward(&self, batch: &Packed, rows: Rows<'_>) -> Result<Tensor> {
        let mut x = self.embed(batch)?;
        let tree = PlannedTree::new(batch.tree.clone());
        for (at, layer) in self.layers.iter().enumerate() {
            let rows = if at + 1 == self.layers.len() { rows } else { Rows::All };
            x = self.layer(layer, &x, &tree, rows)?;
        }
        Ok(x)
    }

    /// Returns the sums of the embeddings of ids, positions and types; a token is encoded as type ·
    /// vocabulary + id.
    fn embed(&self, batch: &Packed) -> Result<Tensor> {
        let BertConfig { vocabulary, max_positions, .. } = self.config;
        let inputs = vocabulary * self.config.types();
        if let Some(id) = batch.ids.iter().find(|id| **id as usize >= inputs) {
            let message = format!("{id} is outside the encoder's vocabulary of {vocabulary}");
            return Err(Error::invalid("token id", message));
        }
        let longest = batch.tree.segments().iter().map(|segment| segment.rows.len()).max().unwrap_or(0);
        if longest > max_positions {
            let message = format!("{longest} tokens, expected at most {max_positions}");
            return Err(Error::invalid("text", message));
        }
        let (vocabulary, table) = (vocabulary as u32, self.config.position_rows() as u32);
        let mut positions = Vec::with_capacity(batch.ids.len());
        for segment in batch.tree.segments() {
            let mut next = self.config.first_position;
            for id in &batch.ids[segment.rows.clone()] {
                // In families that count positions from the padding id, the padding token itself takes no
                // position.
                let is_padding =
                    self.config.first_position > 0 && id % vocabulary + 1 == self.config.first_position;
                let position = if is_padding { self.config.first_position - 1 } else { next };
                next += u32::from(!is_padding);
                positions.push(id / vocabulary * table + position);
            }
        }
        let words = self.words.forward(batch.ids.iter().map(|id| id % vocabulary).collect())?;
        self.norm.forward(&words.add(&self.positions.forward(positions)?)?)
    }

    /// Computes one layer; x `[rows, width]` → `[wanted rows, width]`.
    fn layer(&self, layer: &Layer, x: &Tensor, tree: &PlannedTree, rows: Rows<'_>) -> Result<Tensor> {
        let BertConfig { width, heads, activation, .. } = self.config;
        let dim = width / heads;
        let all = layer.qkv.forward(x, Noise::NONE)?.reshape([tree.rows(), 3 * heads, dim])?;
        let part = |at: usize| all.narrow(1, at * heads, heads);
        let qkv = [select(&part(0)?, rows)?, part(1)?, part(2)?]; // [rows, heads, dim]
        let queries = match rows {
            Rows::All => None,
            Rows::Only(rows) => Some(rows),
        };
        let how = Attention { scale: 1.0 / (dim as f64).sqrt(), cap: None, mask: Mask::Full, queries };
        let attended = x.kernels().attention(qkv.each_ref(), tree, &how)?;
        let attended = layer.output.forward(&attended.reshape([attended.shape()[0], width])?, Noise::NONE)?;
        let x = layer.attention_norm.forward(&attended.add(&select(x, rows)?)?)?;
        let up = layer.up.forward(&x, Noise::NONE)?;
        let up = match activation {
            op @ (Unary::Gelu | Unary::GeluTanh) => up.kernels().gelu(&up, op)?,
            other => up.unary(other)?,
        };
        layer.norm.forward(&layer.down.forward(&up, Noise::NONE)?.add(&x)?)
    }
}
