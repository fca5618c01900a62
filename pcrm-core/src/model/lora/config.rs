//! The configuration of adapters, with PEFT's names and defaults.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::model::notes;

/// Modules by name or by pattern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Modules {
    /// Names of modules, or suffixes of names after a dot.
    List(Vec<String>),
    /// A regular expression that matches whole names, or `all-linear`: every linear layer but the head.
    Pattern(String),
}

/// One value or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several.
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    pub(super) fn list(&self) -> Vec<T> {
        match self {
            Self::One(value) => vec![value.clone()],
            Self::Many(values) => values.clone(),
        }
    }
}

/// A LoRA configuration, as in `peft.LoraConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoraConfig {
    /// The rank r of the adapters.
    pub r: usize,
    /// α: the change of a weight is α/r · B·A.
    #[serde(serialize_with = "number")]
    pub lora_alpha: f64,
    /// The dropout probability of an adapter's input in training.
    pub lora_dropout: f64,
    /// True to scale by α/√r instead (rsLoRA, arXiv 2312.03732).
    pub use_rslora: bool,
    /// The linear layers that get adapters; `None`: queries and values, PEFT's default for the family.
    pub target_modules: Option<Modules>,
    /// Layers that get no adapters even if `target_modules` matches them.
    pub exclude_modules: Option<Modules>,
    /// Modules that are fully trained and saved with the adapters. A reward model's head always is.
    pub modules_to_save: Option<Vec<String>>,
    /// Ranks that differ from `r`, by pattern of module names.
    #[serde(deserialize_with = "or_empty")]
    pub rank_pattern: Map<String, Value>,
    /// Values that differ from `lora_alpha`, by pattern of module names.
    #[serde(deserialize_with = "or_empty")]
    pub alpha_pattern: Map<String, Value>,
    /// The numbers of the layers that get adapters; `None`: all.
    pub layers_to_transform: Option<OneOrMany<usize>>,
    /// Names that precede the number of a layer.
    pub layers_pattern: Option<OneOrMany<String>>,
    /// True if files store linear weights `[in, out]`; written for gpt2, and otherwise ignored.
    pub fan_in_fan_out: bool,
    /// The trained biases: only `none` is supported.
    pub bias: String,
    /// The initialisation: `true` (A uniform, B zero) or `"gaussian"`.
    pub init_lora_weights: Value,
    /// True if an embedding in `modules_to_save` stays tied to the language-model head.
    pub ensure_weight_tying: bool,
    /// Other keys of the file, which saving writes again.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            use_rslora: false,
            target_modules: None,
            exclude_modules: None,
            modules_to_save: None,
            rank_pattern: Map::new(),
            alpha_pattern: Map::new(),
            layers_to_transform: None,
            layers_pattern: None,
            fan_in_fan_out: false,
            bias: "none".to_owned(),
            init_lora_weights: Value::Bool(true),
            ensure_weight_tying: false,
            other: Map::new(),
        }
    }
}

/// Writes whole numbers without a fraction, as PEFT does.
fn number<S: serde::Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if x.fract() == 0.0 && x.abs() < 9e15 {
        serializer.serialize_i64(*x as i64)
    } else {
        serializer.serialize_f64(*x)
    }
}

fn or_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Unsupported keys of `adapter_config.json` that change an adapter's function, with their features.
const REFUSED: [(&str, &str); 11] = [
    ("use_dora", "weight-decomposed adapters (DoRA)"),
    ("lora_bias", "biases of B"),
    ("target_parameters", "adapters of bare parameters"),
    ("trainable_token_indices", "single rows of an embedding"),
    ("alora_invocation_tokens", "activated adapters (aLoRA)"),
    ("use_qalora", "quantisation-aware adapters (QALoRA)"),
    ("layer_replication", "layers that are repeated"),
    ("use_bdlora", "block-diagonal adapters"),
    ("arrow_config", "routed adapters (Arrow)"),
    ("kasa_config", "adapters with singular values (KaSA)"),
    ("monteclora_config", "sampled adapters (MonteCLoRA)"),
];

/// The remedy for adapters with features that are not supported.
const MERGED: &str = "use the model that peft's merge_and_unload makes of such an adapter";

/// Keys that have no effect on an existing adapter.
const HARMLESS: [&str; 17] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    "velora_config",
    "lora_magnitude_vector",
];

