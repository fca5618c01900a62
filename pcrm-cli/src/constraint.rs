//! The values of `--constraint`: a kind, a tagged object as JSON, or the path of a file that holds one.

use std::fs;
use std::path::{MAIN_SEPARATOR, Path};

use anyhow::{Context, Result, ensure};
use pcrm_core::constraint::{self, Constraint};
use pcrm_core::registry::{self, ConstraintPlugin};
use serde_json::Value;

/// Returns the constraint that an option's text describes.
///
/// # Errors
/// Fails if the kind is unknown (the known ones are listed), the JSON or file holds no constraint, or
/// parameters are refused. The message begins with `--constraint` and names the file, if any.
pub fn read(text: &str) -> Result<Box<dyn Constraint>> {
    meant(text).context("--constraint")
}

/// Returns the constraint that a text describes, without an option in error messages.
///
/// # Errors
/// Fails as [`read`] does.
pub fn meant(text: &str) -> Result<Box<dyn Constraint>> {
    match file(text) {
        Some(path) => read_file(path).with_context(|| path.display().to_string()),
        None => Ok(constraint::parse(text)?),
    }
}

/// Returns the file named by an option's text: neither JSON nor a kind, and an existing path, a path with a
/// separator, or a name with the extension of JSON files.
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
        "is a folder; expected a JSON file with an object such as {{\"kind\": \"fixed\", \"bound\": 3}}"
    );
    let value: Value = serde_json::from_str(&fs::read_to_string(path)?)
        .context("expected one JSON object with a \"kind\"")?;
    Ok(constraint::from_tagged(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a constraint reads margins if it or one of its parts may, fitted ones through their judges.
    #[test]
    fn readers_of_margins_are_known() {
        for (text, reads) in [
            ("none", false),
            ("length_ratio", false),
            ("cosine", false),
            ("edit", false),
            ("score_gap", true),
            ("learned", true),
            ("calibrated", true),
            (r#"{"kind": "combine", "of": ["fixed", "length_ratio"]}"#, false),
            (r#"{"kind": "combine", "of": ["fixed", "score_gap"]}"#, true),
        ] {
            assert_eq!(read(text).unwrap().reads_margins(), reads, "{text}");
        }
    }

    /// Protects: JSON, kinds, paths and unknown names are distinguished by their form alone.
    #[test]
    fn files_are_distinguished_from_kinds_and_json() {
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
