//! DeBERTa v2 and v3 (He et al., arXiv 2006.03654 and 2111.09543): BERT's layers with disentangled attention.

use std::path::Path;

use serde_json::{Map, Value};

use super::check_tokens;
use super::disentangled::{Disentangled, Distances, Relative};
use super::head::{HeadShape, Pooling, activated};
use super::weights::EncoderWeights;
use crate::error::{Error, Result};
use crate::model::fields::Fields;
use crate::model::keys::FamilyKeys;
use crate::model::layers::{Embedding, Linear, Norm};
use crate::model::lora::Noise;
use crate::model::{Rows, select};
use crate::tensor::{Tensor, Unary};
use crate::tree::Packed;

/// The shape of a DeBERTa model.
#[derive(Debug, Clone)]
pub(super) struct DebertaConfig {
    pub vocabulary: usize,
    pub width: usize,
    /// The width of embeddings before the projection.
    embedding_width: usize,
    layers: usize,
    heads: usize,
    head_dim: usize,
    ffn: usize,
    pub max_positions: usize,
    /// True if absolute positions are embedded in addition to the relative ones.
    pub has_positions: bool,
    /// The number of token-type embeddings; 0 if there are none.
    pub token_types: usize,
    pub norm_eps: f64,
    activation: Unary,
    relative: Relative,
    pub head: HeadShape,
}

impl DebertaConfig {
    /// Reads a config; errors name `path`.
    pub fn from_json(raw: &Map<String, Value>, keys: FamilyKeys, path: &Path) -> Result<Self> {
        let full = keys.complete(raw, path)?;
        let fields = Fields::new(raw, &full, path, |key| keys.default(key));
        let (width, heads) = (fields.positive("hidden_size")?, fields.positive("num_attention_heads")?);
        if !width.is_multiple_of(heads) {
            return Err(fields.wrong("num_attention_heads", &format!("a divisor of {width}, the width")));
        }
        let otherwise = |key: &str, otherwise: usize| match fields.states(key) {
            true => fields.positive(key),
            false => Ok(otherwise),
        };
        let convolves =
            fields.states("conv_kernel_size") && fields.value("conv_kernel_size") != &Value::from(0);
        fields.refuse("conv_kernel_size", !convolves)?;
        if otherwise("pooler_hidden_size", width)? != width {
            return Err(fields.wrong("pooler_hidden_size", &format!("{width}, the width of the model")));
        }
        let max_positions = fields.positive("max_position_embeddings")?;
        let token_types = match fields.states("type_vocab_size") {
            true => fields.value("type_vocab_size").as_u64().filter(|types| *types < 1 << 16),
            false => Some(0),
        };
        Ok(Self {
            vocabulary: fields.positive("vocab_size")?,
            width,
            embedding_width: otherwise("embedding_size", width)?,
            layers: fields.layers("num_hidden_layers")?,
            heads,
            head_dim: otherwise("attention_head_size", width / heads)?,
            ffn: fields.positive("intermediate_size")?,
            max_positions,
            has_positions: fields.flag("position_biased_input")?,
            token_types: token_types.ok_or_else(|| fields.wrong("type_vocab_size", "a number of types"))?
                as usize,
            norm_eps: fields.number("layer_norm_eps")?,
            activation: fields.activation("hidden_act")?,
            relative: Relative::read(&fields, max_positions)?,
            head: HeadShape {
                pooling: Pooling::First,
                dense: "pooler.dense",
                has_bias: true,
                activation: fields.activation("pooler_hidden_act")?,
                norm: None,
                output: "classifier",
            },
        })
    }
}

