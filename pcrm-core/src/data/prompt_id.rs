//! The identity of prompts and of pairs, however a schema writes them.
//!
//! Splits, folds, held-out shares, repeats and overlaps all ask here, so that one prompt is one prompt to all
//! of them: its turns, with their roles, without the space around them. A text is a user's turn; an HH
//! dialogue is its turns.

use std::fmt;

use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_128;

use super::conversation::{Content, Message};
use super::preference::Preference;
use super::render::implicit_prompt;
use super::turns::{Turns, dialogue};

/// The identity of a prompt: the same for the same turns, whatever schema, file or order they come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PromptId(u128);

impl PromptId {
    /// The identity of a prompt that is a text.
    pub fn of_text(prompt: &str) -> Self {
        Self::of_turns(&text_turns(prompt))
    }

    /// The identity of a pair's prompt. Where nothing marks the prompt's end it is the text that both answers
    /// begin with; a pair without any prompt is like no other pair.
    pub fn of(pair: &Preference) -> Self {
        match (prompt_of(pair), &pair.chosen, &pair.rejected) {
            (Ok(turns), ..) if turns.iter().any(|turn| !turn.content.trim().is_empty()) => {
                Self::of_turns(&turns)
            }
            (Err(_), Content::Text(chosen), Content::Text(rejected)) => {
                match chosen[..implicit_prompt(chosen, rejected)].trim() {
                    "" => Self::of_answers(pair),
                    prompt => Self::of_text(prompt),
                }
            }
            _ => Self::of_answers(pair),
        }
    }

    /// The identity of the prompt of one answer. Without a prompt of its own it is what comes before the last
    /// turn of a conversation or of a dialogue, and the whole of any other text.
    pub fn of_answer(prompt: Option<&Content>, answer: &Content) -> Self {
        let turns = match (prompt, answer) {
            (Some(prompt), _) => turns_of(prompt),
            (None, answer) => {
                let turns = turns_of(answer);
                let before = turns.len().saturating_sub(1).max(1);
                turns[..before.min(turns.len())].to_vec()
            }
        };
        if turns.iter().all(|turn| turn.content.trim().is_empty()) {
            return Self::of_turns(&turns_of(answer));
        }
        Self::of_turns(&turns)
    }

    fn of_turns(turns: &[Message]) -> Self {
        Self(xxh3_128(key_of(turns).as_bytes()))
    }

    /// The identity of a pair that has no prompt: the same whichever of its answers is preferred.
    fn of_answers(pair: &Preference) -> Self {
        let mut answers = [answer_of(&pair.chosen), answer_of(&pair.rejected)];
        answers.sort();
        Self(xxh3_128(format!("\0{}\0{}", answers[0], answers[1]).as_bytes()))
    }
}

impl fmt::Display for PromptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for PromptId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The identity of a pair: its prompt, and the last turn of both answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PairId {
    /// The prompt.
    pub prompt: PromptId,
    chosen: u128,
    rejected: u128,
}

impl PairId {
    /// The identity of a pair.
    pub fn of(pair: &Preference) -> Self {
        let answer = |content| xxh3_128(answer_of(content).as_bytes());
        Self { prompt: PromptId::of(pair), chosen: answer(&pair.chosen), rejected: answer(&pair.rejected) }
    }

    /// The identity of a pair of texts.
    pub fn of_texts(prompt: &str, chosen: &str, rejected: &str) -> Self {
        let answer = |text: &str| xxh3_128(text.trim().as_bytes());
        Self { prompt: PromptId::of_text(prompt), chosen: answer(chosen), rejected: answer(rejected) }
    }

    /// The identity of the pair with its answers the other way round.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { chosen: self.rejected, rejected: self.chosen, ..self }
    }
}

/// A pair's prompt as turns: a dialogue's, a conversation's, or a text as one turn of the user's.
///
/// # Errors
/// Answers that contain their prompt, where nothing marks its end.
pub(super) fn prompt_of(pair: &Preference) -> Result<Vec<Message>, &'static str> {
    match (&pair.prompt, &pair.chosen, &pair.rejected) {
        (Some(Content::Text(prompt)), ..) => Ok(text_turns(prompt)),
        (None, Content::Text(chosen), Content::Text(rejected)) => {
            match (dialogue(chosen), dialogue(rejected)) {
                (Ok(chosen), Ok(rejected)) => Ok(Turns::apart(Vec::new(), &chosen, &rejected).prompt),
                _ => Err("nothing marks where the prompt ends"),
            }
        }
        (prompt, Content::Messages(chosen), Content::Messages(rejected)) => {
            let prompt = match prompt {
                Some(Content::Messages(prompt)) => prompt.clone(),
                _ => Vec::new(),
            };
            Ok(Turns::apart(prompt, chosen, rejected).prompt)
        }
        _ => Err("a text is beside a conversation"),
    }
}

