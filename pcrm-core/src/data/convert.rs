//! Converts pairs to another schema and reports the losses.

use std::fmt;

use serde_json::{Map, Value, json};

use super::columns::Columns;
use super::conversation::{Content, Message};
use super::preference::{Preference, SourceSet, Verdict, is_score};
use super::readable::implicit_prompt;
use super::schema::Schema;
use super::scored::SCORED_BY;
use super::turns::{Turns, dialogue, to_dialogue};

/// A loss in converting a record to another schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// A column that would have another meaning in the new schema, or that refers to several answers.
    Column(String),
    /// A key of messages that the new schema cannot hold.
    MessageKey(String),
    /// Texts converted to user and assistant turns, so that a chat template will apply.
    TextsAsTurns,
    /// Turns converted to texts without roles, so that no chat template will apply.
    TurnsAsTexts,
    /// The mark of the end of the prompt.
    PromptEnd,
    /// The set that the pair belonged to.
    Grouping,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(name) => write!(f, "column {name:?} dropped"),
            Self::MessageKey(name) => write!(f, "key {name:?} of messages dropped"),
            Self::TextsAsTurns => f.write_str("texts became turns of user and assistant"),
            Self::TurnsAsTexts => f.write_str("turns became texts without roles"),
            Self::PromptEnd => f.write_str("the end of the prompt is no longer marked"),
            Self::Grouping => f.write_str("pairs of one record became separate records"),
        }
    }
}

/// The schemas that pairs can be written in.
pub const TARGETS: [Schema; 8] = [
    Schema::StandardExplicit,
    Schema::StandardImplicit,
    Schema::ConversationalExplicit,
    Schema::ConversationalImplicit,
    Schema::HhDialogues,
    Schema::Question,
    Schema::Alpaca,
    Schema::ShareGpt,
];

/// Columns with a meaning in some schema, which are not copied to the new record.
const RESERVED: &[&str] = &[
    "prompt",
    "chosen",
    "rejected",
    "question",
    "instruction",
    "input",
    "system",
    "history",
    "query",
    "context",
    "system_prompt",
    "system_message",
    "conversation",
    "trajectory",
    "conversations",
    "messages",
    "responses",
    "answers",
    "outputs",
    "completions",
    "scores",
    "ranks",
    "rank",
    "ranking",
    "text",
    "completion",
    "response",
    "answer",
    "output",
    "message_id",
    "parent_id",
    "message_tree_id",
    "role",
    "tools",
    "chat_template_kwargs",
];

/// Converts a pair of a set to another schema. Columns that no schema reads are copied unchanged.
///
/// # Errors
/// Fails with a message if the schema cannot hold the pair: several turns in texts, roles that dialogues
/// lack.
pub fn convert(
    source: &SourceSet,
    pair: Preference<'_>,
    to: Schema,
    columns: &Columns,
) -> Result<(Map<String, Value>, Vec<Loss>), String> {
    let mut losses = Vec::new();
    let Value::Object(mut record) = contents(pair, to, &mut losses)? else {
        return Err(format!("{} cannot be written", to.name()));
    };
    carry(source, pair, to, columns, &mut record, &mut losses)?;
    match Schema::of_pair(&record) {
        Ok(found) if to.admits(found) => Ok((record, losses)),
        Ok(found) => Err(format!("it would be read as {}", found.name())),
        Err(message) => Err(message),
    }
}

fn contents(pair: Preference<'_>, to: Schema, losses: &mut Vec<Loss>) -> Result<Value, String> {
    Ok(match to {
        Schema::StandardExplicit => {
            let [prompt, chosen, rejected] = texts(pair, losses)?;
            json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
        }
        Schema::Question => {
            let [prompt, chosen, rejected] = texts(pair, losses)?;
            json!({"question": prompt, "chosen": chosen, "rejected": rejected})
        }
        Schema::StandardImplicit => match (pair.prompt, pair.chosen, pair.rejected) {
            (None, Content::Text(chosen), Content::Text(rejected)) => {
                json!({"chosen": chosen, "rejected": rejected})
            }
            (Some(Content::Text(prompt)), Content::Text(chosen), Content::Text(rejected)) => {
                losses.push(Loss::PromptEnd);
                json!({"chosen": format!("{prompt}{chosen}"), "rejected": format!("{prompt}{rejected}")})
            }
            _ => return Err("a conversation; expected texts (hh_dialogues can hold it)".to_owned()),
        },
        Schema::ConversationalExplicit => {
            let Turns { prompt, chosen, rejected } = turns(pair, losses)?;
            json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
        }
        Schema::ConversationalImplicit => {
            let Turns { prompt, chosen, rejected } = turns(pair, losses)?;
            let whole = |answer: Vec<Message>| [prompt.clone(), answer].concat();
            json!({"chosen": whole(chosen), "rejected": whole(rejected)})
        }
        Schema::HhDialogues => match (pair.prompt, pair.chosen, pair.rejected) {
            (None, Content::Text(chosen), Content::Text(rejected))
                if dialogue(chosen).is_ok() && dialogue(rejected).is_ok() =>
            {
                json!({"chosen": chosen, "rejected": rejected})
            }
            _ => {
                let Turns { prompt, chosen, rejected } = turns(pair, losses)?;
                note_keys([&prompt, &chosen, &rejected], losses);
                let whole = |answer: &[Message]| to_dialogue(prompt.iter().chain(answer));
                json!({"chosen": whole(&chosen)?, "rejected": whole(&rejected)?})
            }
        },
        Schema::Alpaca => {
            let turns = turns(pair, losses)?;
            note_keys([&turns.prompt, &turns.chosen, &turns.rejected], losses);
            turns.alpaca()?
        }
        Schema::ShareGpt => {
            let turns = turns(pair, losses)?;
            note_keys([&turns.prompt, &turns.chosen, &turns.rejected], losses);
            turns.sharegpt()?
        }
        other => {
            let known = TARGETS.map(Schema::name).join(", ");
            return Err(format!("{} cannot be written; expected one of {known}", other.name()));
        }
    })
}

