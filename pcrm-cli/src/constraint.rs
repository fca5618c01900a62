//! What `--constraint` takes: a kind, a tagged object as JSON, or the path of a file that holds one.

use std::fs;
use std::path::{MAIN_SEPARATOR, Path};

use anyhow::{Context, Result, ensure};
use pcrm_core::constraint::{self, Constraint};
use pcrm_core::registry::{self, ConstraintPlugin};
use serde_json::Value;

/// The constraint that an option's text means.
///
/// # Errors
/// An unknown kind (the known ones are listed), JSON or a file that holds no constraint, parameters that are refused;
/// the message begins with `--constraint`, and names the file where there is one.
pub fn read(text: &str) -> Result<Box<dyn Constraint>> {
    meant(text).context("--constraint")
}

/// The same where the text stands alone and belongs to no option.
///
/// # Errors
/// As [`read`].
pub fn meant(text: &str) -> Result<Box<dyn Constraint>> {
    match file(text) {
        Some(path) => read_file(path).with_context(|| path.display().to_string()),
        None => Ok(constraint::parse(text)?),
    }
}

/// The file that an option's text means, if it means one: what is neither JSON nor a kind, and exists, has a
/// separator of paths, or ends as JSON files do.
pub fn file(text: &str) -> Option<&Path> {
    let text = text.trim();
    if text.starts_with('{') || registry::find::<ConstraintPlugin>(text).is_ok() {
        return None;
    }
    let path = Path::new(text);
    let looks_like_one = text.contains(['/', MAIN_SEPARATOR]) || text.ends_with(".json");
    (path.exists() || looks_like_one).then_some(path)
}

fn read_file(path: &Path) -> Result<Box<dyn Constraint>> {
    ensure!(
        !path.is_dir(),
        "is a folder, expected a JSON file with an object such as {{\"kind\": \"fixed\", \"bound\": 3}}"
    );
    let value: Value = serde_json::from_str(&fs::read_to_string(path)?)
        .context("expected one JSON object with a \"kind\"")?;
    Ok(constraint::from_tagged(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: what is told apart by its form alone: JSON, kinds, paths, and names that are nothing.
    #[test]
    fn files_are_told_from_kinds_and_json() {
        for (text, is_file) in [
            ("fixed", false),
            (" fixed ", false),
            ("{\"kind\": \"x/y.json\"}", false),
            ("fixxed", false),
            ("fixxed.json", true),
            ("runs/bound", true),
            (env!("CARGO_MANIFEST_DIR"), true),
        ] {
            assert_eq!(file(text).is_some(), is_file, "{text}");
        }
    }
}
