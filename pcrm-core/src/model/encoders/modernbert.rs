//! ModernBERT (Warner et al., arXiv 2412.13663): pre-norm layers, rotary positions, GeGLU, and global and
//! local attention.

use std::path::Path;

use serde_json::{Map, Value};

use super::head::{HeadShape, Pooling, activated};
use super::weights::EncoderWeights;
use super::{check_tokens, queries};
use crate::error::Result;
use crate::kernels::{Attention, Mask, PlannedTree};
use crate::model::fields::Fields;
use crate::model::keys::FamilyKeys;
use crate::model::layers::{Embedding, Linear, Norm};
use crate::model::lora::Noise;
use crate::model::rope::{Angles, Rope, Scaling};
use crate::model::{Rows, select};
use crate::tensor::{Tensor, Unary};
use crate::tree::Packed;

/// The shape of a ModernBERT model.
#[derive(Debug, Clone)]
pub(super) struct ModernBertConfig {
    pub vocabulary: usize,
    pub width: usize,
    heads: usize,
    ffn: usize,
    pub max_positions: usize,
    pub norm_eps: f64,
    norm_bias: bool,
    attention_bias: bool,
    mlp_bias: bool,
    activation: Unary,
    /// True for each layer with local attention.
    local: Vec<bool>,
    /// The largest distance in local attention.
    reach: usize,
    /// θ of global and of local layers.
    thetas: [f64; 2],
    pub head: HeadShape,
}

impl ModernBertConfig {
    /// Reads a config; errors name `path`.
    pub fn from_json(raw: &Map<String, Value>, keys: FamilyKeys, path: &Path) -> Result<Self> {
        let full = keys.complete(raw, path)?;
        let fields = Fields::new(raw, &full, path, |key| keys.default(key));
        let (width, heads) = (fields.positive("hidden_size")?, fields.positive("num_attention_heads")?);
        if !width.is_multiple_of(2 * heads) {
            return Err(fields.wrong("num_attention_heads", &format!("heads of an even width in {width}")));
        }
        fields.refuse("rope_scaling", fields.value("rope_scaling").is_null())?;
        let pooling = match fields.value("classifier_pooling").as_str() {
            Some("cls") => Pooling::First,
            Some("mean") => Pooling::Mean,
            _ => return Err(fields.wrong("classifier_pooling", "cls or mean")),
        };
        let norm_bias = fields.flag("norm_bias")?;
        Ok(Self {
            vocabulary: fields.positive("vocab_size")?,
            width,
            heads,
            ffn: fields.positive("intermediate_size")?,
            max_positions: fields.positive("max_position_embeddings")?,
            norm_eps: fields.number("norm_eps")?,
            norm_bias,
            attention_bias: fields.flag("attention_bias")?,
            mlp_bias: fields.flag("mlp_bias")?,
            activation: fields.activation("hidden_activation")?,
            local: local(&fields)?,
            // In transformers, setting `sliding_window` sets `local_attention` to twice its value.
            reach: match fields.states("sliding_window") {
                true => fields.positive("sliding_window")?,
                false => fields.positive("local_attention")? / 2,
            },
            thetas: [
                theta(&fields, "full_attention", "global_rope_theta")?,
                theta(&fields, "sliding_attention", "local_rope_theta")?,
            ],
            head: HeadShape {
                pooling,
                dense: "head.dense",
                has_bias: fields.flag("classifier_bias")?,
                activation: fields.activation("classifier_activation")?,
                norm: Some(("head.norm", norm_bias)),
                output: "classifier",
            },
        })
    }
}

/// Returns true for each local layer: by `layer_types`, or all but every n-th layer.
fn local(fields: &Fields<'_>) -> Result<Vec<bool>> {
    let layers = fields.layers("num_hidden_layers")?;
    if fields.value("layer_types").is_null() {
        let every = fields.positive("global_attn_every_n_layers")?;
        return Ok((0..layers).map(|layer| !layer.is_multiple_of(every)).collect());
    }
    let kind = |kind: &Value| match kind.as_str() {
        Some("sliding_attention") => Some(true),
        Some("full_attention") => Some(false),
        _ => None,
    };
    let kinds = fields.value("layer_types").as_array().filter(|kinds| kinds.len() == layers);
    kinds.and_then(|kinds| kinds.iter().map(kind).collect()).ok_or_else(|| {
        fields.wrong("layer_types", &format!("{layers} times full_attention or sliding_attention"))
    })
}

