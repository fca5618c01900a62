//! `config.json` of a Hugging Face folder, read into what a decoder needs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::families::FAMILIES;
use crate::model::family::{Bias, Family, Positions, Qkv, Windows};
use crate::model::rope::Rope;
use crate::tensor::Unary;

/// What the feed-forward network of a layer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// What attention made of the input: x ← x + attention(x), x ← x + mlp(x).
    Sequential,
    /// The same input as attention: x ← x + attention(x) + mlp(x).
    Parallel,
}

/// How the rows of a layer see each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// Only this many positions back, their own included (sliding window); `None`: all.
    pub window: Option<usize>,
    /// Rotary positions; `None` where they are learned.
    pub rope: Option<Rope>,
}

/// The shape of a decoder. The original JSON is kept and written back with what changed.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// How weights are named and where the family differs.
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
    /// The longest sequence the config speaks of; a hard limit where positions are learned.
    pub max_positions: usize,
    /// ε of the norms.
    pub norm_eps: f64,
    /// The activation of the feed-forward network.
    pub activation: Unary,
    /// Every layer's windows and rotary positions.
    pub sights: Vec<Sight>,
    /// What q·k is multiplied with: 1/√head_dim, or 1/√`query_pre_attn_scalar`.
    pub attention_scale: f64,
    /// How layers add up.
    pub residual: Residual,
    /// Whether the language-model head is the embedding.
    pub tied: bool,
    /// Bias on queries, keys, values.
    pub qkv_bias: bool,
    /// Bias on the projection after attention.
    pub output_bias: bool,
    /// Bias in the feed-forward network.
    pub mlp_bias: bool,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// Padding id, which `transformers` never scores.
    pub pad: Option<u32>,
    /// The file as it was read.
    pub raw: Map<String, Value>,
}

impl ModelConfig {
    /// Reads `config.json` of a folder.
    ///
    /// # Errors
    /// No such file, no JSON, a family that is not served (the known ones are listed), a missing or wrong field.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let raw = serde_json::from_str(&text).map_err(|error| Error::file(&path, error))?;
        Self::from_json(raw, &path)
    }

    /// Reads a config; `path` is named in errors.
    ///
    /// # Errors
    /// As [`ModelConfig::from_dir`].
    pub fn from_json(raw: Map<String, Value>, path: &Path) -> Result<Self> {
        let fields = Fields { raw: &raw, path };
        let family = fields.family()?;
        let keys = &family.keys;
        let width = fields.positive(keys.width)?;
        let heads = fields.positive(keys.heads)?;
        let kv_heads = match family.qkv {
            Qkv::Separate(_) => fields.positive_or("num_key_value_heads", heads)?,
            Qkv::Fused(_) | Qkv::FusedByHead(_) => heads,
        };
        let head_dim = fields.positive_or("head_dim", family.head_dim.unwrap_or(width / heads))?;
        let ffn = match keys.ffn {
            (key, Some(widths)) => fields.positive_or(key, widths * width)?,
            (key, None) => fields.positive(key)?,
        };
        if !heads.is_multiple_of(kv_heads) {
            let message = format!("{heads} heads do not share {kv_heads} key and value heads");
            return Err(Error::file(path, message));
        }
        for key in ["scale_attn_by_inverse_layer_idx", "use_bidirectional_attention"] {
            fields.refuse(key, !fields.flag(key, false))?;
        }
        for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
            fields.refuse(key, raw.get(key).is_none_or(Value::is_null))?;
        }
        let bias = |bias: Bias| match bias {
            Bias::Never => false,
            Bias::Always => true,
            Bias::Flag(key, default) => fields.flag(key, default),
        };
        let max_positions = fields.positive_or(keys.max_positions, 2048)?;
        let ropes = match family.positions {
            Positions::Learned(_) => Ok([None, None]),
            Positions::Rotary => {
                Rope::whole(&raw, head_dim, max_positions).map(|rope| [Some(rope.clone()), Some(rope)])
            }
            Positions::PartialRotary => {
                Rope::partial(&raw, head_dim, max_positions).map(|rope| [Some(rope.clone()), Some(rope)])
            }
            Positions::LocalRotary => {
                Rope::by_layer(&raw, head_dim, max_positions).map(|ropes| ropes.map(Some))
            }
        };
        let [far, near] = ropes.map_err(|error| Error::file(path, error))?;
        let layers = fields.positive(keys.layers)?;
        let sight = |window: Option<usize>| {
            let rope = if window.is_some() { &near } else { &far };
            Sight { window, rope: rope.clone() }
        };
        let sights = fields.windows(family.windows, layers)?.into_iter().map(sight).collect();
        let residual = match family.parallel.is_some_and(|key| fields.flag(key, true)) {
            true => Residual::Parallel,
            false => Residual::Sequential,
        };
        let scale_of = fields.number("query_pre_attn_scalar", head_dim as f64);
        if scale_of <= 0.0 {
            return Err(fields.wrong("query_pre_attn_scalar", "a positive number"));
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
            max_positions,
            norm_eps: fields.number(keys.norm_eps.0, keys.norm_eps.1),
            activation: fields.activation(keys.activation)?,
            sights,
            attention_scale: 1.0 / scale_of.sqrt(),
            residual,
            tied: fields.flag("tie_word_embeddings", keys.tied),
            qkv_bias: bias(family.biases.qkv),
            output_bias: bias(family.biases.output),
            mlp_bias: bias(family.biases.mlp),
            initializer_range: fields.number("initializer_range", 0.02),
            pad: raw.get("pad_token_id").and_then(Value::as_u64).map(|id| id as u32),
            raw,
        })
    }

    /// Sequences beyond this length may not share a prompt with others: their length turns every row of theirs.
    /// `None`: any may.
    pub fn shares_up_to(&self) -> Option<usize> {
        self.sights.iter().filter_map(|sight| sight.rope.as_ref().and_then(Rope::trained)).min()
    }

    /// Whether positions are learned, so that there are none beyond [`ModelConfig::max_positions`].
    pub fn has_learned_positions(&self) -> bool {
        self.sights.iter().all(|sight| sight.rope.is_none())
    }

    /// The config of a reward model with this body, as `transformers` writes it.
    pub fn reward_json(&self) -> Map<String, Value> {
        let mut json = self.raw.clone();
        json.insert("architectures".into(), Value::from(vec![self.family.classifier]));
        json.insert("num_labels".into(), Value::from(1));
        json.insert("id2label".into(), serde_json::json!({"0": "LABEL_0"}));
        json.insert("label2id".into(), serde_json::json!({"LABEL_0": 0}));
        json.insert("pad_token_id".into(), self.pad.map_or(Value::Null, Value::from));
        json.insert("use_cache".into(), Value::from(false));
        let dtype = if json.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        json.insert(dtype.into(), Value::from("float32"));
        json
    }
}

