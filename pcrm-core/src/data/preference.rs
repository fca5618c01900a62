//! Preference pairs from files.

use std::path::PathBuf;

use serde_json::Value;

use super::conversation::kind_of;
pub use super::conversation::{Content, Message};
use super::load::{Reader, Record, Refusal, load};
pub use super::report::{Origin, Problem, ProblemKind, Report, Strictness};
use super::schema::Schema;
use crate::error::Result;

/// A prompt's two answers, the first preferred to the second.
#[derive(Debug, Clone, PartialEq)]
pub struct Preference {
    /// Where it stands.
    pub origin: Origin,
    /// The prompt; none if both answers contain it.
    pub prompt: Option<Content>,
    /// The preferred answer.
    pub chosen: Content,
    /// The dispreferred answer.
    pub rejected: Content,
    /// By how much the data says that one is better.
    pub margin: Option<f32>,
}

/// Reads preference pairs from JSON lines or JSON arrays, plain, gzip or zstd.
///
/// Each file's schema is told by its first usable record. Left out, or refused with [`Strictness::Refuse`], are
/// malformed records, ties (a `margin` of 0, or equal scores in columns of their own), identical answers and
/// empty ones.
///
/// # Errors
/// A file that cannot be read or has no records, no usable record at all, and with [`Strictness::Refuse`] the
/// first unusable one.
pub fn load_preferences(paths: &[PathBuf], strictness: Strictness) -> Result<(Vec<Preference>, Report)> {
    let read = |schema, record: Record, origin| {
        let pair = read_pair(schema, &record, origin)?;
        check_preference(&pair, &record)?;
        Ok(pair)
    };
    load(paths, strictness, &Reader { schema_of: Schema::of_pair, read })
}

/// Reads a pair whose schema is known.
pub(super) fn read_pair(schema: Schema, record: &Record, origin: Origin) -> Result<Preference, Refusal> {
    let malformed = |message: String| (ProblemKind::Malformed, message);
    let content = |key: &str| content_at(record, key);
    let margin = match record.get("margin") {
        None | Some(Value::Null) => None,
        Some(value) => match value.as_f64().map(|margin| margin as f32).filter(|margin| margin.is_finite()) {
            Some(margin) => Some(margin),
            None => return Err(malformed(format!("\"margin\" is {value}; expected a number"))),
        },
    };
    let (prompt, chosen, rejected) = match schema {
        Schema::StandardExplicit | Schema::ConversationalExplicit => {
            (Some(content("prompt")?), content("chosen")?, content("rejected")?)
        }
        Schema::Question => (Some(content("question")?), content("chosen")?, content("rejected")?),
        Schema::ConversationalTextPrompt => {
            let (chosen, rejected) = (content("chosen")?, content("rejected")?);
            (text_prompt(&record["prompt"], &chosen), chosen, rejected)
        }
        Schema::Alpaca => {
            let answer = |key: &str| Content::Messages(vec![Message::new("assistant", text(record, key))]);
            (Some(Content::Messages(alpaca_prompt(record))), answer("chosen"), answer("rejected"))
        }
        Schema::ShareGpt => {
            let turn = |key: &str| {
                Message::from_sharegpt(&record[key])
                    .map(|turn| Content::Messages(vec![turn]))
                    .map_err(|message| malformed(format!("{key:?}: {message}")))
            };
            let turns = record["conversations"].as_array().into_iter().flatten().map(Message::from_sharegpt);
            let mut prompt = turns
                .collect::<Result<Vec<_>, _>>()
                .map_err(|message| malformed(format!("\"conversations\": {message}")))?;
            if let Some(system) = record.get("system").and_then(Value::as_str).filter(|text| !text.is_empty())
            {
                prompt.insert(0, Message::new("system", system));
            }
            (Some(Content::Messages(prompt)), turn("chosen")?, turn("rejected")?)
        }
        _ => (None, content("chosen")?, content("rejected")?),
    };
    if chosen.is_conversation() {
        refuse_template_columns(record)?;
    }
    for (key, answer) in [("chosen", &chosen), ("rejected", &rejected)] {
        let dialogue_is_open = schema == Schema::HhDialogues
            && matches!(answer, Content::Text(text) if text.trim_end().ends_with("\n\nAssistant:"));
        if answer.is_blank() || dialogue_is_open {
            return Err((ProblemKind::EmptyAnswer, format!("{key:?} has an empty answer")));
        }
    }
    Ok(Preference { origin, prompt, chosen, rejected, margin })
}

