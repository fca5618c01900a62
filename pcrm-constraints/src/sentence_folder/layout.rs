//! The settings in the files of a sentence-transformers folder, of any release.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use pcrm_core::model::folder;
use pcrm_core::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::FolderOptions;
use crate::pooling::Pooling;

/// File names of the transformer's own settings, in sentence-transformers' order of lookup.
const TRANSFORMER_SETTINGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

#[derive(Debug)]
pub(super) struct FolderLayout {
    pub root: PathBuf,
    pub transformer: PathBuf,
    pub pooling: Option<Pooling>,
    pub normalize: bool,
    pub max_tokens: usize,
    lowercase: bool,
    /// The prefix of every text.
    prompt: String,
}

impl FolderLayout {
    pub fn read(options: &FolderOptions) -> Result<Self> {
        let root = options.path.clone();
        if !root.is_dir() {
            let message = "is not a folder; expected a sentence-transformers folder";
            return Err(Error::file(root, message));
        }
        let modules = Modules::read(&root)?;
        let prompt = read_prompt(&root)?;
        let pooling = match (options.pooling, &modules.pooling) {
            (Some(pooling), _) => Some(pooling),
            (None, Some(folder)) => read_pooling(folder, &prompt)?,
            (None, None) => None,
        };
        let settings = Settings::read(&modules.transformer)?;
        let max_tokens = match options.max_tokens.or(settings.max_seq_length) {
            Some(limit) => limit,
            None => own_limit(&modules.transformer)?,
        };
        Ok(Self {
            root,
            pooling,
            prompt,
            normalize: options.normalize.unwrap_or(modules.normalize),
            max_tokens,
            lowercase: settings.do_lower_case,
            transformer: modules.transformer,
        })
    }

    /// Returns the text that the tokenizer gets: with the folder's prompt before it, and in lower case if
    /// configured.
    pub fn prepared<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let text = match self.prompt.as_str() {
            "" => Cow::Borrowed(text),
            prompt => Cow::Owned(format!("{prompt}{text}")),
        };
        if self.lowercase { Cow::Owned(text.to_lowercase()) } else { text }
    }

    /// Returns all settings that change vectors.
    pub fn settings(&self) -> impl std::fmt::Debug {
        (self.pooling, self.normalize, self.max_tokens, self.lowercase, self.prompt.clone())
    }
}

