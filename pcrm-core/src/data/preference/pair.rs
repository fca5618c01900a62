//! Records that hold one pair.

use std::cmp::Ordering;

use serde_json::Value;

use super::{AnswerSet, Comparison, Content, Message, Origin, Verdict};
use crate::data::asked::{PromptColumns, join, to_answer};
use crate::data::conversation::{keys_of, kind_of};
use crate::data::load::{Record, Refusal};
use crate::data::report::ProblemKind;
use crate::data::schema::{LabelKeys, Schema};
use crate::data::scored::{self, SCORED_BY, is_models};

/// Column names of scores in published data sets: of the preferred answer and of the other.
const SCORES: [(&str, &str); 8] = [
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_gpt_score", "rejected_gpt_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
    ("rating_chosen", "rating_rejected"),
    ("chosen_avg_rating", "rejected_avg_rating"),
    ("chosen_reward", "rejected_reward"),
];

fn malformed(message: String) -> Refusal {
    (ProblemKind::Malformed, message)
}

/// Reads a pair from a record whose schema is known and has one pair per record.
pub(in crate::data) fn read_pair(
    schema: Schema,
    record: &Record,
    origin: Origin,
) -> Result<AnswerSet, Refusal> {
    let content = |key: &str| content_at(record, key);
    let spoken = |key: &str| Content::Messages(vec![Message::new("assistant", text(record, key))]);
    let asked = PromptColumns::of(record).map_err(malformed)?;
    let turns = || asked.as_turns().map(|turns| Some(Content::Messages(turns)));
    let mut verdict = Verdict::Preferred;
    let (prompt, chosen, rejected) = match schema {
        Schema::StandardExplicit => (Some(content("prompt")?), content("chosen")?, content("rejected")?),
        Schema::Question => {
            let key = asked.prompt.unwrap_or("question");
            (Some(content(key)?), content("chosen")?, content("rejected")?)
        }
        Schema::ConversationalExplicit => (turns()?, content("chosen")?, content("rejected")?),
        Schema::ConversationalTextPrompt => {
            let (chosen, rejected) = (content("chosen")?, content("rejected")?);
            (text_prompt(&asked, &chosen)?, chosen, rejected)
        }
        Schema::ConversationalImplicit => {
            let (chosen, rejected) = (content("chosen")?, content("rejected")?);
            let before = asked.turns_before()?;
            let prompt = (!before.is_empty()).then_some(before);
            (prompt.map(Content::Messages), chosen, rejected)
        }
        Schema::Chat | Schema::Alpaca => {
            let prompt = asked.as_turns()?;
            to_answer(&prompt)?;
            (Some(Content::Messages(prompt)), spoken("chosen"), spoken("rejected"))
        }
        Schema::Labelled => {
            let (prompt, chosen, rejected, said) = labelled(record)?;
            verdict = said;
            (prompt, chosen, rejected)
        }
        Schema::RewardBench => {
            let prompt = Content::Messages(vec![Message::new("user", text(record, "prompt"))]);
            (Some(prompt), spoken("chosen"), spoken("rejected"))
        }
        Schema::ShareGpt => {
            let turn = |key: &str| {
                Message::from_sharegpt(&record[key])
                    .map(|turn| Content::Messages(vec![turn]))
                    .map_err(|message| malformed(format!("{key:?}: {message}")))
            };
            (turns()?, turn("chosen")?, turn("rejected")?)
        }
        _ => (None, content("chosen")?, content("rejected")?),
    };
    let [chosen, rejected] = one_system(prompt.as_ref(), [chosen, rejected])?;
    if chosen.is_conversation() {
        refuse_template_columns(record)?;
    }
    for (key, answer) in [("chosen", &chosen), ("rejected", &rejected)] {
        let dialogue_is_open = schema == Schema::HhDialogues
            && matches!(answer, Content::Text(text) if text.trim_end().ends_with("\n\nAssistant:"));
        if answer.is_blank() || dialogue_is_open {
            return Err((ProblemKind::EmptyAnswer, format!("the {key} answer is empty")));
        }
    }
    let (margin, scores) = (margin(record)?, scores(record));
    if scores.is_some_and(|(chosen, rejected)| chosen == rejected) {
        verdict = Verdict::Tied;
    }
    let comparison = Comparison { verdict, margin, scores, ..Comparison::preferring(0, 1) };
    Ok(AnswerSet { comparisons: vec![comparison], ..AnswerSet::pair(origin, prompt, chosen, rejected) })
}

