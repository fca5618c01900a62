//! Data with several answers to a prompt, or with human scores of single answers.

use anyhow::{Context, Result, bail, ensure};
use pcrm_core::data::conversation::{Content, Message};
use pcrm_core::data::scored::is_models;
use pcrm_core::text::Tokenizer;
use pcrm_eval::Labels;
use serde_json::Value;

use super::fields::{ANSWERS, GivenFields, HUMAN};
use crate::record::{Record, keys, named};

/// A record's prompt and answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// The prompt.
    pub prompt: Content,
    /// The answers.
    pub answers: Vec<String>,
    /// The labels of the answers.
    pub labels: Labels,
    /// True if the record is one of several answers to its prompt.
    pub single: bool,
}

const LISTS: [&str; 5] = ["responses", "answers", "completions", "candidates", "outputs"];

/// Returns true for records of this kind: lists of answers, or one answer if human scores were requested.
pub fn is_set(record: &Record, fields: &GivenFields) -> bool {
    let strings = |items: &[Value]| !items.is_empty() && items.iter().all(Value::is_string);
    let list = |name: &str| record.get(name).and_then(Value::as_array).is_some_and(|items| strings(items));
    (list("chosen") && list("rejected"))
        || (!record.contains_key("chosen") && LISTS.into_iter().any(list))
        || (fields.human_field.is_some() && !record.contains_key("chosen"))
}

/// Returns the column that seems to hold human scores of a record's only answer, as `--human-field` reads it.
pub fn ratings(record: &Record) -> Option<String> {
    const NAMES: [&str; 8] =
        ["human_score", "human_scores", "human", "rating", "ratings", "scores", "score", "overall"];
    let single = ANSWERS.iter().any(|name| record.get(*name).is_some_and(Value::is_string));
    if record.contains_key("chosen") || !single {
        return None;
    }
    NAMES.iter().filter(|name| !is_models(record, name)).find_map(|name| match record.get(*name)? {
        Value::Number(_) => Some((*name).to_owned()),
        Value::Object(parts) => {
            let number = |part: &&String| parts.get(*part).is_some_and(Value::is_number);
            let overall = parts.keys().find(|part| *part == "overall").filter(number);
            let part = overall.or_else(|| parts.keys().find(number))?;
            Some(format!("/{name}/{part}"))
        }
        _ => None,
    })
}

/// Reads a record of this kind.
///
/// # Errors
/// Fails, with what was expected, if a field is missing or has the wrong type.
pub fn read(record: &Record, fields: &GivenFields) -> Result<Answers> {
    let prompt = prompt(record, fields)?;
    if record.contains_key("chosen") {
        let (chosen, rejected) = (texts(record, "chosen")?, texts(record, "rejected")?);
        let correct = [vec![true; chosen.len()], vec![false; rejected.len()]].concat();
        let labels = Labels::Correct(correct);
        return Ok(Answers { prompt, answers: [chosen, rejected].concat(), labels, single: false });
    }
    let named = fields.human(record)?;
    if let Some(list) = LISTS.into_iter().find(|name| record.contains_key(*name)) {
        let answers = texts(record, list)?;
        if fields.human_field.is_none() {
            refuse_two_orders(record, list)?;
        }
        let human = match (named, record.get("scores")) {
            (Some(human), _) => human,
            (None, Some(scores)) => super::fields::numbers("scores", scores)?,
            (None, None) => bail!(
                "{list:?} without scores (keys: {}); expected scores, ranks or --human-field",
                keys(record)
            ),
        };
        ensure!(human.len() == answers.len(), "{} answers and {} scores", answers.len(), human.len());
        return Ok(Answers { prompt, answers, labels: Labels::Human(human), single: false });
    }
    let human = named.context("no human score; name its column with --human-field")?;
    ensure!(human.len() == 1, "{} human scores of one answer; expected one", human.len());
    let answer = ANSWERS.iter().find_map(|name| record.get(*name)?.as_str());
    let answer = answer.with_context(|| {
        format!("no answer (keys: {}); expected one of {}", keys(record), ANSWERS.join(", "))
    })?;
    Ok(Answers { prompt, answers: vec![answer.to_owned()], labels: Labels::Human(human), single: true })
}

/// Refuses scores beside ranks, as reading pairs does: one of them would order the answers unnoticed.
fn refuse_two_orders(record: &Record, list: &str) -> Result<()> {
    let is_list = |name: &&&str| record.get(**name).is_some_and(Value::is_array);
    let scores = ["scores"].iter().chain(&HUMAN).find(is_list);
    let ranks = ["ranks", "rank", "ranking"].iter().find(is_list);
    match (scores, ranks) {
        (Some(scores), Some(ranks)) => bail!(
            "both {scores:?} and {ranks:?} rank {list:?}; expected one of them: drop the other, or name one with \
             --human-field"
        ),
        _ => Ok(()),
    }
}

