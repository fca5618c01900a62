//! Pairs as turns, and the formats of turns in other projects.

use serde_json::{Value, json};

use super::conversation::Message;

const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

/// A pair whose prompt ends where its answers differ.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turns {
    pub prompt: Vec<Message>,
    pub chosen: Vec<Message>,
    pub rejected: Vec<Message>,
}

impl Turns {
    /// Moves the common leading turns of both answers to the prompt; each answer keeps at least one.
    pub(super) fn apart(mut prompt: Vec<Message>, chosen: &[Message], rejected: &[Message]) -> Self {
        let shared = shared_turns(&[chosen, rejected]);
        prompt.extend_from_slice(&chosen[..shared]);
        Self { prompt, chosen: chosen[shared..].to_vec(), rejected: rejected[shared..].to_vec() }
    }

    /// Returns the single message of each answer.
    fn answers(&self) -> Result<[&Message; 2], String> {
        match (&self.chosen[..], &self.rejected[..]) {
            ([chosen], [rejected]) => Ok([chosen, rejected]),
            _ => Err("an answer of several turns; expected one".to_owned()),
        }
    }

    /// Returns the system text if the prompt begins with one, and the turns after it.
    fn system(&self) -> (Option<&str>, &[Message]) {
        match self.prompt.split_first() {
            Some((first, rest)) if first.role == "system" => (Some(&first.content), rest),
            _ => (None, &self.prompt),
        }
    }

    /// Returns the pair in LLaMA-Factory's alpaca format.
    pub(super) fn alpaca(&self) -> Result<Value, String> {
        let (system, turns) = self.system();
        let Some((asked, before)) = turns.split_last() else {
            return Err("no prompt; expected a question".to_owned());
        };
        let roles =
            |turn: &[Message]| turn.len() == 2 && turn[0].role == "user" && turn[1].role == "assistant";
        if asked.role != "user" || !before.chunks(2).all(roles) {
            return Err("the prompt's turns do not alternate; expected user and assistant in turn".to_owned());
        }
        let [chosen, rejected] = self.answers()?;
        if let Some(other) = [chosen, rejected].into_iter().find(|answer| answer.role != "assistant") {
            return Err(format!("an answer is the {}'s; expected the assistant's", other.role));
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

    /// Returns the pair in LLaMA-Factory's sharegpt format.
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

/// Returns the number of equal leading turns of all answers; each answer keeps at least one.
pub(super) fn shared_turns(answers: &[&[Message]]) -> usize {
    let Some((first, others)) = answers.split_first() else { return 0 };
    others.iter().fold(first.len().saturating_sub(1), |most, turns| {
        let same = first.iter().zip(*turns).take_while(|(left, right)| left == right).count();
        most.min(same).min(turns.len().saturating_sub(1))
    })
}

/// Parses the turns of an HH dialogue.
///
/// # Errors
/// Fails if the text does not begin with a speaker's mark.
pub(super) fn dialogue(text: &str) -> Result<Vec<Message>, String> {
    let mut rest = text;
    let mut turns = Vec::new();
    while !rest.is_empty() {
        let (role, said) = match (rest.strip_prefix(HUMAN), rest.strip_prefix(ASSISTANT)) {
            (Some(said), _) => ("user", said),
            (_, Some(said)) => ("assistant", said),
            _ => {
                return Err(
                    "a text without a separate prompt; expected \"\\n\\nHuman: ..\" at its start".to_owned()
                );
            }
        };
        let ends = [said.find(HUMAN), said.find(ASSISTANT)].into_iter().flatten().min().unwrap_or(said.len());
        let content = &said[..ends];
        turns.push(Message::new(role, content.strip_prefix(' ').unwrap_or(content)));
        rest = &said[ends..];
    }
    Ok(turns)
}

/// Writes turns as an HH dialogue.
///
/// # Errors
/// Fails if a role does not exist in dialogues or a text contains a speaker's mark.
pub(super) fn to_dialogue<'a>(turns: impl Iterator<Item = &'a Message>) -> Result<String, String> {
    let mut text = String::new();
    for turn in turns {
        let mark = match turn.role.as_str() {
            "user" => HUMAN,
            "assistant" => ASSISTANT,
            other => {
                return Err(format!("a turn of {other:?}; HH dialogues have only users and assistants"));
            }
        };
        if turn.content.contains(HUMAN) || turn.content.contains(ASSISTANT) {
            return Err("a turn that contains a speaker's mark".to_owned());
        }
        text.push_str(mark);
        text.push(' ');
        text.push_str(&turn.content);
    }
    Ok(text)
}