/// Removes the prompt's system message from the answers, since a whole conversation may repeat it.
fn one_system(prompt: Option<&Content>, answers: [Content; 2]) -> Result<[Content; 2], Refusal> {
    let Some(Content::Messages(turns)) = prompt else { return Ok(answers) };
    let Some(system) = turns.first().filter(|turn| turn.role == "system" && turns.len() == 1) else {
        return Ok(answers);
    };
    let rest = |answer| match answer {
        Content::Messages(turns) => {
            let mut whole = vec![system.clone()];
            join(&mut whole, turns)?;
            Ok(Content::Messages(whole.split_off(1)))
        }
        text => Ok(text),
    };
    let [chosen, rejected] = answers;
    Ok([rest(chosen)?, rest(rejected)?])
}

type Labelled = (Option<Content>, Content, Content, Verdict);

/// Returns prompt, preferred answer and other answer. A prompt in an instruction column is a user turn.
fn labelled(record: &Record) -> Result<Labelled, Refusal> {
    let Some(keys) = LabelKeys::of(record) else {
        return Err(malformed(format!("no two answers with a label (keys: {})", keys_of(record))));
    };
    let (first, second) = (content_at(record, keys.answers.0)?, content_at(record, keys.answers.1)?);
    let asked = PromptColumns::of(record).map_err(malformed)?;
    let whole = |answer: &Content| match answer {
        Content::Messages(turns) => turns.first().is_some_and(|turn| turn.role != "assistant"),
        Content::Text(_) => false,
    };
    // Whole conversations need no separate prompt: a text prompt is their first question.
    let prompt = match whole(&first) && whole(&second) && !asked.is_list() {
        true => {
            let before = asked.turns_before()?;
            (!before.is_empty()).then_some(Content::Messages(before))
        }
        false => asked.content(INSTRUCTIONS)?,
    };
    let spoken = |answer: Content| match (&prompt, answer) {
        (Some(Content::Messages(turns)), Content::Text(text)) => {
            to_answer(turns)?;
            Ok(Content::Messages(vec![Message::new("assistant", text)]))
        }
        (_, answer) => Ok(answer),
    };
    let (first, second) = (spoken(first)?, spoken(second)?);
    match keys.verdict(record).map_err(malformed)? {
        Ordering::Greater => Ok((prompt, first, second, Verdict::Preferred)),
        Ordering::Less => Ok((prompt, second, first, Verdict::Preferred)),
        Ordering::Equal => Ok((prompt, first, second, Verdict::Tied)),
    }
}

/// Prompt columns that are user turns although they hold text.
pub(super) const INSTRUCTIONS: &[&str] = &["instruction", "input"];

fn margin(record: &Record) -> Result<Option<f32>, Refusal> {
    match record.get("margin") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64().map(|margin| margin as f32).filter(|margin| margin.is_finite()) {
            Some(margin) => Ok(Some(margin)),
            None => Err(malformed(format!("\"margin\" is {value}; expected a number"))),
        },
    }
}

/// Describes the first score of a record that is not a number.
pub(in crate::data) fn score_that_is_none(record: &Record) -> Option<String> {
    let columns = SCORES.iter().flat_map(|(chosen, rejected)| [chosen, rejected]);
    columns.filter(|key| !is_models(record, key)).find_map(|key| match record.get(*key) {
        None | Some(Value::Null | Value::Number(_)) => None,
        Some(other) => Some(format!("{key:?} is {other}; expected a number")),
    })
}