/// The frozen body of a DeBERTa model.
#[derive(Debug, Clone)]
pub(super) struct Deberta {
    config: DebertaConfig,
    words: Embedding,
    positions: Option<Embedding>,
    types: Option<Embedding>,
    /// The projection from the width of embeddings to that of the model.
    projection: Option<Linear>,
    norm: Norm,
    layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
struct Layer {
    attention: Disentangled,
    output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

impl Deberta {
    /// Reads the body.
    ///
    /// # Errors
    /// Fails if a weight is missing or has another shape.
    pub fn read(config: DebertaConfig, weights: &EncoderWeights<'_>) -> Result<Self> {
        let (width, narrow, ffn) = (config.width, config.embedding_width, config.ffn);
        let table = |is: bool, name: &str, rows: usize| {
            is.then(|| weights.embedding(&format!("embeddings.{name}"), [rows, narrow])).transpose()
        };
        let all = config.heads * config.head_dim;
        let distances = config.relative.table(width, weights)?;
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            let at = |name: &str| format!("encoder.layer.{layer}.{name}");
            layers.push(Layer {
                attention: Disentangled::read(
                    &config.relative,
                    [config.heads, config.head_dim, width],
                    &at("attention.self"),
                    distances.as_ref(),
                    weights,
                )?,
                output: weights.linear(&[at("attention.output.dense")], [width, all], true)?,
                attention_norm: weights.norm(&at("attention.output.LayerNorm"), width, true)?,
                up: weights.linear(&[at("intermediate.dense")], [ffn, width], true)?,
                down: weights.linear(&[at("output.dense")], [width, ffn], true)?,
                norm: weights.norm(&at("output.LayerNorm"), width, true)?,
            });
        }
        let projection = (narrow != width)
            .then(|| weights.linear(&["embeddings.embed_proj".to_owned()], [width, narrow], false))
            .transpose()?;
        Ok(Self {
            words: weights.embedding("embeddings.word_embeddings", [config.vocabulary, narrow])?,
            positions: table(config.has_positions, "position_embeddings", config.max_positions)?,
            types: table(config.token_types > 0, "token_type_embeddings", config.token_types)?,
            projection,
            norm: weights.norm("embeddings.LayerNorm", width, true)?,
            layers,
            config,
        })
    }

    /// Returns the hidden states after the last layer, `[wanted rows, width]`.
    ///
    /// # Errors
    /// Fails if a token id is outside the vocabulary, if there are more tokens than learned positions, or if
    /// the backend fails.
    pub fn forward(&self, batch: &Packed, rows: Rows<'_>) -> Result<Tensor> {
        let mut x = self.embed(batch)?;
        let mut distances = Distances::new(&self.config.relative);
        for layer in &self.layers {
            let attended = layer.attention.forward(&x, &batch.tree, &mut distances)?;
            let attended = layer.output.forward(&attended, Noise::NONE)?;
            x = layer.attention_norm.forward(&attended.add(&x)?)?;
            let up = activated(&layer.up.forward(&x, Noise::NONE)?, self.config.activation)?;
            x = layer.norm.forward(&layer.down.forward(&up, Noise::NONE)?.add(&x)?)?;
        }
        select(&x, rows)
    }

    fn embed(&self, batch: &Packed) -> Result<Tensor> {
        let DebertaConfig { vocabulary, max_positions, token_types, .. } = self.config;
        check_tokens(batch, vocabulary * token_types.max(1))?;
        let vocabulary = vocabulary as u32;
        let mut x = self.words.forward(batch.ids.iter().map(|id| id % vocabulary).collect())?;
        if let Some(table) = &self.positions {
            let positions = batch.tree.positions();
            if let Some(last) = positions.iter().max().filter(|last| **last as usize >= max_positions) {
                let message = format!("{} tokens, the encoder takes {max_positions}", last + 1);
                return Err(Error::invalid("text", message));
            }
            x = x.add(&table.forward(positions)?)?;
        }
        if let Some(table) = &self.types {
            x = x.add(&table.forward(batch.ids.iter().map(|id| id / vocabulary).collect())?)?;
        }
        if let Some(projection) = &self.projection {
            x = projection.forward(&x, Noise::NONE)?;
        }
        self.norm.forward(&x)
    }
}
