//! A pair as turns, and the forms in which other projects write turns.

use serde_json::{Value, json};

use super::conversation::Message;

const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

/// A pair whose prompt ends where its answers part.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turns {
    pub prompt: Vec<Message>,
    pub chosen: Vec<Message>,
    pub rejected: Vec<Message>,
}

impl Turns {
    /// Moves the turns that both answers begin with to the prompt; each answer keeps one at least.
    pub(super) fn apart(mut prompt: Vec<Message>, chosen: &[Message], rejected: &[Message]) -> Self {
        let shared = shared_turns(&[chosen, rejected]);
        prompt.extend_from_slice(&chosen[..shared]);
        Self { prompt, chosen: chosen[shared..].to_vec(), rejected: rejected[shared..].to_vec() }
    }

    /// The one message of each answer.
    fn answers(&self) -> Result<[&Message; 2], String> {
        match (&self.chosen[..], &self.rejected[..]) {
            ([chosen], [rejected]) => Ok([chosen, rejected]),
            _ => Err("an answer of several turns; expected one".to_owned()),
        }
    }

    /// The system's text, if the prompt begins with it, and the turns behind it.
    fn system(&self) -> (Option<&str>, &[Message]) {
        match self.prompt.split_first() {
            Some((first, rest)) if first.role == "system" => (Some(&first.content), rest),
            _ => (None, &self.prompt),
        }
    }

    /// LLaMA-Factory's alpaca form.
    pub(super) fn alpaca(&self) -> Result<Value, String> {
        let (system, turns) = self.system();
        let Some((asked, before)) = turns.split_last() else {
            return Err("no prompt; expected a question".to_owned());
        };
        let roles =
            |turn: &[Message]| turn.len() == 2 && turn[0].role == "user" && turn[1].role == "assistant";
        if asked.role != "user" || !before.chunks(2).all(roles) {
            return Err("the prompt's turns are not user and assistant by turns; expected that".to_owned());
        }
        let [chosen, rejected] = self.answers()?;
        if chosen.role != "assistant" || rejected.role != "assistant" {
            return Err(format!("an answer is the {}'s; expected the assistant's", chosen.role));
        }
        let history: Vec<Value> =
            before.chunks(2).map(|pair| json!([pair[0].content, pair[1].content])).collect();
        let mut record = json!({
            "instruction": asked.content, "input": "", "chosen": chosen.content, "rejected": rejected.content,
        });
        if let Some(system) = system {
            record["system"] = Value::from(system);
        }
        if !history.is_empty() {
            record["history"] = Value::from(history);
        }
        Ok(record)
    }

    /// LLaMA-Factory's sharegpt form.
    pub(super) fn sharegpt(&self) -> Result<Value, String> {
        let (system, turns) = self.system();
        if turns.is_empty() {
            return Err("no prompt; expected a question".to_owned());
        }
        let turn = |turn: &Message| {
            let from = match turn.role.as_str() {
                "user" => "human",
                "assistant" => "gpt",
                "tool" => "observation",
                other => other,
            };
            json!({"from": from, "value": turn.content})
        };
        let [chosen, rejected] = self.answers()?.map(turn);
        let turns: Vec<Value> = turns.iter().map(turn).collect();
        let mut record = json!({"conversations": turns, "chosen": chosen, "rejected": rejected});
        if let Some(system) = system {
            record["system"] = Value::from(system);
        }
        Ok(record)
    }
}

/// The number of turns that all answers begin with; each answer keeps one at least.
pub(super) fn shared_turns(answers: &[&[Message]]) -> usize {
    let Some((first, others)) = answers.split_first() else { return 0 };
    others.iter().fold(first.len().saturating_sub(1), |most, turns| {
        let same = first.iter().zip(*turns).take_while(|(left, right)| left == right).count();
        most.min(same).min(turns.len().saturating_sub(1))
    })
}

/// The turns of an HH dialogue.
///
/// # Errors
/// A text that does not begin with a speaker's mark.
pub(super) fn dialogue(text: &str) -> Result<Vec<Message>, String> {
    let mut rest = text;
    let mut turns = Vec::new();
    while !rest.is_empty() {
        let (role, said) = match (rest.strip_prefix(HUMAN), rest.strip_prefix(ASSISTANT)) {
            (Some(said), _) => ("user", said),
            (_, Some(said)) => ("assistant", said),
            _ => {
                return Err("a text without a prompt of its own; expected \"\\n\\nHuman: ..\" at its start"
                    .to_owned());
            }
        };
        let ends = [said.find(HUMAN), said.find(ASSISTANT)].into_iter().flatten().min().unwrap_or(said.len());
        let content = &said[..ends];
        turns.push(Message::new(role, content.strip_prefix(' ').unwrap_or(content)));
        rest = &said[ends..];
    }
    Ok(turns)
}

/// Turns as an HH dialogue.
///
/// # Errors
/// A role that dialogues do not have, and a text that holds a speaker's mark.
pub(super) fn to_dialogue<'a>(turns: impl Iterator<Item = &'a Message>) -> Result<String, String> {
    let mut text = String::new();
    for turn in turns {
        let mark = match turn.role.as_str() {
            "user" => HUMAN,
            "assistant" => ASSISTANT,
            other => {
                return Err(format!("a turn of {other:?}; HH dialogues have users and assistants alone"));
            }
        };
        if turn.content.contains(HUMAN) || turn.content.contains(ASSISTANT) {
            return Err("a turn that holds a speaker's mark".to_owned());
        }
        text.push_str(mark);
        text.push(' ');
        text.push_str(&turn.content);
    }
    Ok(text)
}