/// Returns the scores of a pair, under any of their names; those that `pcrm score` wrote are not the data's.
fn scores(record: &Record) -> Option<(f64, f64)> {
    let own = |key: &str| record.get(key).filter(|_| !is_models(record, key));
    let score = |key: &str| own(key).and_then(Value::as_f64).filter(|score| score.is_finite());
    SCORES.iter().find_map(|(chosen, rejected)| Some((score(chosen)?, score(rejected)?)))
}

/// Returns the reason to refuse a record for `--score-margins`: its only scores are those that `pcrm score` wrote.
pub(super) fn only_models_scores(record: &Record) -> Option<String> {
    let is_there = |key: &str| record.get(key).is_some_and(|value| !value.is_null());
    let by = scored::scored_by(record)?;
    let found = scored::PAIR.into_iter().all(is_there) && !is_there("margin") && scores(record).is_none();
    found.then(|| {
        let [chosen, rejected] = scored::PAIR;
        format!(
            "{chosen:?} and {rejected:?} are the scores of the model {by:?} ({SCORED_BY:?}), not of people; \
             --score-margins expects other scores (--field score_chosen=COLUMN and --field \
             score_rejected=COLUMN), or a column \"margin\""
        )
    })
}

/// Returns the columns of both answers' scores if the record has them; those that `pcrm score` wrote are not read.
pub(in crate::data) fn score_columns(record: &Record) -> Option<[&'static str; 2]> {
    let has = |key: &str| record.contains_key(key) && !is_models(record, key);
    SCORES
        .iter()
        .find(|(chosen, rejected)| has(chosen) && has(rejected))
        .map(|(chosen, rejected)| [*chosen, *rejected])
}

/// Returns true if the column has the name of a pair's score.
pub(in crate::data) fn is_score(column: &str) -> bool {
    SCORES.iter().any(|(chosen, rejected)| column == *chosen || column == *rejected)
}

/// Refuses columns that TRL passes to the chat template, and those of images, videos and audio; ignoring them
/// would train on other text.
pub(in crate::data) fn refuse_template_columns(record: &Record) -> Result<(), Refusal> {
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
    for key in ["images", "image", "videos", "video", "audios", "audio"] {
        let blank = match record.get(key) {
            None | Some(Value::Null) => true,
            Some(Value::Array(items)) => items.iter().all(Value::is_null),
            Some(Value::String(text)) => text.is_empty(),
            Some(_) => false,
        };
        if !blank {
            return Err((
                ProblemKind::Unsupported,
                format!("{key:?} of a conversation: only text is supported"),
            ));
        }
    }
    Ok(())
}

/// Reads a text prompt of answers that are conversations: one of their turns, or, if they hold only the answer,
/// the user turn before it.
fn text_prompt(asked: &PromptColumns<'_>, chosen: &Content) -> Result<Option<Content>, Refusal> {
    let Content::Messages(turns) = chosen else { return Ok(None) };
    let (mut before, prompt) = (asked.turns_before()?, asked.as_turns()?);
    let Some(question) = prompt.last() else { return Ok(None) };
    let (said, first) = (question.content.trim(), turns.first());
    let is_said = |turn: &Message| {
        let content = turn.content.trim();
        content == said || content.contains(said) || (!content.is_empty() && said.contains(content))
    };
    let repeated = turns.iter().any(|turn| turn.role != "assistant" && is_said(turn));
    if repeated {
        return Ok((!before.is_empty()).then_some(Content::Messages(before)));
    }
    if let Some(turn) = first.filter(|turn| turn.role != "assistant") {
        return Err(malformed(format!(
            "{:?} is not among the turns of \"chosen\", which begin with the {}'s; expected the question \
             that is answered, or no such column (--schema conversational_implicit ignores it)",
            asked.prompt.unwrap_or("prompt"),
            turn.role
        )));
    }
    before = prompt;
    Ok(Some(Content::Messages(before)))
}

fn text(record: &Record, key: &str) -> String {
    record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Returns the text or turns under a key that the schema guarantees.
pub(in crate::data) fn content_at(record: &Record, key: &str) -> Result<Content, Refusal> {
    let value = record.get(key).unwrap_or(&Value::Null);
    Content::from_value(value)
        .map_err(|message| malformed(format!("{key:?} ({}): {message}", kind_of(value))))
}
