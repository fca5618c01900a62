//! `config.json` of a Hugging Face folder, as a decoder's configuration.

mod own_class;
mod written;

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::disguise;
use crate::model::families::{FAMILIES, UNSERVED};
use crate::model::family::{Bias, EmbeddingScale, Family, LogitScale, Parallel, Positions, Projections};
use crate::model::fields::Fields;
use crate::model::keys::FamilyKeys;
use crate::model::mixture::Mixture;
use crate::model::multimodal::{self, MULTIMODAL};
use crate::model::published;
use crate::model::quantised;
use crate::model::rope::Rope;
use crate::model::sights::{head_dim, sights};
use crate::model::types;
use crate::quant::Quantisation;
use crate::tensor::Unary;

pub use self::own_class::CLASS_FILE;
pub use crate::model::sights::Sight;

/// The input of a layer's feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// The sum after attention: x ← x + attention(x), x ← x + mlp(x).
    Sequential,
    /// The same input as attention: x ← x + attention(x) + mlp(x).
    Parallel,
    /// The norm of the sum after attention: x ← norm(x + attention(x)), x ← norm(x + mlp(x)).
    Normed,
}

/// The configuration of a decoder. The original JSON is kept and written back with the changes.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The names of the weights and the special features of the family.
    pub family: &'static Family,
    /// The size of the vocabulary.
    pub vocabulary: usize,
    /// The width of the layers.
    pub width: usize,
    /// The width of embeddings and of the hidden states that heads read; that of the layers unless the model
    /// has projections between the two.
    pub outer_width: usize,
    /// The number of layers.
    pub layers: usize,
    /// The number of query heads.
    pub heads: usize,
    /// The number of key and value heads.
    pub kv_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// The width of the feed-forward network.
    pub ffn: usize,
    /// The longest sequence according to the config; a hard limit for learned positions.
    pub max_positions: usize,
    /// ε of the norms.
    pub norm_eps: f64,
    /// The activation of the feed-forward network.
    pub activation: Unary,
    /// The window, rotary positions and scale of each layer's attention.
    pub sights: Vec<Sight>,
    /// The order of a layer's sums.
    pub residual: Residual,
    /// True if a norm follows the last layer.
    pub last_norm: bool,
    /// The factor on the outputs of layers before they are added to the residual stream.
    pub residual_scale: f64,
    /// The factor on embeddings.
    pub embedding_scale: f64,
    /// The experts of the mixture layers.
    pub mixture: Option<Mixture>,
    /// True if the language-model head is the embedding.
    pub tied: bool,
    /// The factor on a language model's logits, before the cap; scores have none.
    pub logit_scale: f64,
    /// The soft cap c of a language model's logits, c·tanh(x/c); scores have none.
    pub logit_cap: Option<f64>,
    /// True if queries, keys and values have biases.
    pub qkv_bias: bool,
    /// True if the projection after attention has a bias.
    pub output_bias: bool,
    /// True if the feed-forward network has biases.
    pub mlp_bias: bool,
    /// The standard deviation of random weights.
    pub initializer_range: f64,
    /// The padding id, which `transformers` never scores; `None` if the config has null or a negative id, so
    /// that the last token carries the score, whatever it is.
    pub pad: Option<u32>,
    /// The token that ends every sequence of a reward model, if the config has one: scores are read at it.
    pub closing: Option<u32>,
    /// The number of labels in the config; `None`: not specified.
    pub labels: Option<usize>,
    /// The quantisation of the checkpoint's weights, from its config; never written.
    pub quantised: Option<Quantisation>,
    /// The multimodal model that this is the text part of; `None` for a language model.
    pub text_of: Option<&'static str>,
    /// Keys of the file that are unknown: neither read nor known to leave scores unchanged.
    pub unknown_keys: Vec<String>,
    /// The file as it was read; for a multimodal model, its text part.
    pub raw: Map<String, Value>,
}

