//! Options of runs: merging of tables, and substitution of axis values.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::recipe::Verb;

/// The options that a study sets itself; a recipe may not set them.
const WIRED: [&str; 11] = [
    "model",
    "data",
    "eval-data",
    "output",
    "seed",
    "threads",
    "resume",
    "config",
    "truth",
    "random-init",
    "reference",
];

/// The options that a study also sets for commands that use a reward model.
const REWARDED: [&str; 2] = ["reward", "combine"];

/// Returns true if the study itself sets an option of a command.
pub fn is_wired(verb: &str, option: &str) -> bool {
    let is_rewarded = Verb::ALL.iter().any(|known| known.name() == verb);
    WIRED.contains(&option) || (is_rewarded && REWARDED.contains(&option))
}

/// Merges tables; later ones override earlier ones.
pub fn layered<'a>(tables: impl IntoIterator<Item = &'a Table>) -> Table {
    let mut all = Table::new();
    for table in tables {
        all.extend(table.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    all
}

/// Replaces every `{axis}` in a text by its value.
pub fn text(text: &str, at: &BTreeMap<String, f64>) -> String {
    at.iter()
        .fold(text.to_owned(), |text, (axis, value)| text.replace(&format!("{{{axis}}}"), &value.to_string()))
}

/// Replaces every value `"{axis}"` of a table by its number.
pub fn table(table: &Table, at: &BTreeMap<String, f64>) -> Table {
    table.iter().map(|(key, value)| (key.clone(), filled(value, at))).collect()
}

fn filled(value: &Value, at: &BTreeMap<String, f64>) -> Value {
    match value {
        Value::String(text) => {
            let axis = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
            axis.and_then(|axis| at.get(axis)).map_or_else(|| value.clone(), |number| Value::Float(*number))
        }
        Value::Array(values) => Value::Array(values.iter().map(|value| filled(value, at)).collect()),
        Value::Table(inner) => Value::Table(table(inner, at)),
        other => other.clone(),
    }
}
