//! Recognises a record's schema by its columns.

use serde_json::{Map, Value};

use super::Schema;
use super::columns::{answer_key, answers_key, conversation_key};
use super::labels::LabelKeys;
use super::shape::{ValueShape, has_text, mismatch};
use crate::data::asked::{PromptColumns, is_turns};
use crate::data::conversation::{keys_of, kind_of};

impl Schema {
    /// Returns the schema of a preference record.
    ///
    /// # Errors
    /// Fails if no schema fits; the message lists the keys found and those expected.
    pub fn of_pair(record: &Map<String, Value>) -> Result<Self, String> {
        let several = of_several(record);
        let (Some(chosen), Some(rejected)) = (record.get("chosen"), record.get("rejected")) else {
            if let Some(several) = several {
                return Ok(several);
            }
            if let Some(key) = answers_key(record) {
                return Err(format!(
                    "{key:?} without scores or ranks (keys: {}); expected \"scores\" or \"ranks\" of the \
                     same length as {key:?}, or a score in each answer",
                    keys_of(record)
                ));
            }
            if record.get("label").is_some_and(Value::is_boolean) {
                return Err(format!(
                    "one answer with a label, as for KTO (keys: {}); expected pairs: \"chosen\" and \
                     \"rejected\"",
                    keys_of(record)
                ));
            }
            if record.contains_key("response") && record.get("helpfulness").is_some_and(Value::is_number) {
                return Err(format!(
                    "one rated answer a record (keys: {}); expected pairs: two answers to a prompt in one \
                     record",
                    keys_of(record)
                ));
            }
            let missing = if record.contains_key("chosen") { "\"rejected\"" } else { "\"chosen\"" };
            return Err(format!(
                "no {missing} (keys: {}); expected \"chosen\" and \"rejected\", optionally with \"prompt\", \
                 \"question\" or \"instruction\"; or \"prompt\", \"responses\" and \"scores\" or \"ranks\"; \
                 or OpenAssistant messages",
                keys_of(record)
            ));
        };
        if let Some(several) = several {
            return Err(format!(
                "columns of two schemas (keys: {}); choose a schema by name: {:?} or one with \"chosen\" and \
                 \"rejected\"",
                keys_of(record),
                several.name()
            ));
        }
        let asked = PromptColumns::of(record)?;
        let prompt = asked.prompt.and_then(|key| record.get(key));
        let named = asked.prompt.unwrap_or("prompt");
        match (ValueShape::of(chosen), ValueShape::of(rejected)) {
            (ValueShape::Text, ValueShape::Text) => match (asked.prompt, prompt.map(ValueShape::of)) {
                (Some("instruction"), _) => Ok(Self::Alpaca),
                (_, Some(ValueShape::Text)) if asked.has_turns_before() => Ok(Self::Chat),
                (_, Some(ValueShape::Messages)) => Ok(Self::Chat),
                (_, Some(ValueShape::List)) if prompt.is_some_and(is_turns) => Ok(Self::Chat),
                (Some("prompt"), Some(ValueShape::Text))
                    if has_text(record, "subset") && record.contains_key("id") =>
                {
                    Ok(Self::RewardBench)
                }
                (Some("prompt"), Some(ValueShape::Text)) => Ok(Self::StandardExplicit),
                (_, Some(ValueShape::Text)) => Ok(Self::Question),
                (_, Some(_)) => Err(mismatch(named, prompt, "text or a list of messages")),
                (_, None) if asked.says_before() => Err(format!(
                    "a system message or a history without a prompt (keys: {}); name its column with \
                     --prompt-field, or choose the schema standard_implicit if the answers contain the \
                     prompt",
                    keys_of(record)
                )),
                (_, None) if is_dialogue(chosen) && is_dialogue(rejected) => Ok(Self::HhDialogues),
                (_, None) => Ok(Self::StandardImplicit),
            },
            (ValueShape::Texts, ValueShape::Texts) => match (asked.prompt, prompt.map(ValueShape::of)) {
                (Some("prompt"), Some(ValueShape::Text)) => Ok(Self::RewardBench2),
                (_, Some(ValueShape::Texts)) => Err(format!(
                    "{named:?}, \"chosen\" and \"rejected\" are lists of texts: whole columns, as \
                     Dataset.to_dict() gives; expected one record per pair, as Dataset.to_json() writes"
                )),
                (Some(other), _) => Err(format!(
                    "\"chosen\" is a list of texts beside {other:?}; expected one text in each, or the \
                     prompt in \"prompt\" as in RewardBench 2 (--prompt-field {other})"
                )),
                (None, _) => Err(mismatch("prompt", None, "text, since \"chosen\" is a list of texts")),
            },
            (ValueShape::Messages, ValueShape::Messages) => match prompt.map(ValueShape::of) {
                // A whole conversation ignores prompt columns of any name but "prompt".
                Some(_) if asked.prompt != Some("prompt") && begins_with_question(chosen) => {
                    Ok(Self::ConversationalImplicit)
                }
                Some(ValueShape::Messages) => Ok(Self::ConversationalExplicit),
                Some(ValueShape::List) if prompt.is_some_and(is_turns) => Ok(Self::ConversationalExplicit),
                Some(ValueShape::Text) => Ok(Self::ConversationalTextPrompt),
                Some(_) => Err(mismatch(named, prompt, "a list of messages, as \"chosen\" is")),
                None => Ok(Self::ConversationalImplicit),
            },
            (ValueShape::Turn, ValueShape::Turn) => match (asked.prompt, prompt) {
                (_, Some(turns)) if is_turns(turns) => Ok(Self::ShareGpt),
                (key, other) => Err(mismatch(
                    key.unwrap_or("conversations"),
                    other,
                    "a list of turns, since \"chosen\" is one turn",
                )),
            },
            (ValueShape::ByRow, _) => Err(
                "\"chosen\" holds its values under row numbers, as pandas' to_json() writes; expected one \
                 record per pair: to_json(orient=\"records\", lines=True)"
                    .to_owned(),
            ),
            (ValueShape::Other, _) => Err(mismatch("chosen", Some(chosen), "text or a list of messages")),
            _ => Err(mismatch("rejected", Some(rejected), &format!("{}, as \"chosen\" is", kind_of(chosen)))),
        }
    }