/// Returns θ of global or local layers: from `rope_parameters` (transformers 5), or from its own key
/// (transformers 4).
fn theta(fields: &Fields<'_>, layers: &str, key: &str) -> Result<f64> {
    let section =
        fields.object("rope_parameters")?.and_then(|all| all.get(layers)).filter(|own| !own.is_null());
    let Some(section) = section else { return fields.above_zero(key) };
    let kind = section.get("rope_type").or_else(|| section.get("type"));
    if kind.is_some_and(|kind| kind.as_str() != Some("default")) {
        let message = format!("rope_parameters.{layers} is {section}; expected rope_type default");
        return Err(fields.error(&message));
    }
    match section.get("rope_theta") {
        None => fields.above_zero(key),
        Some(theta) => theta.as_f64().filter(|theta| *theta > 0.0).ok_or_else(|| {
            fields
                .error(&format!("rope_parameters.{layers}.rope_theta is {theta}; expected a positive number"))
        }),
    }
}

/// The frozen body of a ModernBERT model.
#[derive(Debug, Clone)]
pub(super) struct ModernBert {
    config: ModernBertConfig,
    words: Embedding,
    norm: Norm,
    layers: Vec<Layer>,
    last_norm: Norm,
    /// The rotary angles of global and of local layers.
    angles: [Angles; 2],
}

#[derive(Debug, Clone)]
struct Layer {
    /// `None` in the first layer, which reads the normalised embeddings.
    attention_norm: Option<Norm>,
    qkv: Linear,
    output: Linear,
    norm: Norm,
    /// The joint projection to the activated values and the gates.
    up: Linear,
    down: Linear,
    local: bool,
}

impl ModernBert {
    /// Reads the body.
    ///
    /// # Errors
    /// Fails if a weight is missing or has another shape.
    pub fn read(config: ModernBertConfig, weights: &EncoderWeights<'_>) -> Result<Self> {
        let ModernBertConfig { width, ffn, norm_bias, attention_bias, mlp_bias, .. } = config;
        let mut layers = Vec::with_capacity(config.local.len());
        for (layer, local) in config.local.iter().enumerate() {
            let at = |name: &str| format!("layers.{layer}.{name}");
            let attention_norm =
                (layer > 0).then(|| weights.norm(&at("attn_norm"), width, norm_bias)).transpose()?;
            layers.push(Layer {
                attention_norm,
                qkv: weights.linear(&[at("attn.Wqkv")], [3 * width, width], attention_bias)?,
                output: weights.linear(&[at("attn.Wo")], [width, width], attention_bias)?,
                norm: weights.norm(&at("mlp_norm"), width, norm_bias)?,
                up: weights.linear(&[at("mlp.Wi")], [2 * ffn, width], mlp_bias)?,
                down: weights.linear(&[at("mlp.Wo")], [width, ffn], mlp_bias)?,
                local: *local,
            });
        }
        let dim = width / config.heads;
        let angles = config.thetas.map(|theta| Angles::new(Rope { theta, dim, scaling: Scaling::None }));
        Ok(Self {
            words: weights.embedding("embeddings.tok_embeddings", [config.vocabulary, width])?,
            norm: weights.norm("embeddings.norm", width, norm_bias)?,
            layers,
            last_norm: weights.norm("final_norm", width, norm_bias)?,
            angles,
            config,
        })
    }