impl LoraConfig {
    /// Parses `adapter_config.json`; errors name `path`.
    ///
    /// # Errors
    /// Fails if the method is not LoRA, if a key that changes the function is not supported, and if a value
    /// has the wrong type.
    pub(super) fn from_json(json: &Map<String, Value>, path: &Path) -> Result<Self> {
        match json.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            other => {
                let found = other.map_or_else(|| "is missing".to_owned(), |kind| format!("is {kind:?}"));
                return Err(Error::file(path, format!("peft_type {found}; only LORA is supported")));
            }
        }
        let config: Self =
            serde_json::from_value(Value::Object(json.clone())).map_err(|error| Error::file(path, error))?;
        config.check().map_err(|error| Error::file(path, error))?;
        let known = |key: &&String| {
            HARMLESS.contains(&key.as_str()) || REFUSED.iter().any(|(refused, _)| refused == key)
        };
        for key in config.other.keys().filter(|key| !known(key)) {
            notes::say(&format!("adapter_config.json: {key} is unknown and ignored; saving writes it again"));
        }
        Ok(config)
    }

    /// Checks values and combinations.
    ///
    /// # Errors
    /// Fails if a value is out of range, if a key is not supported, and if keys exclude each other.
    pub fn check(&self) -> Result<()> {
        let refuse = |key: &str, message: String| Err(Error::invalid(key, message));
        for (key, name) in REFUSED {
            let value = self.other.get(key).unwrap_or(&Value::Null);
            let off = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Array(values) => values.is_empty(),
                // An empty object is a configuration of defaults.
                _ => false,
            };
            if !off {
                return refuse(key, format!("is {value}: {name} are not supported; {MERGED}"));
            }
        }
        if self.bias != "none" {
            return refuse("bias", format!("is {:?}; only \"none\" is supported; {MERGED}", self.bias));
        }
        if self.r == 0 {
            return refuse("r", "is 0; expected at least 1".to_owned());
        }
        if !self.lora_alpha.is_finite() || self.lora_alpha <= 0.0 {
            return refuse("lora_alpha", format!("is {}; expected more than 0", self.lora_alpha));
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            return refuse(
                "lora_dropout",
                format!("is {}; expected at least 0, less than 1", self.lora_dropout),
            );
        }
        self.check_initialisation()?;
        let pattern = matches!(self.target_modules, Some(Modules::Pattern(_)));
        if pattern && self.layers_to_transform.is_some() {
            let message =
                "cannot be combined with a pattern in target_modules; expected a list of modules".to_owned();
            return refuse("layers_to_transform", message);
        }
        let names = self.layers_pattern.as_ref().map_or_else(Vec::new, |pattern| pattern.list());
        if names.iter().any(|name| !name.is_empty()) && self.layers_to_transform.is_none() {
            return refuse("layers_pattern", "needs layers_to_transform".to_owned());
        }
        Ok(())
    }

    /// Checks that the initialisation has no effect on the base or on further training.
    ///
    /// # Errors
    /// Fails if it has one, and if it is not known.
    fn check_initialisation(&self) -> Result<()> {
        let init = &self.init_lora_weights;
        if matches!(init, Value::Bool(_) | Value::Null) {
            return Ok(());
        }
        let name = init.as_str().unwrap_or_default().to_lowercase();
        let changes_base = ["pissa", "olora", "corda", "loftq", "lora_ga"];
        let why = match name.as_str() {
            "gaussian" | "eva" | "orthogonal" => return Ok(()),
            "mica" => "by which B stays fixed in training; that is not supported".to_owned(),
            name if changes_base.iter().any(|method| name.starts_with(method)) => {
                format!("which changes the base; {MERGED}")
            }
            _ => "which is unknown".to_owned(),
        };
        Err(Error::invalid("init_lora_weights", format!("is {init}, {why}; expected true or \"gaussian\"")))
    }

    /// Checks that the configuration is supported for new adapters.
    ///
    /// # Errors
    /// Fails if it is not.
    pub(in crate::model) fn check_new(&self) -> Result<()> {
        self.check()?;
        let init = &self.init_lora_weights;
        match *init == json!(true) || *init == json!("gaussian") {
            true => Ok(()),
            false => {
                Err(Error::invalid("init_lora_weights", format!("is {init}; expected true or \"gaussian\"")))
            }
        }
    }
}