impl ModelConfig {
    /// Reads `config.json` of a folder.
    ///
    /// # Errors
    /// Fails if the file is missing or not JSON, if the family is not supported (the error lists the known
    /// ones), if a field is missing or wrong, and if a key that changes scores has an unsupported value.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = disguise::read_text(&path)?;
        let raw = serde_json::from_str(&text).map_err(|error| Error::file(&path, error))?;
        Self::from_json(raw, &path)
    }

    /// Parses a config; errors name `path`.
    ///
    /// # Errors
    /// Fails as [`ModelConfig::from_dir`] does.
    pub fn from_json(raw: Map<String, Value>, path: &Path) -> Result<Self> {
        let (raw, whole) = match multimodal::text_part(&raw, path)? {
            Some((text, whole)) => (text, Some(whole.model_type)),
            None => (raw, None),
        };
        let mut config = Self::read(&raw, path)?;
        config.text_of = whole;
        config.raw = raw;
        // Weights are never saved quantised.
        config.raw.shift_remove("quantization_config");
        config.closing = published::closing_token(&config, path)?;
        Ok(config)
    }

    fn read(raw: &Map<String, Value>, path: &Path) -> Result<Self> {
        let family = family(raw, path)?;
        if let Some(method) = quantised::unread_by_config(raw) {
            return Err(Error::file(path, quantised::refusal(&method)));
        }
        let keys = FamilyKeys::of(family.model_type)
            .ok_or_else(|| Error::file(path, format!("the keys of {} are not known", family.model_type)))?;
        let mut unknown_keys = keys.check(raw, path)?;
        types::check(raw, path, |key| keys.knows(key))?;
        let full = keys.complete(raw, path)?;
        let fields = Fields::new(raw, &full, path, |key| keys.default(key));
        let keys = &family.keys;
        let width = fields.positive(keys.width)?;
        let heads = fields.positive(keys.heads)?;
        let kv_heads = match keys.kv_heads {
            Some(key) => fields.positive_or(key, heads)?,
            None => heads,
        };
        if heads > width {
            return Err(fields.wrong(keys.heads, &format!("at most {width}, the width of the model")));
        }
        let head_dim = head_dim(&fields, family, width, heads)?;
        let layers = fields.layers(keys.layers)?;
        let ffn = match keys.ffn {
            (key, Some(widths)) => fields.positive_or(key, widths * width)?,
            (key, None) => fields.positive(key)?,
        };
        if !heads.is_multiple_of(kv_heads) {
            return Err(fields.wrong("num_key_value_heads", &format!("a divisor of {heads} heads")));
        }
        let bias = |bias: Bias| match bias {
            Bias::Never => Ok(false),
            Bias::Always => Ok(true),
            Bias::Flag(key) => fields.flag(key),
        };
        let residual = match family.parallel {
            Parallel::Always => Residual::Parallel,
            Parallel::Flag(key) if fields.flag(key)? => Residual::Parallel,
            Parallel::Flag(_) | Parallel::Never => match family.norms_first {
                Some(key) if !fields.flag(key)? => Residual::Normed,
                _ => Residual::Sequential,
            },
        };
        let (sights, unread) = sights(&fields, family, head_dim)?;
        let outer_width = match &family.projections {
            Some(projections) => fields.positive_or(projections.width, width)?,
            None => width,
        };
        unknown_keys.extend(unread);
        let labels = labels(&fields)?;
        if labels == Some(1) && fields.value("problem_type").as_str() == Some("single_label_classification") {
            return Err(fields.wrong("problem_type", "regression: one label leaves nothing to classify"));
        }
        Ok(Self {
            family,
            vocabulary: fields.positive("vocab_size")?,
            width,
            outer_width,
            layers,
            heads,
            kv_heads,
            head_dim,
            ffn,
            max_positions: fields.positive(keys.max_positions)?,
            norm_eps: keys.norm_eps.map_or(Ok(1e-5), |key| fields.number(key))?,
            activation: match fields.activation(keys.activation)? {
                Unary::Gelu if keys.gelu_is_tanh => Unary::GeluTanh,
                activation => activation,
            },
            sights,
            residual,
            last_norm: residual != Residual::Normed,
            residual_scale: family.residual_scale.map_or(Ok(1.0), |key| fields.number(key))?,
            embedding_scale: match family.embedding_scale {
                EmbeddingScale::One => 1.0,
                EmbeddingScale::RootWidth => (width as f64).sqrt(),
                EmbeddingScale::Key(key) => fields.number(key)?,
            },
            mixture: family
                .experts
                .as_ref()
                .map(|experts| Mixture::read(&fields, experts, layers))
                .transpose()?,
            tied: fields.flag("tie_word_embeddings")?,
            logit_scale: match family.logit_scale {
                LogitScale::One => 1.0,
                LogitScale::Times(key) => fields.above_zero(key)?,
                LogitScale::Over(key) => 1.0 / fields.above_zero(key)?,
            },
            logit_cap: fields.cap("final_logit_softcapping")?,
            qkv_bias: bias(family.biases.qkv)?,
            output_bias: bias(family.biases.output)?,
            mlp_bias: bias(family.biases.mlp)?,
            initializer_range: fields.number(keys.deviation)?,
            pad: fields.token_id("pad_token_id")?,
            closing: None,
            labels,
            quantised: quantised::read_by_config(raw),
            text_of: None,
            unknown_keys,
            raw: Map::new(),
        })
    }

    /// Returns the length up to which sequences may share a prompt; in a longer sequence, the length changes
    /// the rotary angles of all rows. `None`: unlimited.
    pub fn shares_up_to(&self) -> Option<usize> {
        self.sights.iter().filter_map(|sight| sight.rope.as_ref().and_then(Rope::trained)).min()
    }

    /// Returns the projections between embeddings and layers, if their widths differ.
    pub fn projections(&self) -> Option<&'static Projections> {
        self.family.projections.as_ref().filter(|_| self.outer_width != self.width)
    }

    /// Returns whether positions are learned, so that there are none beyond [`ModelConfig::max_positions`].
    pub fn has_learned_positions(&self) -> bool {
        matches!(self.family.positions, Positions::Learned { .. })
    }

    /// Returns whether `architectures` names a model with a head of scores or classes
    /// (`...ForSequenceClassification`, `...RewardModel`).
    pub fn claims_head(&self) -> bool {
        let names = self.raw.get("architectures").and_then(Value::as_array).into_iter().flatten();
        let mut names = names.filter_map(Value::as_str);
        names.any(|name| name.ends_with("ForSequenceClassification") || name.ends_with("RewardModel"))
    }
}

