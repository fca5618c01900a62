//! Records of answers, and the digest of the prompts that they come from.

use anyhow::Result;
use pcrm_core::data::conversation::Content;
use pcrm_core::data::prompts::Prompt as PromptRecord;
use pcrm_core::digest;
use pcrm_rl::rollout::{Prompt, Sample};
use serde_json::{Map, Value, json};

/// Columns of a prompt's record that describe other answers.
const OF_ANSWERS: [&str; 24] = [
    "chosen",
    "rejected",
    "messages",
    "responses",
    "completions",
    "label",
    "labels",
    "score",
    "scores",
    "score_chosen",
    "score_rejected",
    "chosen_score",
    "rejected_score",
    "scored_by",
    "left_out",
    "margin",
    "reward",
    "rewards",
    "true_reward",
    "rank",
    "ranks",
    "ids",
    "log_probs",
    "filtered_log_probs",
];

/// Returns the record of a prompt's answer with this number: the prompt's own columns without those that
/// describe other answers, the prompt, the answer in the form of the prompt, and its finish reason.
pub fn record(asked: &PromptRecord, answer: &str, number: usize, sample: &Sample) -> Map<String, Value> {
    let mut record = asked.columns.clone();
    record.retain(|key, _| !OF_ANSWERS.contains(&key.as_str()));
    record.insert("prompt".to_owned(), content(&asked.prompt));
    record.insert("completion".to_owned(), completion(&asked.prompt, answer));
    record.insert("sample".to_owned(), json!(number));
    record.insert("finish".to_owned(), json!(if sample.finish.is_ended() { "stop" } else { "length" }));
    record.insert("tokens".to_owned(), json!(sample.ids.len()));
    record
}

/// Returns true if the answer of a record was cut off at the limit on tokens.
pub fn is_cut_off(record: &Map<String, Value>) -> bool {
    record.get("finish").is_some_and(|finish| finish == "length")
}

/// Returns a sentence about answers that were cut off: `3 were cut off at --max-tokens 64`; `None` if none was.
pub fn cut_off(count: usize, max_tokens: usize) -> Option<String> {
    (count > 0).then(|| format!("{count} were cut off at --max-tokens {max_tokens}"))
}

/// Returns the digest of all that answers and their records take from prompts: `asked` are the rows of `prompts`.
pub fn digest_of<'a>(prompts: &[Prompt], asked: impl Iterator<Item = &'a PromptRecord>) -> Result<String> {
    let of = |(prompt, asked): (&Prompt, &PromptRecord)| {
        json!([prompt.ids, content(&asked.prompt), asked.columns])
    };
    let all: Vec<Value> = prompts.iter().zip(asked).map(of).collect();
    Ok(digest::text(&serde_json::to_string(&all)?))
}

/// Returns an answer as text, or as an assistant message if the prompt consists of messages.
fn completion(prompt: &Content, answer: &str) -> Value {
    match prompt {
        Content::Text(_) => json!(answer),
        Content::Messages(_) => json!([{"role": "assistant", "content": answer}]),
    }
}

/// Returns a prompt in the form of its file.
fn content(prompt: &Content) -> Value {
    match prompt {
        Content::Text(text) => json!(text),
        Content::Messages(turns) => turns.iter().map(|turn| Value::Object(turn.fields())).collect(),
    }
}

/// Returns the shortest decimal that parses to the same f32, or null for an answer without a score.
pub fn decimal(value: Option<f32>) -> Result<Value> {
    Ok(match value {
        Some(value) => serde_json::from_str(&value.to_string())?,
        None => Value::Null,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pcrm_core::data::report::Origin;
    use pcrm_rl::rollout::{Finish, numbered};

    use super::*;

    fn asked(columns: Value) -> PromptRecord {
        let origin = Origin { file: Path::new("x").into(), line: 1, record: 1 };
        let Value::Object(columns) = columns else { panic!("not an object") };
        PromptRecord { origin, prompt: Content::Text("q".to_owned()), columns }
    }

    /// Protects: an answer inherits its prompt's own columns, and none that describe another answer.
    #[test]
    fn answers_inherit_nothing_of_other_answers() {
        let asked = asked(json!({"id": 7, "solution": "4", "label": true, "score": 1.5, "true_reward": 2,
            "ids": [1], "log_probs": [-0.5], "chosen": "a", "rejected": "b", "margin": 1, "chosen_score": 2,
            "scored_by": "pcrm:rm@0123456789abcdef"}));
        let sample =
            Sample { ids: vec![3, 4], log_probs: vec![-1.0; 2], filtered: None, finish: Finish::Length };
        let expected = json!({"id": 7, "solution": "4", "prompt": "q", "completion": "an answer", "sample": 0,
            "finish": "length", "tokens": 2});
        assert_eq!(Value::Object(record(&asked, "an answer", 0, &sample)), expected);
    }

    /// Protects: prompts of the same tokens with other columns are other inputs, so that a resumed run does not
    /// mix both.
    #[test]
    fn other_columns_are_other_prompts() {
        let prompts = numbered([vec![1, 2]]);
        let of = |columns: Value| digest_of(&prompts, std::iter::once(&asked(columns))).unwrap();
        assert_eq!(of(json!({"id": 1})), of(json!({"id": 1})));
        assert_ne!(of(json!({"id": 1})), of(json!({"id": 2})));
    }
}
