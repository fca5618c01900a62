//! `config.json` of a Hugging Face folder, read into what a decoder needs.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::disguise;
use crate::model::families::{FAMILIES, UNSERVED};
use crate::model::family::{Bias, Family, HeadDim, Positions, Qkv};
use crate::model::fields::Fields;
use crate::model::keys::FamilyKeys;
use crate::model::quantised;
use crate::model::rope::{Rope, Ropes};
use crate::model::types;
use crate::tensor::Unary;

/// Input of a layer's feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// The sum after attention: x ← x + attention(x), x ← x + mlp(x).
    Sequential,
    /// The same input as attention: x ← x + attention(x) + mlp(x).
    Parallel,
}

/// Attention of one layer: which rows see each other, and how strongly.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// Only this many positions back, their own included (sliding window); `None`: all.
    pub window: Option<usize>,
    /// Rotary positions; `None` where they are learned.
    pub rope: Option<Rope>,
    /// Factor of q·k: 1/√head_dim unless the config says otherwise.
    pub scale: f64,
}

/// The shape of a decoder. The original JSON is kept and written back with what changed.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// Names of the weights, and where the family differs from others.
    pub family: &'static Family,
    /// Size of the vocabulary.
    pub vocabulary: usize,
    /// Width of the hidden states.
    pub width: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the feed-forward network.
    pub ffn: usize,
    /// The longest sequence that the config names; a hard limit where positions are learned.
    pub max_positions: usize,
    /// ε of the norms.
    pub norm_eps: f64,
    /// The activation of the feed-forward network.
    pub activation: Unary,
    /// Windows, rotary positions and scale of each layer's attention.
    pub sights: Vec<Sight>,
    /// Order of a layer's sums.
    pub residual: Residual,
    /// Whether the language-model head is the embedding.
    pub tied: bool,
    /// Bound c of a language model's logits, c·tanh(x/c); scores have none.
    pub logit_cap: Option<f64>,
    /// Bias on queries, keys, values.
    pub qkv_bias: bool,
    /// Bias on the projection after attention.
    pub output_bias: bool,
    /// Bias in the feed-forward network.
    pub mlp_bias: bool,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// Padding id, which `transformers` never scores; `None` where the config has null or a negative id, so
    /// that the last token carries the score, whatever it is.
    pub pad: Option<u32>,
    /// Number of labels that the config names; `None`: it names none.
    pub labels: Option<usize>,
    /// Keys of the file that are neither read nor known to change no score.
    pub unknown_keys: Vec<String>,
    /// The file as it was read.
    pub raw: Map<String, Value>,
}