/// Columns that TRL hands to the chat template; ignoring them would train on other text.
pub(super) fn refuse_template_columns(record: &Record) -> Result<(), Refusal> {
    for key in ["tools", "chat_template_kwargs"] {
        let blank = match record.get(key) {
            None | Some(Value::Null) => true,
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(fields)) => fields.is_empty(),
            Some(Value::String(text)) => text.is_empty() || text == "[]",
            Some(_) => false,
        };
        if !blank {
            return Err((
                ProblemKind::Unsupported,
                format!("{key:?} for the chat template is not supported"),
            ));
        }
    }
    Ok(())
}

/// A pair that is well-formed but prefers nothing.
fn check_preference(pair: &Preference, record: &Record) -> Result<(), Refusal> {
    if pair.chosen == pair.rejected {
        return Err((ProblemKind::Identical, "\"chosen\" and \"rejected\" are the same".to_owned()));
    }
    if pair.margin == Some(0.0) {
        return Err((ProblemKind::Tie, "\"margin\" is 0: a tie".to_owned()));
    }
    let scores = [
        ("score_chosen", "score_rejected"),
        ("chosen_score", "rejected_score"),
        ("chosen_gpt_score", "rejected_gpt_score"),
        ("chosen_rating", "rejected_rating"),
    ];
    for (chosen, rejected) in scores {
        let score = |key: &str| record.get(key).and_then(Value::as_f64);
        if let (Some(left), Some(right)) = (score(chosen), score(rejected))
            && left == right
        {
            return Err((ProblemKind::Tie, format!("{chosen:?} and {rejected:?} are both {left}: a tie")));
        }
    }
    Ok(())
}

/// A prompt given as text beside conversations: part of them if they begin with it, else their first turn.
fn text_prompt(prompt: &Value, chosen: &Content) -> Option<Content> {
    let prompt = prompt.as_str().unwrap_or_default();
    let Content::Messages(turns) = chosen else { return None };
    let repeated = turns.iter().any(|turn| turn.role == "user" && turn.content.trim() == prompt.trim());
    (!repeated).then(|| Content::Messages(vec![Message::new("user", prompt)]))
}

fn text(record: &Record, key: &str) -> String {
    record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The turns before an alpaca record's answer, as LLaMA-Factory makes them.
pub(super) fn alpaca_prompt(record: &Record) -> Vec<Message> {
    let mut turns = Vec::new();
    let system = text(record, "system");
    if !system.is_empty() {
        turns.push(Message::new("system", system));
    }
    for exchange in record.get("history").and_then(Value::as_array).into_iter().flatten() {
        if let (Some(asked), Some(answered)) = (exchange[0].as_str(), exchange[1].as_str()) {
            turns.extend([Message::new("user", asked), Message::new("assistant", answered)]);
        }
    }
    let parts = [text(record, "instruction"), text(record, "input")];
    let asked: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    turns.push(Message::new("user", asked.join("\n")));
    turns
}

/// Text or turns under a key that the schema promises.
pub(super) fn content_at(record: &Record, key: &str) -> Result<Content, Refusal> {
    let value = record.get(key).unwrap_or(&Value::Null);
    Content::from_value(value)
        .map_err(|message| (ProblemKind::Malformed, format!("{key:?} ({}): {message}", kind_of(value))))
}

#[cfg(test)]
mod tests;