    /// Returns the schema of a record to score or train on: a pair or a single text.
    ///
    /// # Errors
    /// Fails if no schema fits; the message lists the keys found and those expected.
    pub fn of_row(record: &Map<String, Value>) -> Result<Self, String> {
        if record.contains_key("chosen") || record.contains_key("rejected") || of_several(record).is_some() {
            return Self::of_pair(record);
        }
        let shape = |key: &str| record.get(key).map(ValueShape::of);
        if let Some(key) = answer_key(record) {
            let asked = PromptColumns::of(record)?;
            return match (asked.prompt.and_then(shape), shape(key)) {
                (
                    Some(ValueShape::Messages | ValueShape::List),
                    Some(ValueShape::Messages | ValueShape::Text),
                ) => Ok(Self::ConversationalPromptCompletion),
                (Some(ValueShape::Text), Some(ValueShape::Text)) => Ok(Self::PromptCompletion),
                (Some(_), _) => Err(format!(
                    "{:?} is {} and {key:?} is {}; expected two texts or two lists of messages",
                    asked.prompt.unwrap_or_default(),
                    asked.prompt.and_then(|prompt| record.get(prompt)).map_or("missing", kind_of),
                    kind_of(&record[key])
                )),
                (None, _) => {
                    Err(format!("{key:?} without \"prompt\" or \"question\" (keys: {})", keys_of(record)))
                }
            };
        }
        if has_text(record, "instruction") && has_text(record, "output") {
            return Ok(Self::Instruction);
        }
        if conversation_key(record).is_some() {
            return Ok(Self::Messages);
        }
        match (record.get("messages"), record.get("text")) {
            (Some(messages), _) => Err(mismatch("messages", Some(messages), "a list of messages")),
            (None, Some(Value::String(_))) => Ok(Self::Text),
            (None, Some(text)) => Err(mismatch("text", Some(text), "text")),
            (None, None) => Err(format!(
                "no text and no answer (keys: {}); expected \"chosen\" and \"rejected\", \"text\", \
                 \"messages\", or \"prompt\" and \"completion\", \"response\" or \"answer\"",
                keys_of(record)
            )),
        }
    }

