//! Columns that loaders of training data do not read: subset, id, human score, lengths.

use anyhow::{Result, bail, ensure};
use clap::Args;
use pcrm_core::data::scored::{SCORED_BY, is_models, scored_by};
use serde_json::Value;

use crate::record::{Record, column, named};

/// Options that name columns not recognised by name. A name that begins with / is a JSON pointer.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Columns")]
pub struct GivenFields {
    /// Read the subset from this column [default: the first of subset, category, section, domain or source]
    #[arg(long, value_name = "NAME|/PATH")]
    pub subset_field: Option<String>,
    /// Group answers by the prompt in this column [default: prompt, question or instruction; else source]
    #[arg(long, value_name = "NAME|/PATH")]
    pub group_field: Option<String>,
    /// Read human scores from this column [default: human_score, human_scores, human, rating, ratings; rank,
    /// ranks: 1 is best]
    #[arg(long, value_name = "NAME|/PATH")]
    pub human_field: Option<String>,
    /// Read scores from this column of --scores files [default: score_chosen and score_rejected, scores,
    /// score]
    #[arg(long, value_name = "NAME|/PATH")]
    pub score_field: Option<String>,
    /// Read scores from this column of the --compare file [default: as for --scores]
    #[arg(long, value_name = "NAME|/PATH", requires = "compare")]
    pub compare_score_field: Option<String>,
}

const SUBSETS: [&str; 5] = ["subset", "category", "section", "domain", "source"];
const PROMPTS: [&str; 3] = ["prompt", "question", "instruction"];
const IDS: [&str; 4] = ["id", "pair_id", "prompt_id", "uid"];
/// Columns of human scores.
pub const HUMAN: [&str; 5] = ["human_score", "human_scores", "human", "rating", "ratings"];
const RANKS: [&str; 2] = ["rank", "ranks"];
/// Columns that hold a record's only answer.
pub const ANSWERS: [&str; 6] = ["completion", "response", "answer", "output", "system_output", "text"];
/// The longest text that counts as a subset name, in characters.
const LONGEST_NAME: usize = 80;

impl GivenFields {
    /// Returns the record's subset.
    ///
    /// # Errors
    /// Fails if a named column is missing or is not text or a number.
    pub fn subset(&self, record: &Record) -> Result<Option<String>> {
        if let Some(field) = &self.subset_field {
            return named(record, field, "--subset-field").and_then(|value| match text(value) {
                Some(text) => Ok(Some(text)),
                None => bail!("--subset-field {field}: {value}; expected text or a number"),
            });
        }
        let known = SUBSETS.iter().filter(|name| **name != "source" || !source_is_prompt(record));
        let known = known.into_iter().find_map(|name| record.get(*name).and_then(text));
        Ok(known.filter(|name| !name.is_empty() && name.chars().count() <= LONGEST_NAME))
    }

    /// Returns the prompt of the record's answers as text; equal prompts give equal texts.
    ///
    /// # Errors
    /// Fails if a named column is missing.
    pub fn prompt(&self, record: &Record) -> Result<Option<String>> {
        let value = match &self.group_field {
            Some(field) => Some(named(record, field, "--group-field")?),
            None => prompt_column(record),
        };
        Ok(value.map(|value| text(value).unwrap_or_else(|| value.to_string())))
    }

    /// Returns the human scores of the record's answers; higher is better.
    ///
    /// # Errors
    /// Fails if a named column is missing or holds the scores of a model, or a value is not a number.
    pub fn human(&self, record: &Record) -> Result<Option<Vec<f64>>> {
        let found = match &self.human_field {
            Some(field) => {
                let value = named(record, field, "--human-field")?;
                ensure!(
                    !is_models(record, &column(field)),
                    "--human-field {field}: the score of the model {:?} ({SCORED_BY:?}), not of people; expected \
                     another column",
                    scored_by(record).unwrap_or_default()
                );
                Some((field.as_str(), value))
            }
            None => HUMAN.iter().chain(&RANKS).find_map(|name| Some((*name, record.get(*name)?))),
        };
        let Some((name, value)) = found else { return Ok(None) };
        let mut scores = numbers(name, value)?;
        // Rank 1 is the best.
        if RANKS.contains(&name.rsplit('/').next().unwrap_or(name)) {
            scores.iter_mut().for_each(|rank| *rank = -*rank);
        }
        Ok(Some(scores))
    }
}