/// Looks up the family of `model_type`.
fn family(raw: &Map<String, Value>, path: &Path) -> Result<&'static Family> {
    let name = raw.get("model_type").and_then(Value::as_str);
    if let Some(family) = name.and_then(|name| FAMILIES.iter().find(|family| family.model_type == name)) {
        return Ok(family);
    }
    let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
    let found = raw.get("model_type").map_or("is missing".to_owned(), |value| format!("is {value}"));
    let advice = UNSERVED.iter().find(|(unserved, _)| name == Some(unserved));
    let advice = advice.map_or(String::new(), |(_, advice)| format!("; {advice}"));
    let wholes: Vec<&str> = MULTIMODAL.iter().map(|whole| whole.model_type).collect();
    let message = format!(
        "model_type {found}; expected one of {}, or {} for their text part{advice} (to add one, \
         see \"A family of decoders\" in ARCHITECTURE.md)",
        known.join(", "),
        wholes.join(" and "),
    );
    Err(Error::file(path, message))
}

/// Returns the number of labels, as `transformers` counts them: `num_labels`, else the entries of `id2label`.
fn labels(fields: &Fields<'_>) -> Result<Option<usize>> {
    match (fields.value("num_labels"), fields.value("id2label")) {
        (Value::Null, Value::Null) => Ok(None),
        (Value::Null, Value::Object(names)) => Ok(Some(names.len())),
        (Value::Null, _) => Err(fields.wrong("id2label", "an object of labels")),
        _ => fields.positive("num_labels").map(Some),
    }
}
