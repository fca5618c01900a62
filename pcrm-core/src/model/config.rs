//! `config.json` of a Hugging Face folder, read into what a decoder needs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::family::{Biases, FAMILIES, Family};
use crate::model::rope::Rope;
use crate::tensor::Unary;

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
    /// Rotary positions; `None` where they are learned.
    pub rope: Option<Rope>,
    /// Sliding window.
    pub window: Option<usize>,
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
        let gpt2 = family.positions.is_some();
        let name = |modern: &'static str, old: &'static str| if gpt2 { old } else { modern };
        let width = fields.positive(name("hidden_size", "n_embd"))?;
        let heads = fields.positive(name("num_attention_heads", "n_head"))?;
        let kv_heads = fields.positive_or("num_key_value_heads", heads)?;
        let head_dim = fields.positive_or("head_dim", width / heads)?;
        let ffn = match gpt2 {
            true => fields.positive_or("n_inner", 4 * width)?,
            false => fields.positive("intermediate_size")?,
        };
        if !heads.is_multiple_of(kv_heads) || (!gpt2 && !head_dim.is_multiple_of(2)) {
            let message =
                format!("{heads} heads of width {head_dim} do not share {kv_heads} key and value heads");
            return Err(Error::file(path, message));
        }
        fields.refuse("use_sliding_window", "windows that differ by layer are not served")?;
        fields.refuse("scale_attn_by_inverse_layer_idx", "is not served")?;
        let biases = |key: &str| match family.biases {
            Biases::Config => fields.flag(key, false),
            Biases::Qkv | Biases::Never => false,
            Biases::Always => true,
        };
        let window = match family.model_type {
            "mistral" => raw.get("sliding_window").and_then(Value::as_u64).map(|window| window as usize),
            _ => None,
        };
        Ok(Self {
            family,
            vocabulary: fields.positive("vocab_size")?,
            width,
            layers: fields.positive(name("num_hidden_layers", "n_layer"))?,
            heads,
            kv_heads,
            head_dim,
            ffn,
            max_positions: fields.positive_or(name("max_position_embeddings", "n_positions"), 2048)?,
            norm_eps: fields.number(name("rms_norm_eps", "layer_norm_epsilon"), name_eps(gpt2)),
            activation: fields.activation(name("hidden_act", "activation_function"), gpt2)?,
            rope: if gpt2 { None } else { Some(Rope::from_config(&raw)?) },
            window,
            tied: fields.flag("tie_word_embeddings", gpt2),
            qkv_bias: biases("attention_bias") || family.biases == Biases::Qkv,
            output_bias: biases("attention_bias"),
            mlp_bias: biases("mlp_bias"),
            initializer_range: fields.number("initializer_range", 0.02),
            pad: raw.get("pad_token_id").and_then(Value::as_u64).map(|id| id as u32),
            raw,
        })
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

fn name_eps(gpt2: bool) -> f64 {
    if gpt2 { 1e-5 } else { 1e-6 }
}

struct Fields<'a> {
    raw: &'a Map<String, Value>,
    path: &'a Path,
}

impl Fields<'_> {
    fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = self.raw.get(key).map_or_else(|| "is missing".to_owned(), |value| format!("is {value}"));
        Error::File { path: PathBuf::from(self.path), message: format!("{key} {found}; expected {expected}") }
    }

    fn family(&self) -> Result<&'static Family> {
        let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
        let name = self.raw.get("model_type").and_then(Value::as_str);
        let found = name.and_then(|name| FAMILIES.iter().find(|family| family.model_type == name));
        found.ok_or_else(|| self.wrong("model_type", &format!("one of {}", known.join(", "))))
    }

    fn positive(&self, key: &str) -> Result<usize> {
        let value = self.raw.get(key).and_then(Value::as_u64).filter(|value| *value > 0 && *value < 1 << 32);
        value.map(|value| value as usize).ok_or_else(|| self.wrong(key, "a positive integer"))
    }

    fn positive_or(&self, key: &str, default: usize) -> Result<usize> {
        match self.raw.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(_) => self.positive(key),
        }
    }

    fn number(&self, key: &str, default: f64) -> f64 {
        self.raw.get(key).and_then(Value::as_f64).unwrap_or(default)
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        self.raw.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    fn refuse(&self, key: &str, why: &str) -> Result<()> {
        match self.flag(key, false) {
            true => Err(Error::file(self.path, format!("{key} is true: {why}"))),
            false => Ok(()),
        }
    }

    fn activation(&self, key: &str, gpt2: bool) -> Result<Unary> {
        let default = if gpt2 { "gelu_new" } else { "silu" };
        match self.raw.get(key).map_or(Some(default), Value::as_str) {
            Some("silu" | "swish") => Ok(Unary::Silu),
            Some("gelu") => Ok(Unary::Gelu),
            Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Unary::GeluTanh),
            Some("relu") => Ok(Unary::Relu),
            _ => Err(self.wrong(key, "one of gelu, gelu_new, gelu_pytorch_tanh, relu, silu")),
        }
    }
}