impl ModelConfig {
    /// Reads `config.json` of a folder.
    ///
    /// # Errors
    /// No such file, no JSON, a family that is not served (the known ones are listed), a missing or wrong
    /// field, a key that changes scores and is not served.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = disguise::read_text(&path)?;
        let raw = serde_json::from_str(&text).map_err(|error| Error::file(&path, error))?;
        Self::from_json(raw, &path)
    }

    /// Reads a config; `path` is named in errors.
    ///
    /// # Errors
    /// As [`ModelConfig::from_dir`].
    pub fn from_json(raw: Map<String, Value>, path: &Path) -> Result<Self> {
        let mut config = Self::read(&raw, path)?;
        config.raw = raw;
        Ok(config)
    }

    fn read(raw: &Map<String, Value>, path: &Path) -> Result<Self> {
        let family = family(raw, path)?;
        if let Some(method) = quantised::by_config(raw) {
            return Err(Error::file(path, quantised::refusal(&method)));
        }
        let keys = FamilyKeys::of(family.model_type)
            .ok_or_else(|| Error::file(path, format!("no keys are known of {}", family.model_type)))?;
        let mut unknown_keys = keys.check(raw, path)?;
        types::check(raw, path, |key| keys.knows(key))?;
        let full = keys.complete(raw, path)?;
        let fields = Fields::new(raw, &full, path, |key| keys.default(key));
        let keys = &family.keys;
        let width = fields.positive(keys.width)?;
        let heads = fields.positive(keys.heads)?;
        let kv_heads = match family.qkv {
            Qkv::Separate(_) => fields.positive_or("num_key_value_heads", heads)?,
            Qkv::Fused(_) | Qkv::FusedByHead(_) => heads,
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
        let residual = match family.parallel.map_or(Ok(false), |key| fields.flag(key))? {
            true => Residual::Parallel,
            false => Residual::Sequential,
        };
        let (sights, unread) = sights(&fields, family, head_dim)?;
        unknown_keys.extend(unread);
        let labels = labels(&fields)?;
        if labels == Some(1) && fields.value("problem_type").as_str() == Some("single_label_classification") {
            return Err(fields.wrong("problem_type", "regression: one label leaves nothing to classify"));
        }
        Ok(Self {
            family,
            vocabulary: fields.positive("vocab_size")?,
            width,
            layers,
            heads,
            kv_heads,
            head_dim,
            ffn,
            max_positions: fields.positive(keys.max_positions)?,
            norm_eps: fields.number(keys.norm_eps)?,
            activation: fields.activation(keys.activation)?,
            sights,
            residual,
            tied: fields.flag("tie_word_embeddings")?,
            logit_cap: match fields.value("final_logit_softcapping") {
                Value::Null => None,
                _ => Some(fields.number("final_logit_softcapping")?),
            },
            qkv_bias: bias(family.biases.qkv)?,
            output_bias: bias(family.biases.output)?,
            mlp_bias: bias(family.biases.mlp)?,
            initializer_range: fields.number("initializer_range")?,
            pad: fields.token_id("pad_token_id")?,
            labels,
            unknown_keys,
            raw: Map::new(),
        })
    }

    /// The longest sequences that may share a prompt with others: beyond it their length changes the angles
    /// of all their rows. `None`: any may.
    pub fn shares_up_to(&self) -> Option<usize> {
        self.sights.iter().filter_map(|sight| sight.rope.as_ref().and_then(Rope::trained)).min()
    }

    /// Whether positions are learned, so that there are none beyond [`ModelConfig::max_positions`].
    pub fn has_learned_positions(&self) -> bool {
        self.sights.iter().all(|sight| sight.rope.is_none())
    }

    /// Whether `architectures` names a model with a head of scores or classes
    /// (`...ForSequenceClassification`).
    pub fn claims_head(&self) -> bool {
        let names = self.raw.get("architectures").and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).any(|name| name.ends_with("ForSequenceClassification"))
    }

    /// Returns the config of a language model with this body, as `transformers` writes it.
    pub fn language_json(&self) -> Map<String, Value> {
        let mut json = self.raw.clone();
        if self.claims_head() {
            // The body of a reward model: these belong to its head.
            let own = ["num_labels", "id2label", "label2id", "problem_type", "use_cache"];
            json.retain(|key, _| !own.contains(&key.as_str()));
        }
        json.insert("architectures".into(), Value::from(vec![self.family.language_model]));
        json.insert("tie_word_embeddings".into(), Value::from(self.tied));
        json.insert("pad_token_id".into(), self.pad.map_or(Value::Null, Value::from));
        let dtype = if json.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        json.insert(dtype.into(), Value::from("float32"));
        json
    }

    /// Returns the config of a reward model with this body, as `transformers` writes it.
    pub fn reward_json(&self) -> Map<String, Value> {
        let mut json = self.raw.clone();
        json.insert("architectures".into(), Value::from(vec![self.family.classifier]));
        json.insert("num_labels".into(), Value::from(1));
        json.insert("id2label".into(), serde_json::json!({"0": "LABEL_0"}));
        json.insert("label2id".into(), serde_json::json!({"LABEL_0": 0}));
        json.insert("pad_token_id".into(), self.pad.map_or(Value::Null, Value::from));
        json.insert("use_cache".into(), Value::from(false));
        // transformers refuses a classification with one label.
        json.retain(|key, value| key != "problem_type" || value.as_str() == Some("regression"));
        let dtype = if json.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        json.insert(dtype.into(), Value::from("float32"));
        json
    }
}

