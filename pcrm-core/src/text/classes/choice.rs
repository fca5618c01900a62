//! Chooses the class that `AutoTokenizer` loads a folder with.
//!
//! The table beside this file is generated from transformers (`scripts/tokenizer-classes`). Two of its rules
//! are omitted: repositories that transformers knows by their Hub id, since a folder has none, and
//! mistral-common's tokenizer, which transformers uses for Mistral models if that package is installed and
//! `tekken.json` exists.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::FROM_FILE;

/// The names in transformers' tables.
#[derive(Deserialize)]
struct Table {
    /// For each model type, the class registered for it and its fallback.
    types: HashMap<String, [Option<String>; 2]>,
    /// Model types that overrule `tokenizer_class`.
    incorrect: Vec<String>,
    /// For each class name, the class it resolves to.
    names: HashMap<String, String>,
    /// Classes written in Python, which read no tokenizer.json.
    python: Vec<String>,
}

/// Classes that use tokenizer.json unchanged, under the names that configurations use.
const PLAIN: [&str; 4] = [FROM_FILE, "PythonBackend", "PreTrainedTokenizerFast", "MistralCommonBackend"];

static TABLE: LazyLock<Option<Table>> =
    LazyLock::new(|| serde_json::from_str(include_str!("transformers.json")).ok());

/// Returns the name of the class that transformers loads a folder with.
///
/// `has_byte_level` is called only for a declared Llama class; it returns true if tokenizer.json contains
/// `"ByteLevel"`.
///
/// # Errors
/// Fails with a message if transformers finds no class, or only code from the folder.
pub(in crate::text) fn choose(
    tokenizer_config: &Map<String, Value>,
    model_config: Option<&Map<String, Value>>,
    has_byte_level: impl FnOnce() -> bool,
) -> Result<String, String> {
    let table = TABLE.as_ref().ok_or("the table of tokenizer classes cannot be read")?;
    let entry = |name: &str| model_config.and_then(|config| config.get(name)?.as_str());
    let declared = named(tokenizer_config, "tokenizer_config.json")?;
    let of_model = model_config.map_or(Ok(None), |config| named(config, "config.json"))?;
    let hub = declared.or(of_model);
    let model_type = match entry("model_type") {
        Some("mistral") if model_config.is_some_and(|config| config.contains_key("layer_types")) => {
            "ministral"
        }
        Some(model_type) => model_type,
        None => "",
    };
    let of_type = table.types.get(model_type);
    let registered = of_type.and_then(|classes| classes[0].as_deref());
    let incorrect = |name: &str| table.incorrect.iter().any(|known| known == name);
    let overruled = incorrect(model_type) || entry("model_name").is_some_and(incorrect);
    let custom = has_code(tokenizer_config);

    if !custom && !overruled && hub.map(bare) == Some("LlamaTokenizer") && has_byte_level() {
        return Ok(FROM_FILE.to_owned());
    }
    if let (false, Some(hub), Some(registered)) = (custom, hub, registered)
        && bare(registered) != bare(hub)
    {
        let registered = bare(registered);
        let wanted = if overruled { registered } else { hub };
        return Ok(match table.resolve(wanted) {
            Some(found) if !PLAIN.contains(&registered) && !PLAIN.contains(&found) => found.to_owned(),
            _ => FROM_FILE.to_owned(),
        });
    }
    if custom && !incorrect(model_type) && of_type.is_none() {
        let known = declared.is_some_and(|name| table.resolve(bare(name)).is_some());
        if !known {
            return Err(
                "auto_map: names a tokenizer class in the folder's own Python code, which is not run; \
                        save the tokenizer as PreTrainedTokenizerFast"
                    .to_owned(),
            );
        }
    }
    if let Some(declared) = declared {
        let found = table.resolve(bare(declared)).unwrap_or(FROM_FILE);
        return Ok(if found == "PythonBackend" { FROM_FILE } else { found }.to_owned());
    }
    if let Some(of_model) = of_model {
        let name = if of_model.contains("PreTrainedTokenizerFast") { of_model } else { bare(of_model) };
        return match table.resolve(name) {
            Some(found) => Ok(found.to_owned()),
            None => Err(format!(
                "tokenizer_class of config.json: transformers has no class {of_model:?}; expected a class \
                 of transformers"
            )),
        };
    }
    match of_type {
        None => Ok(FROM_FILE.to_owned()),
        Some([_, Some(fallback)]) => Ok(fallback.clone()),
        Some([_, None]) => {
            Err(format!("model_type of config.json: {model_type} has no tokenizer in transformers"))
        }
    }
}

/// Returns true if transformers implements the class in Python.
pub(super) fn is_python(class: &str) -> bool {
    TABLE.as_ref().is_some_and(|table| table.python.iter().any(|known| known == class))
}

impl Table {
    /// Resolves a class name: to itself, or, for a name that ends in `Fast`, to the class without it.
    fn resolve<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        match self.names.get(name) {
            _ if name == FROM_FILE || name == "PreTrainedTokenizerFast" => Some(FROM_FILE),
            Some(found) => Some(found),
            None => self.resolve(name.strip_suffix("Fast")?),
        }
    }
}

fn bare(name: &str) -> &str {
    name.strip_suffix("Fast").unwrap_or(name)
}

fn named<'a>(config: &'a Map<String, Value>, file: &str) -> Result<Option<&'a str>, String> {
    match config.get("tokenizer_class") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if name.is_empty() => Ok(None),
        Some(Value::String(name)) => Ok(Some(name)),
        Some(other) => Err(format!("tokenizer_class of {file}: is {other}; expected a class name")),
    }
}

/// Returns true if the folder brings its own Python class.
fn has_code(tokenizer_config: &Map<String, Value>) -> bool {
    match tokenizer_config.get("auto_map") {
        Some(Value::Array(_)) => true,
        Some(Value::Object(map)) => map.get("AutoTokenizer").is_some_and(|class| !class.is_null()),
        _ => false,
    }
}