    /// Returns the hidden states after the last norm, `[wanted rows, width]`.
    ///
    /// # Errors
    /// Fails if a token id is outside the vocabulary or the backend fails.
    pub fn forward(&self, batch: &Packed, rows: Rows<'_>) -> Result<Tensor> {
        check_tokens(batch, self.config.vocabulary)?;
        let mut x = self.norm.forward(&self.words.forward(batch.ids.clone())?)?;
        let tree = PlannedTree::new(batch.tree.clone());
        let angles = self.angles.each_ref().map(|angles| -> Result<[Tensor; 2]> {
            let [cos, sin] = angles.of(&batch.tree)?;
            Ok([x.constant(&cos)?.cast(x.dtype())?, x.constant(&sin)?.cast(x.dtype())?])
        });
        let [far, near] = angles;
        let (far, near) = (far?, near?);
        for (at, layer) in self.layers.iter().enumerate() {
            let rows = if at + 1 == self.layers.len() { rows } else { Rows::All };
            let angles = if layer.local { &near } else { &far };
            x = self.layer(layer, &x, (&tree, angles), rows)?;
        }
        self.last_norm.forward(&x)
    }

    /// Computes one layer: x `[rows, width]` → `[wanted rows, width]`.
    fn layer(
        &self,
        layer: &Layer,
        x: &Tensor,
        (tree, [cos, sin]): (&PlannedTree, &[Tensor; 2]),
        rows: Rows<'_>,
    ) -> Result<Tensor> {
        let ModernBertConfig { width, heads, ffn, reach, activation, .. } = self.config;
        let dim = width / heads;
        let normed = layer.attention_norm.as_ref().map_or(Ok(x.clone()), |norm| norm.forward(x))?;
        let all = layer.qkv.forward(&normed, Noise::NONE)?.reshape([tree.rows(), 3 * heads, dim])?;
        let part = |at: usize| all.narrow(1, at * heads, heads);
        let kernels = x.kernels();
        let q = kernels.rotary(&select(&part(0)?, rows)?, &select(cos, rows)?, &select(sin, rows)?)?;
        let qkv = [q, kernels.rotary(&part(1)?, cos, sin)?, part(2)?]; // [rows, heads, dim]
        let mask = if layer.local { Mask::Around { reach } } else { Mask::Full };
        let how = Attention { scale: 1.0 / (dim as f64).sqrt(), cap: None, mask, queries: queries(rows) };
        let attended = kernels.attention(qkv.each_ref(), tree, &how)?;
        let attended = layer.output.forward(&attended.reshape([attended.shape()[0], width])?, Noise::NONE)?;
        let x = select(x, rows)?.add(&attended)?;
        let up = layer.up.forward(&layer.norm.forward(&x)?, Noise::NONE)?;
        let gated = activated(&up.narrow(1, 0, ffn)?, activation)?.mul(&up.narrow(1, ffn, ffn)?)?;
        x.add(&layer.down.forward(&gated, Noise::NONE)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Protects: the reach of local attention is half its width, or the value of `sliding_window`, which
    /// transformers sets last; unknown keys are reported, and unsupported values refused.
    #[test]
    fn local_attention_reaches_as_far_as_in_transformers() -> Result<()> {
        let path = Path::new("config.json");
        let read = |changes: Value| -> Result<(usize, Vec<String>)> {
            let mut raw = json!({
                "model_type": "modernbert", "vocab_size": 60, "hidden_size": 16, "intermediate_size": 8,
                "num_hidden_layers": 3, "num_attention_heads": 2
            });
            for (key, value) in changes.as_object().into_iter().flatten() {
                raw[key] = value.clone();
            }
            let raw = raw.as_object().cloned().unwrap_or_default();
            let (keys, unknown) = FamilyKeys::of_encoder("modernbert", &raw, path)?;
            Ok((ModernBertConfig::from_json(&raw, keys, path)?.reach, unknown))
        };
        assert_eq!(read(json!({}))?, (64, vec![]));
        assert_eq!(read(json!({"local_attention": 6, "alibi": 1}))?, (3, vec!["alibi".to_owned()]));
        assert_eq!(read(json!({"local_attention": 6, "sliding_window": 10}))?.0, 10);
        for (change, expected) in [
            (json!({"is_decoder": true}), "is_decoder is true; expected false"),
            (json!({"pruned_heads": {"0": [1]}}), "pruned_heads is {\"0\":[1]}; expected {} or null"),
            (json!({"sliding_window": "4"}), "sliding_window is \"4\"; expected a whole number"),
        ] {
            let error = read(change).map(drop).map_err(|error| error.to_string()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        Ok(())
    }
}
