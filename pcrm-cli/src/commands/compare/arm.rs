//! The arms of a comparison: constraints with labels.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use crate::constraint;

/// The arms compared by default.
const DEFAULTS: [&str; 3] = ["none", "length_ratio", "fixed"];

/// A constraint and its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arm {
    /// The name in tables and folders.
    pub label: String,
    /// The constraint as JSON.
    pub constraint: String,
}

impl Arm {
    /// Returns the arms that these options name, or the default ones.
    ///
    /// # Errors
    /// Fails if a constraint cannot be built, a label appears twice or cannot name a folder, or there is only
    /// one arm.
    pub fn all(options: &[String]) -> Result<Vec<Self>> {
        let options: Vec<&str> = match options {
            [] => DEFAULTS.to_vec(),
            options => options.iter().map(String::as_str).collect(),
        };
        ensure!(options.len() > 1, "--constraint {}: expected at least two to compare", options[0]);
        let arms = options.iter().map(|option| Self::of(option)).collect::<Result<Vec<_>>>()?;
        let mut labels = BTreeSet::new();
        for arm in &arms {
            ensure!(
                labels.insert(&arm.label),
                "--constraint: two are called {:?}; label them: other={}",
                arm.label,
                arm.constraint
            );
        }
        Ok(arms)
    }

    fn of(option: &str) -> Result<Self> {
        let (label, text) = match option.split_once('=') {
            Some((label, text)) if is_label(label) => (Some(label), text),
            _ => (None, option),
        };
        let constraint = constraint::meant(text).with_context(|| format!("--constraint {option}"))?;
        let label = label.unwrap_or_else(|| constraint.kind()).to_owned();
        Ok(Self { label, constraint: constraint.to_tagged()?.to_string() })
    }
}

fn is_label(text: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    !text.is_empty() && text.chars().all(fits) && !text.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(options: &[&str]) -> Result<Vec<String>> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        Ok(Arm::all(&options)?.into_iter().map(|arm| arm.label).collect())
    }

    /// Protects: labels are given or taken from the kind; an equals sign inside JSON does not end a label.
    #[test]
    fn labels_are_given_or_the_kind() {
        assert_eq!(labels(&[]).unwrap(), ["none", "length_ratio", "fixed"]);
        let tight = r#"tight={"kind": "fixed", "bound": 1}"#;
        assert_eq!(labels(&["none", tight, "fixed"]).unwrap(), ["none", "tight", "fixed"]);
        let json = r#"{"kind": "fixed", "bound": 1, "a=b": 1}"#;
        assert!(labels(&["none", json]).unwrap_err().root_cause().to_string().contains("a=b"));
    }

    /// Protects: arms that cannot be told apart are refused before training.
    #[test]
    fn doubtful_arms_are_refused() {
        let said = |options: &[&str]| format!("{:#}", labels(options).unwrap_err());
        assert!(said(&["fixed", "fixed"]).contains("two are called \"fixed\""));
        assert!(said(&["none"]).contains("at least two"));
        assert!(said(&["none", "tight=fixxed"]).contains("unknown constraint \"fixxed\""));
    }
}