impl Answers {
    /// Returns prompt and answer as a model sees them: with the chat template if there is one, as the
    /// benchmarks' reference implementations do, else as plain text.
    pub fn contents(&self, answer: &str, tokenizer: &Tokenizer) -> (Content, Content) {
        match &self.prompt {
            Content::Text(prompt) if tokenizer.has_chat_template() => (
                Content::Messages(vec![Message::new("user", prompt.clone())]),
                Content::Messages(vec![Message::new("assistant", answer)]),
            ),
            Content::Text(prompt) => (Content::Text(prompt.clone()), Content::Text(answer.to_owned())),
            turns => (turns.clone(), Content::Messages(vec![Message::new("assistant", answer)])),
        }
    }
}

fn prompt(record: &Record, fields: &GivenFields) -> Result<Content> {
    let value = match &fields.group_field {
        Some(field) => Some(named(record, field, "--group-field")?),
        None => super::fields::prompt_column(record),
    };
    let value = value.with_context(|| {
        format!(
            "no prompt (keys: {}); expected prompt, question or instruction, or --group-field",
            keys(record)
        )
    })?;
    Content::from_value(value).map_err(|message| anyhow::anyhow!("the prompt: {message}"))
}

fn texts(record: &Record, name: &str) -> Result<Vec<String>> {
    let items = record.get(name).and_then(Value::as_array);
    let texts = items.and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
    let texts: Vec<String> = texts.with_context(|| format!("{name:?}: expected a list of texts"))?;
    ensure!(!texts.is_empty(), "{name:?} is an empty list; expected texts");
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(value: Value) -> Record {
        value.as_object().unwrap().clone()
    }

    /// Protects: a column of human scores is proposed, but not for pairs or columns without numbers.
    #[test]
    fn human_scores_are_proposed() {
        let proposed = |value: Value| ratings(&record(value));
        let overall = json!({"source": "q", "system_output": "a", "scores": {"fluency": 1, "overall": 2}});
        assert_eq!(proposed(overall).as_deref(), Some("/scores/overall"));
        assert_eq!(proposed(json!({"prompt": "q", "response": "a", "rating": 4})).as_deref(), Some("rating"));
        assert_eq!(proposed(json!({"prompt": "q", "chosen": "a", "rejected": "b", "score": 4})), None);
        assert_eq!(proposed(json!({"prompt": "q", "response": "a", "rating": "good"})), None);
        let scored =
            json!({"prompt": "q", "response": "a", "score": 4, "scored_by": "pcrm:rm@0123456789abcdef"});
        assert_eq!(proposed(scored), None);
    }

    /// Protects: every documented form is recognised, and pairs are left to the pair loader.
    #[test]
    fn forms_are_distinguished() {
        let plain = GivenFields::default();
        let bench = record(json!({"prompt": "p", "chosen": ["a"], "rejected": ["b", "c"]}));
        assert!(is_set(&bench, &plain));
        let read_bench = read(&bench, &plain).unwrap();
        assert_eq!(read_bench.answers, ["a", "b", "c"]);
        assert_eq!(read_bench.labels, Labels::Correct(vec![true, false, false]));
        let ranked = record(json!({"prompt": "p", "responses": ["a", "b"], "rank": [2, 1]}));
        assert_eq!(read(&ranked, &plain).unwrap().labels, Labels::Human(vec![-2.0, -1.0]));
        let rated = record(json!({"source": "p", "system_output": "a", "scores": {"overall": 3.5}}));
        let fields = GivenFields { human_field: Some("/scores/overall".into()), ..GivenFields::default() };
        assert!(is_set(&rated, &fields) && !is_set(&rated, &plain));
        assert!(read(&rated, &fields).unwrap().single);
        for pair in
            [json!({"chosen": "a", "rejected": "b"}), json!({"chosen": [{"role": "user"}], "rejected": []})]
        {
            assert!(!is_set(&record(pair), &plain));
        }
    }

    /// Protects: errors name what is missing.
    #[test]
    fn misfits_are_explained() {
        let said = |value: Value| format!("{:#}", read(&record(value), &GivenFields::default()).unwrap_err());
        assert!(said(json!({"responses": ["a"]})).starts_with("no prompt (keys: responses)"));
        assert!(said(json!({"prompt": "p", "responses": ["a"]})).contains("without scores"));
        let uneven = said(json!({"prompt": "p", "responses": ["a"], "scores": [1, 2]}));
        assert_eq!(uneven, "1 answers and 2 scores");
        for (scores, ranks) in [("scores", "ranks"), ("scores", "ranking"), ("ratings", "rank")] {
            let both = json!({"prompt": "p", "responses": ["a", "b"], scores: [2, 1], ranks: [2, 1]});
            let expected = format!("both {scores:?} and {ranks:?} rank \"responses\"; expected one of them");
            assert!(said(both.clone()).starts_with(&expected), "{}", said(both));
            let fields = GivenFields { human_field: Some(scores.to_owned()), ..GivenFields::default() };
            assert_eq!(read(&record(both), &fields).unwrap().labels, Labels::Human(vec![2.0, 1.0]));
        }
        let empty = said(json!({"prompt": "p", "chosen": ["a"], "rejected": []}));
        assert!(empty.contains("\"rejected\" is an empty list"), "{empty}");
    }
}