/// The family that `model_type` names.
fn family(raw: &Map<String, Value>, path: &Path) -> Result<&'static Family> {
    let name = raw.get("model_type").and_then(Value::as_str);
    if let Some(family) = name.and_then(|name| FAMILIES.iter().find(|family| family.model_type == name)) {
        return Ok(family);
    }
    let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
    let found = raw.get("model_type").map_or("is missing".to_owned(), |value| format!("is {value}"));
    let advice = UNSERVED.iter().find(|(unserved, _)| name == Some(unserved));
    let advice = advice.map_or(String::new(), |(_, advice)| format!("; {advice}"));
    let message = format!(
        "model_type {found}; expected one of {}{advice} (to add one, \
         see \"A family of decoders\" in ARCHITECTURE.md)",
        known.join(", ")
    );
    Err(Error::file(path, message))
}

/// Width of a head.
fn head_dim(fields: &Fields<'_>, family: &Family, width: usize, heads: usize) -> Result<usize> {
    match family.head_dim {
        HeadDim::Key => fields.positive_or("head_dim", width / heads),
        HeadDim::Divided => {
            if !width.is_multiple_of(heads) {
                return Err(fields.wrong(family.keys.width, &format!("a multiple of {heads} heads")));
            }
            let given = fields.value("head_dim");
            match given.is_null() || given.as_u64() == Some((width / heads) as u64) {
                true => Ok(width / heads),
                false => Err(fields.wrong("head_dim", &format!("{}, width / heads", width / heads))),
            }
        }
    }
}

/// Attention of each layer, and the entries about positions that are not read.
fn sights(fields: &Fields<'_>, family: &Family, head_dim: usize) -> Result<(Vec<Sight>, Vec<String>)> {
    let windows = fields.windows(family.windows, fields.layers(family.keys.layers)?)?;
    let max_positions = fields.positive(family.keys.max_positions)?;
    let Ropes { far, near, unread } = match family.positions {
        Positions::Learned(_) => Ropes::none(),
        Positions::Rotary => Ropes::whole(fields, head_dim, max_positions)?,
        Positions::PartialRotary => Ropes::partial(fields, head_dim, max_positions)?,
        Positions::LocalRotary => Ropes::by_layer(fields, head_dim, max_positions)?,
    };
    let mut scale = 1.0 / (head_dim as f64).sqrt();
    if let Some(key) = family.scale.square {
        let of = fields.number(key)?;
        if of <= 0.0 {
            return Err(fields.wrong(key, "a positive number"));
        }
        scale = 1.0 / of.sqrt();
    }
    if family.scale.on.map_or(Ok(false), |key| fields.flag(key).map(|on| !on))? {
        scale = 1.0;
    }
    let by_layer = family.scale.by_layer.map_or(Ok(false), |key| fields.flag(key))?;
    let sight = |(layer, window): (usize, Option<usize>)| Sight {
        window,
        rope: if window.is_some() { near.clone() } else { far.clone() },
        scale: if by_layer { scale / (layer + 1) as f64 } else { scale },
    };
    Ok((windows.into_iter().enumerate().map(sight).collect(), unread))
}

/// Number of labels, as `transformers` counts them: `num_labels`, else the entries of `id2label`.
fn labels(fields: &Fields<'_>) -> Result<Option<usize>> {
    match (fields.value("num_labels"), fields.value("id2label")) {
        (Value::Null, Value::Null) => Ok(None),
        (Value::Null, Value::Object(names)) => Ok(Some(names.len())),
        (Value::Null, _) => Err(fields.wrong("id2label", "an object of labels")),
        _ => fields.positive("num_labels").map(Some),
    }
}