/// Returns the prompt and answers as texts.
fn texts(pair: Preference<'_>, losses: &mut Vec<Loss>) -> Result<[String; 3], String> {
    match (pair.prompt, pair.chosen, pair.rejected) {
        (Some(Content::Text(prompt)), Content::Text(chosen), Content::Text(rejected)) => {
            Ok([prompt.clone(), chosen.clone(), rejected.clone()])
        }
        (None, Content::Text(chosen), Content::Text(rejected)) => {
            let cut = implicit_prompt(&[chosen, rejected]);
            Ok([chosen[..cut].to_owned(), chosen[cut..].to_owned(), rejected[cut..].to_owned()])
        }
        _ => {
            let Turns { prompt, chosen, rejected } = turns(pair, losses)?;
            note_keys([&prompt, &chosen, &rejected], losses);
            let ([asked], [chosen], [rejected]) = (&prompt[..], &chosen[..], &rejected[..]) else {
                return Err(
                    "a conversation of several turns; expected one question and one answer".to_owned()
                );
            };
            if asked.role != "user" {
                return Err(format!("the prompt's turn is the {}'s; expected the user's", asked.role));
            }
            losses.push(Loss::TurnsAsTexts);
            Ok([asked, chosen, rejected].map(|turn| turn.content.clone()))
        }
    }
}

/// Returns the prompt and answers as turns.
fn turns(pair: Preference<'_>, losses: &mut Vec<Loss>) -> Result<Turns, String> {
    let message = |role: &str, text: &str| vec![Message::new(role, text)];
    match (pair.prompt, pair.chosen, pair.rejected) {
        (prompt, Content::Messages(chosen), Content::Messages(rejected)) => {
            let prompt = match prompt {
                Some(Content::Messages(prompt)) => prompt.clone(),
                Some(Content::Text(_)) => return Err("a text before conversations".to_owned()),
                None => Vec::new(),
            };
            Ok(Turns::apart(prompt, chosen, rejected))
        }
        (None, Content::Text(chosen), Content::Text(rejected)) => {
            match (dialogue(chosen), dialogue(rejected)) {
                (Ok(chosen), Ok(rejected)) => {
                    losses.push(Loss::TextsAsTurns);
                    Ok(Turns::apart(Vec::new(), &chosen, &rejected))
                }
                (Err(message), _) | (_, Err(message)) => Err(message),
            }
        }
        (Some(Content::Text(prompt)), Content::Text(chosen), Content::Text(rejected)) => {
            losses.push(Loss::TextsAsTurns);
            let whole = |answer: &str| dialogue(&format!("{prompt}{answer}"));
            if let (Ok(_), Ok(chosen), Ok(rejected)) = (dialogue(prompt), whole(chosen), whole(rejected)) {
                return Ok(Turns::apart(Vec::new(), &chosen, &rejected));
            }
            Ok(Turns {
                prompt: message("user", prompt),
                chosen: message("assistant", chosen),
                rejected: message("assistant", rejected),
            })
        }
        _ => Err("a text beside a conversation".to_owned()),
    }
}

fn note_keys(turns: [&Vec<Message>; 3], losses: &mut Vec<Loss>) {
    let keys = turns.into_iter().flatten().flat_map(|turn| turn.extra.keys());
    losses.extend(keys.map(|key| Loss::MessageKey(key.clone())));
}

/// Copies the margin, scores and other columns.
fn carry(
    source: &SourceSet,
    pair: Preference<'_>,
    to: Schema,
    columns: &Columns,
    record: &mut Map<String, Value>,
    losses: &mut Vec<Loss>,
) -> Result<(), String> {
    let (renamed, _) = columns.view(&source.record)?;
    let renamed = renamed.as_ref();
    let read = source.schema.reads(renamed);
    let beside = ["margin", "subset", "id", "scores", "ranks", "rank", "ranking", SCORED_BY];
    let is_beside = |key: &str| beside.contains(&key) || is_score(key);
    let consumed = |key: &str| read.contains(&key) && !is_beside(key);
    let many = source.schema.is_many();
    // `subset` and `id` together would make it a RewardBench record.
    let bench = to == Schema::StandardExplicit && renamed.contains_key("subset");
    losses.extend(columns.displaced(&source.record).map(|key| Loss::Column(key.to_owned())));
    for (key, value) in renamed {
        if consumed(key) {
            continue;
        }
        let dropped =
            RESERVED.contains(&key.as_str()) || (bench && key == "subset") || (many && is_score(key));
        if dropped || record.contains_key(key) {
            if !value.is_null() {
                losses.push(Loss::Column(key.clone()));
            }
        } else {
            record.insert(key.clone(), value.clone());
        }
    }
    if many {
        losses.push(Loss::Grouping);
        if let Some((chosen, rejected)) = pair.scores {
            record.insert("score_chosen".to_owned(), Value::from(chosen));
            record.insert("score_rejected".to_owned(), Value::from(rejected));
        }
    }
    // The rank or label that marked the tie is gone; equal scores mark it.
    if pair.verdict == Verdict::Tied && pair.scores.is_none() {
        for key in ["score_chosen", "score_rejected"] {
            record.insert(key.to_owned(), Value::from(0));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