/// Fields of a config.json, and the errors that name them.
pub(super) struct Fields<'a> {
    pub(super) raw: &'a Map<String, Value>,
    pub(super) path: &'a Path,
}

impl Fields<'_> {
    pub(super) fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = self.raw.get(key).map_or_else(|| "is missing".to_owned(), |value| format!("is {value}"));
        Error::File { path: PathBuf::from(self.path), message: format!("{key} {found}; expected {expected}") }
    }

    fn family(&self) -> Result<&'static Family> {
        let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
        let name = self.raw.get("model_type").and_then(Value::as_str);
        let found = name.and_then(|name| FAMILIES.iter().find(|family| family.model_type == name));
        found.ok_or_else(|| self.wrong("model_type", &format!("one of {}", known.join(", "))))
    }

    pub(super) fn positive(&self, key: &str) -> Result<usize> {
        let value = self.raw.get(key).and_then(Value::as_u64).filter(|value| *value > 0 && *value < 1 << 32);
        value.map(|value| value as usize).ok_or_else(|| self.wrong(key, "a positive integer"))
    }

    pub(super) fn positive_or(&self, key: &str, default: usize) -> Result<usize> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(_) => self.positive(key),
        }
    }

    pub(super) fn number(&self, key: &str, default: f64) -> f64 {
        self.raw.get(key).and_then(Value::as_f64).unwrap_or(default)
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        self.raw.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    /// Errs where a field turns on what is not served.
    pub(super) fn refuse(&self, key: &str, off: bool) -> Result<()> {
        match off {
            true => Ok(()),
            false => Err(self.wrong(key, "none: it is not served")),
        }
    }

    /// Every layer's window.
    fn windows(&self, windows: Windows, layers: usize) -> Result<Vec<Option<usize>>> {
        let window = match self.raw.get("sliding_window") {
            _ if windows == Windows::Never => None,
            _ if windows == Windows::Late && !self.flag("use_sliding_window", false) => None,
            None => Some(4096),
            Some(Value::Null) => None,
            Some(_) => Some(self.positive("sliding_window")?),
        };
        let Some(window) = window else { return Ok(vec![None; layers]) };
        if let Some(listed) = self.raw.get("layer_types").filter(|listed| !listed.is_null()) {
            let kinds = listed.as_array().filter(|kinds| kinds.len() == layers);
            let kind = |kind: &Value| match kind.as_str() {
                Some("sliding_attention") => Some(Some(window)),
                Some("full_attention") => Some(None),
                _ => None,
            };
            let read = kinds.and_then(|kinds| kinds.iter().map(kind).collect());
            let expected = || format!("{layers} times full_attention or sliding_attention");
            return read.ok_or_else(|| self.wrong("layer_types", &expected()));
        }
        let (pattern, first) =
            (self.positive_or("sliding_window_pattern", 6)?, self.number("max_window_layers", 28.0));
        let slides = |layer: usize| match windows {
            Windows::Never => false,
            Windows::Everywhere => true,
            Windows::Late => layer as f64 >= first,
            Windows::AllButEvery => !(layer + 1).is_multiple_of(pattern),
        };
        Ok((0..layers).map(|layer| slides(layer).then_some(window)).collect())
    }

    pub(super) fn activation(&self, (key, default): (&str, &str)) -> Result<Unary> {
        match self.raw.get(key).map_or(Some(default), Value::as_str) {
            Some("silu" | "swish") => Ok(Unary::Silu),
            Some("gelu") => Ok(Unary::Gelu),
            Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Unary::GeluTanh),
            Some("relu") => Ok(Unary::Relu),
            _ => Err(self.wrong(key, "one of gelu, gelu_new, gelu_pytorch_tanh, relu, silu")),
        }
    }
}