/// The folder's modules, in the only supported order: a transformer, pooling, optional normalisation.
struct Modules {
    transformer: PathBuf,
    pooling: Option<PathBuf>,
    normalize: bool,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Modules {
    fn read(root: &Path) -> Result<Self> {
        let path = root.join("modules.json");
        let Some(listed) = read_json::<Vec<Module>>(&path)? else {
            // Without modules.json, use the default places.
            let pooling = root.join("1_Pooling");
            let pooling = pooling.is_dir().then_some(pooling);
            return Ok(Self { transformer: root.to_path_buf(), pooling, normalize: false });
        };
        let mut modules = Self { transformer: root.to_path_buf(), pooling: None, normalize: false };
        // Classes have moved between Python modules; their names have not changed.
        let classes = listed.iter().map(|module| module.kind.rsplit('.').next().unwrap_or_default());
        for (at, (module, class)) in listed.iter().zip(classes).enumerate() {
            if !Path::new(&module.path)
                .components()
                .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
            {
                let message = format!("module {at} has the path {:?}; expected a subfolder", module.path);
                return Err(Error::file(path, message));
            }
            let folder = root.join(&module.path);
            match (at, class) {
                (0, "Transformer") => modules.transformer = folder,
                (1, "Pooling") => modules.pooling = Some(folder),
                (2, "Normalize") => modules.normalize = true,
                _ => {
                    let message = format!(
                        "module {at} is {:?}; expected a Transformer, a Pooling and optionally a Normalize, \
                         in this order",
                        module.kind
                    );
                    return Err(Error::file(path, message));
                }
            }
        }
        Ok(modules)
    }
}

/// Reads the pooling from a module's `config.json`; `None` if there is no such file.
fn read_pooling(folder: &Path, prompt: &str) -> Result<Option<Pooling>> {
    let path = folder.join("config.json");
    let Some(config) = read_json::<Map<String, Value>>(&path)? else { return Ok(None) };
    let refuse = |found: String| {
        let message = format!("found {found}, expected one pooling of cls, mean, max and lasttoken");
        Err(Error::file(&path, message))
    };
    let flags = config.iter().filter(|(key, _)| *key == "include_prompt" || key.starts_with("pooling_mode_"));
    for (key, value) in flags {
        expect(&path, key, value, Value::is_boolean, "true or false")?;
    }
    if !prompt.is_empty() && config.get("include_prompt") == Some(&Value::Bool(false)) {
        return refuse(format!("\"include_prompt\": false beside the prompt {prompt:?}"));
    }
    // Since release 5 one name or several; before that a flag for each.
    let named: Vec<&str> = match config.get("pooling_mode") {
        Some(Value::String(mode)) => vec![mode.as_str()],
        Some(Value::Array(modes)) => modes.iter().map(|mode| mode.as_str().unwrap_or("?")).collect(),
        Some(other) => return refuse(format!("\"pooling_mode\": {other}")),
        None => {
            let flags = config.iter().filter(|(_, value)| **value == Value::Bool(true));
            flags.filter_map(|(key, _)| key.strip_prefix("pooling_mode_")).map(mode_of_flag).collect()
        }
    };
    match named[..] {
        ["cls"] => Ok(Some(Pooling::Cls)),
        ["mean"] => Ok(Some(Pooling::Mean)),
        ["max"] => Ok(Some(Pooling::Max)),
        ["lasttoken"] => Ok(Some(Pooling::LastToken)),
        [] => refuse("none".to_owned()),
        _ => refuse(named.join(" and ")),
    }
}

fn mode_of_flag(flag: &str) -> &str {
    match flag {
        "cls_token" => "cls",
        "mean_tokens" => "mean",
        "max_tokens" => "max",
        "weightedmean_tokens" => "weightedmean",
        other => other,
    }
}

#[derive(Default, Deserialize)]
struct Settings {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

impl Settings {
    fn read(transformer: &Path) -> Result<Self> {
        for name in TRANSFORMER_SETTINGS {
            if let Some(settings) = read_json(&transformer.join(name))? {
                return Ok(settings);
            }
        }
        Ok(Self::default())
    }
}

/// Returns the token limit if no setting has one: the smaller of the tokenizer's limit and the model's
/// positions.
fn own_limit(transformer: &Path) -> Result<usize> {
    let number = |file: &str, key: &str| -> Result<Option<usize>> {
        let config = read_json::<Map<String, Value>>(&transformer.join(file))?;
        let value = config.as_ref().and_then(|config| config.get(key)).unwrap_or(&Value::Null);
        expect(&transformer.join(file), key, value, Value::is_number, "a number or null")?;
        // transformers writes 1e30 for "none".
        Ok(value.as_f64().filter(|limit| (1.0..1e9).contains(limit)).map(|limit| limit as usize))
    };
    let positions = number("config.json", "max_position_embeddings")?;
    let before = positions_before(transformer)?;
    let limits = [
        number("tokenizer_config.json", "model_max_length")?,
        positions.map(|positions| positions.saturating_sub(before).max(1)),
    ];
    limits.into_iter().flatten().min().ok_or_else(|| {
        Error::file(
            transformer,
            "no limit of tokens: looked for max_seq_length in sentence_bert_config.json, model_max_length in \
             tokenizer_config.json and max_position_embeddings in config.json; expected one, or \
             \"max_tokens\" in the encoder's own configuration",
        )
    })
}

/// Returns the number of positions before that of the first token: RoBERTa and its kin count from the id after the
/// padding token's.
fn positions_before(transformer: &Path) -> Result<usize> {
    let config = read_json::<Map<String, Value>>(&transformer.join("config.json"))?.unwrap_or_default();
    let counts_padding = config
        .get("model_type")
        .and_then(Value::as_str)
        .is_some_and(|kind| matches!(kind, "roberta" | "xlm-roberta" | "camembert" | "mpnet"));
    let pad = config.get("pad_token_id").and_then(Value::as_u64).unwrap_or(1);
    Ok(if counts_padding { pad as usize + 1 } else { 0 })
}

/// Reads the prompt that the folder puts before every text by default.
fn read_prompt(root: &Path) -> Result<String> {
    let path = root.join("config_sentence_transformers.json");
    let config = read_json::<Map<String, Value>>(&path)?.unwrap_or_default();
    if let Some(name) = config.get("default_prompt_name") {
        expect(&path, "default_prompt_name", name, Value::is_string, "text or null")?;
    }
    let Some(name) = config.get("default_prompt_name").and_then(Value::as_str) else {
        return Ok(String::new());
    };
    match config.get("prompts").and_then(|prompts| prompts.get(name)).and_then(Value::as_str) {
        Some(prompt) => Ok(prompt.to_owned()),
        None => {
            let message =
                format!("\"default_prompt_name\" is {name:?}, expected the name of one of \"prompts\"");
            Err(Error::file(path, message))
        }
    }
}

/// Reads a file's content; `None` if there is no file.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match path.try_exists() {
        Ok(true) => {
            let bytes = folder::read(path)?;
            serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::file(path, error.to_string()))
        }
        Ok(false) => Ok(None),
        Err(cause) => Err(Error::Io { path: path.to_path_buf(), cause }),
    }
}

/// Fails if a value is neither null nor of its key's type.
fn expect(path: &Path, key: &str, value: &Value, holds: fn(&Value) -> bool, expected: &str) -> Result<()> {
    match value.is_null() || holds(value) {
        true => Ok(()),
        false => Err(Error::file(path, format!("{key} is {value}; expected {expected}"))),
    }
}