/// Returns the record's id, if it has one.
pub fn id(record: &Record) -> Option<String> {
    IDS.iter().find_map(|name| record.get(*name)).and_then(text)
}

/// Returns the column that holds the prompt.
pub fn prompt_column(record: &Record) -> Option<&Value> {
    let source = || record.get("source").filter(|_| source_is_prompt(record));
    PROMPTS.iter().find_map(|name| record.get(*name)).or_else(source)
}

/// Returns true if `source` is the prompt and not the origin of the record.
fn source_is_prompt(record: &Record) -> bool {
    let has = |names: &[&str]| names.iter().any(|name| record.contains_key(*name));
    !has(&PROMPTS) && has(&ANSWERS)
}

/// Returns a number or a list of numbers, all finite.
///
/// # Errors
/// Fails, with the column and its value, if a value is not a finite number or the list is empty.
pub fn numbers(name: &str, value: &Value) -> Result<Vec<f64>> {
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let number = |item: &Value| {
        // Some files wrap each score in a list of its own.
        let item = item.as_array().filter(|list| list.len() == 1).map_or(item, |list| &list[0]);
        item.as_f64().filter(|number| number.is_finite())
    };
    let numbers: Option<Vec<f64>> = list.iter().map(number).collect();
    match numbers {
        Some(numbers) => {
            ensure!(!numbers.is_empty(), "{name:?} is an empty list; expected numbers");
            Ok(numbers)
        }
        None => bail!("{name:?} is {}; expected a number or a list of numbers", shortened(value)),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(value: Value) -> Record {
        value.as_object().unwrap().clone()
    }

    /// Protects: a prompt in "source" is not a subset, ranks are sorted from the best, and wrong values are
    /// shown.
    #[test]
    fn columns_are_recognised_by_their_content() {
        let fields = GivenFields::default();
        let row = record(json!({"source": "confirm(area)", "system_output": "Really?", "rank": 1}));
        assert_eq!(fields.subset(&row).unwrap(), None);
        assert_eq!(fields.prompt(&row).unwrap().as_deref(), Some("confirm(area)"));
        let row = record(json!({"source": "mmlu", "scores": [1, 2], "rank": [1, 3]}));
        assert_eq!(fields.subset(&row).unwrap().as_deref(), Some("mmlu"));
        assert_eq!(fields.prompt(&row).unwrap(), None);
        assert_eq!(fields.human(&row).unwrap(), Some(vec![-1.0, -3.0]));
        let named = GivenFields { human_field: Some("/scores/overall".into()), ..GivenFields::default() };
        let error = named.human(&row).unwrap_err().to_string();
        assert_eq!(error, "no \"/scores/overall\", named by --human-field (keys: source, scores, rank)");
        let row = record(json!({"score": 1, "rating": 2, "scored_by": "pcrm:rm@0123456789abcdef"}));
        for field in ["score", "/score"] {
            let named = GivenFields { human_field: Some(field.into()), ..GivenFields::default() };
            let error = named.human(&row).unwrap_err().to_string();
            assert!(error.contains("the score of the model \"rm@0123456789abcdef\""), "{error}");
        }
        assert_eq!(fields.human(&row).unwrap(), Some(vec![2.0]));
        let row = record(json!({"scores": {"overall": "good"}, "x": 1}));
        let error = named.human(&row).unwrap_err().to_string();
        assert!(error.contains("\"good\"; expected a number"), "{error}");
    }
}