fn turns_of(content: &Content) -> Vec<Message> {
    match content {
        Content::Text(text) => text_turns(text),
        Content::Messages(turns) => turns.clone(),
    }
}

fn text_turns(prompt: &str) -> Vec<Message> {
    match dialogue(prompt) {
        Ok(turns) if !turns.is_empty() => turns,
        _ => vec![Message::new("user", prompt)],
    }
}

/// Turns as one text that other turns do not have; space around a turn does not count.
fn key_of(turns: &[Message]) -> String {
    turns.iter().fold(String::new(), |mut key, turn| {
        let said = turn.content.trim();
        // A turn without words marks an answer to come.
        if !said.is_empty() {
            key.push_str(&format!("{}\0{}\0\0", turn.role, said));
        }
        key
    })
}

/// The text that distinguishes a pair's answers: their last turn.
fn answer_of(answer: &Content) -> String {
    match answer {
        Content::Messages(turns) => turns.last().map_or(String::new(), |turn| turn.content.trim().to_owned()),
        Content::Text(text) => match dialogue(text) {
            Ok(turns) => turns.last().map_or(String::new(), |turn| turn.content.trim().to_owned()),
            Err(_) => text.trim().to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::data::survey::testing::read;

    fn id(record: Value) -> PairId {
        PairId::of(&read(std::slice::from_ref(&record)).0[0])
    }

    /// Protects: one prompt has one identity in every schema, and another prompt, role or system message has
    /// another.
    #[test]
    fn a_prompt_is_one_in_every_schema() {
        let turn = |role: &str, said: &str| json!({"role": role, "content": said});
        let (question, good, bad) = (turn("user", "q one"), turn("assistant", "a"), turn("assistant", "b"));
        let expected = id(json!({"prompt": "q one", "chosen": "a", "rejected": "b"}));
        assert_eq!(expected.prompt, PromptId::of_text(" q one\n"));
        for record in [
            json!({"question": " q one ", "chosen": "a\n", "rejected": "b"}),
            json!({"instruction": "q one", "chosen": "a", "rejected": "b"}),
            json!({"prompt": [question], "chosen": [good], "rejected": [bad]}),
            json!({"chosen": [question, good], "rejected": [question, bad]}),
            json!({"chosen": "\n\nHuman: q one\n\nAssistant: a", "rejected": "\n\nHuman: q one\n\nAssistant: b"}),
            json!({"prompt": "\n\nHuman: q one\n\nAssistant:", "chosen": " a", "rejected": " b"}),
            json!({"conversations": [{"from": "human", "value": "q one"}], "chosen": {"from": "gpt", "value": "a"},
                "rejected": {"from": "gpt", "value": "b"}}),
            json!({"prompt": "q one", "responses": ["b", "a"], "scores": [1, 2]}),
            json!({"message_tree_id": "1", "prompt": {"message_id": "1", "text": "q one", "role": "prompter", "replies": [
                {"message_id": "2", "text": "a", "role": "assistant", "rank": 0, "replies": []},
                {"message_id": "3", "text": "b", "role": "assistant", "rank": 1, "replies": []}]}}),
        ] {
            assert_eq!(id(record.clone()), expected, "{record}");
        }
        let other = |record: Value| assert_ne!(id(record.clone()).prompt, expected.prompt, "{record}");
        other(json!({"prompt": "q two", "chosen": "a", "rejected": "b"}));
        other(json!({"system": "s", "prompt": "q one", "chosen": "a", "rejected": "b"}));
        other(
            json!({"prompt": [turn("user", "p"), turn("assistant", "x"), question], "chosen": [good], "rejected": [bad]}),
        );
        let turned = id(json!({"prompt": "q one", "chosen": "b", "rejected": "a"}));
        assert!(turned != expected && turned.reversed() == expected);
    }

    /// Protects: pairs without a prompt are not taken for pairs of one prompt.
    #[test]
    fn pairs_without_a_prompt_are_their_own() {
        let bare = |chosen: &str| id(json!({"chosen": chosen, "rejected": "x"}));
        assert_ne!(bare("a").prompt, bare("b").prompt);
        let shared = |end: &str| id(json!({"chosen": format!("so a {end}"), "rejected": "so a x"}));
        assert_eq!(shared("y").prompt, shared("z").prompt);
    }
}