    /// Returns the schema of a KTO record: an answer with a label, or a pair, which is read as two answers.
    ///
    /// # Errors
    /// Fails if no schema fits; the message lists the keys found and those expected.
    pub fn of_labelled(record: &Map<String, Value>) -> Result<Self, String> {
        if record.contains_key("chosen") || record.contains_key("rejected") || of_several(record).is_some() {
            return Self::of_pair(record);
        }
        let answer = answer_key(record).or_else(|| conversation_key(record));
        match (record.contains_key("label"), answer) {
            (true, Some(_)) => Ok(Self::Kto),
            (false, Some(answer)) => Err(format!(
                "{answer:?} without \"label\" (keys: {}); expected true for a desirable answer and false for \
                 an undesirable one",
                keys_of(record)
            )),
            (_, None) => Err(format!(
                "no answer (keys: {}); expected \"prompt\", \"completion\" and \"label\", \"messages\" and \
                 \"label\", or \"chosen\" and \"rejected\"",
                keys_of(record)
            )),
        }
    }

    /// Returns the schema of a record that is read for its prompt only: a record with a prompt column, or a
    /// pair that contains its prompt.
    ///
    /// # Errors
    /// Fails if no schema fits; the message lists the keys found and those expected.
    pub fn of_prompt(record: &Map<String, Value>) -> Result<Self, String> {
        let asked = PromptColumns::of(record)?;
        match asked.prompt.map(|key| (key, ValueShape::of(&record[key]))) {
            Some((_, ValueShape::Text | ValueShape::Messages)) => Ok(Self::Prompts),
            Some((key, _)) if is_turns(&record[key]) => Ok(Self::Prompts),
            Some((key, _)) => Err(mismatch(key, record.get(key), "text or a list of messages")),
            None if record.contains_key("chosen") && record.contains_key("rejected") => Self::of_pair(record),
            None => Err(format!(
                "no prompt (keys: {}); expected \"prompt\", \"question\", \"instruction\" or \"messages\"",
                keys_of(record)
            )),
        }
    }
}

/// Returns the schema of a record that may hold several pairs, except RewardBench 2.
fn of_several(record: &Map<String, Value>) -> Option<Schema> {
    let shape = |key: &str| record.get(key).map(ValueShape::of);
    if record.contains_key("message_tree_id") && shape("prompt") == Some(ValueShape::Tree) {
        return Some(Schema::OasstTrees);
    }
    let texts = ["message_id", "text", "role"].iter().all(|key| has_text(record, key));
    if texts && (record.contains_key("parent_id") || record.contains_key("rank")) {
        return Some(Schema::OasstMessages);
    }
    if LabelKeys::of(record).is_some() {
        return Some(Schema::Labelled);
    }
    let answers = record.get(answers_key(record)?)?.as_array()?;
    let ranked = ["scores", "ranks", "rank", "ranking"];
    let inside = |answer: &Value| {
        answer.as_object().is_some_and(|answer| {
            let number = |key: &&str| answer.get(*key).is_some_and(Value::is_number);
            ["score", "rank", "overall_score", "rating", "pm_score"].iter().any(number)
                || answer.get("annotations").is_some_and(Value::is_object)
        })
    };
    let ranked = ranked.iter().any(|key| record.get(*key).is_some_and(Value::is_array))
        || (!answers.is_empty() && answers.iter().all(inside));
    ranked.then_some(Schema::Ranked)
}

/// Returns true if the first turn of a conversation is not the assistant's.
fn begins_with_question(turns: &Value) -> bool {
    turns[0]["role"].as_str().is_some_and(|role| role != "assistant")
}

fn is_dialogue(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.trim_start().starts_with("Human:") && text.contains("\n\nAssistant:"))
}
