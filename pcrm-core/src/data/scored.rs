//! The mark of rows that `pcrm score` wrote: their scores are a model's, not people's.

use serde_json::{Map, Value};

/// The column that names the model whose scores a row has.
pub const SCORED_BY: &str = "scored_by";

/// The columns of a pair's scores: of the preferred answer and of the other.
pub const PAIR: [&str; 2] = ["chosen_score", "rejected_score"];

/// The column of a text's score.
pub const TEXT: &str = "score";

/// The beginning of a mark, which tells it from a column of the same name that names a person.
const BEGINS: &str = "pcrm:";

/// The number of hexadecimal digits of a model's digest in a mark.
const DIGITS: usize = 16;

/// Returns the mark of a model with this name and digest: `pcrm:NAME@DIGEST`, where the digest is cut.
pub fn mark(name: &str, digest: &str) -> String {
    format!("{BEGINS}{name}@{}", digest.get(..DIGITS).unwrap_or(digest))
}

/// Returns the name and digest of the model that scored the row, or `None` if the row has no mark.
pub fn scored_by(record: &Map<String, Value>) -> Option<&str> {
    record.get(SCORED_BY)?.as_str()?.strip_prefix(BEGINS)
}

/// Returns true if the row is marked and this column is one that `pcrm score` writes scores to.
pub fn is_models(record: &Map<String, Value>, column: &str) -> bool {
    (column == TEXT || PAIR.contains(&column)) && scored_by(record).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    /// Protects: only a mark makes scores a model's, not a person's name in a column of its name, and a mark
    /// claims no other column.
    #[test]
    fn a_mark_claims_the_columns_of_scores_alone() {
        let scored_by_rm = mark("rm", "0123456789abcdef0123");
        assert_eq!(scored_by_rm, "pcrm:rm@0123456789abcdef");
        let row =
            record(json!({"chosen_score": 1, "score_chosen": 2, "score": 3, "scored_by": scored_by_rm}));
        assert_eq!(scored_by(&row), Some("rm@0123456789abcdef"));
        assert!(["chosen_score", "rejected_score", "score"].iter().all(|name| is_models(&row, name)));
        assert!(!is_models(&row, "score_chosen"));
        for by in [json!("annotator 7"), json!(7), Value::Null] {
            let row = record(json!({"chosen_score": 1, "scored_by": by}));
            assert!(scored_by(&row).is_none() && !is_models(&row, "chosen_score"), "{by}");
        }
    }
}
