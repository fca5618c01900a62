//! The identity of prompts and of pairs, independent of the schema.
//!
//! Splits, folds, held-out shares, repeats and overlaps all use it, so they agree on which prompts are equal.
//! A prompt is its turns with their roles, without surrounding space. A text is one user turn; an HH dialogue
//! is its turns.

use std::fmt;

use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_128;

use super::answer_set::{AnswerSet, Preference};
use super::conversation::{Content, Message};
use super::readable::implicit_prompt;
use super::turns::{dialogue, shared_turns};

/// The identity of a prompt: equal for equal turns, regardless of schema, file or order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PromptId(u128);

impl PromptId {
    /// Returns the identity of a text prompt.
    pub fn of_text(prompt: &str) -> Self {
        Self::of_turns(&text_turns(prompt))
    }

    /// Returns the identity of a set's prompt. If nothing marks the end of the prompt, it is the common
    /// beginning of all answers; a set without any prompt differs from every other set.
    pub fn of(set: &AnswerSet) -> Self {
        Self::of_answers(set.prompt.as_ref(), &set.answers.iter().collect::<Vec<_>>())
    }

    fn of_answers(prompt: Option<&Content>, answers: &[&Content]) -> Self {
        match prompt_of(prompt, answers) {
            Ok(turns) if turns.iter().any(|turn| !turn.content.trim().is_empty()) => Self::of_turns(&turns),
            Err(_) => match texts(answers) {
                Some(texts) => match texts[0][..implicit_prompt(&texts)].trim() {
                    "" => Self::without_prompt(answers),
                    prompt => Self::of_text(prompt),
                },
                None => Self::without_prompt(answers),
            },
            Ok(_) => Self::without_prompt(answers),
        }
    }

    /// Returns the identity of the prompt of one answer. Without a separate prompt, it is everything before
    /// the last turn of a conversation or dialogue, or the whole of any other text.
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

    /// Returns the identity of answers that have no prompt, independent of which one is preferred.
    fn without_prompt(answers: &[&Content]) -> Self {
        let mut answers: Vec<String> = answers.iter().map(|answer| answer_of(answer)).collect();
        answers.sort();
        let key: String = answers.iter().flat_map(|answer| ["\0", answer]).collect();
        Self(xxh3_128(key.as_bytes()))
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

/// The identity of a pair: its prompt and the last turns of both answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PairId {
    /// The prompt.
    pub prompt: PromptId,
    chosen: u128,
    rejected: u128,
}

impl PairId {
    /// Returns the identity of a pair.
    pub fn of(pair: Preference<'_>) -> Self {
        let Preference { prompt, chosen, rejected, .. } = pair;
        Self {
            prompt: PromptId::of_answers(prompt, &[chosen, rejected]),
            chosen: hash_of(chosen),
            rejected: hash_of(rejected),
        }
    }

    /// Returns the identities of a set's comparisons, in order, which share the set's prompt.
    pub fn of_set(set: &AnswerSet) -> Vec<Self> {
        let prompt = PromptId::of(set);
        let answers: Vec<u128> = set.answers.iter().map(hash_of).collect();
        let id = |(chosen, rejected): (u32, u32)| Self {
            prompt,
            chosen: answers[chosen as usize],
            rejected: answers[rejected as usize],
        };
        set.comparisons.iter().map(|comparison| id((comparison.chosen, comparison.rejected))).collect()
    }

    /// Returns the identity of a pair of texts.
    pub fn of_texts(prompt: &str, chosen: &str, rejected: &str) -> Self {
        let answer = |text: &str| xxh3_128(text.trim().as_bytes());
        Self { prompt: PromptId::of_text(prompt), chosen: answer(chosen), rejected: answer(rejected) }
    }

    /// Returns the identity of the pair with its answers swapped.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { chosen: self.rejected, rejected: self.chosen, ..self }
    }
}

/// Returns the prompt of some answers as turns: a dialogue's, a conversation's, or a text as one user turn.
///
/// # Errors
/// Fails if the answers contain their prompt and nothing marks its end.
pub(super) fn prompt_of(
    prompt: Option<&Content>,
    answers: &[&Content],
) -> Result<Vec<Message>, &'static str> {
    if let Some(Content::Text(prompt)) = prompt {
        return Ok(text_turns(prompt));
    }
    let messages = |answer: &&Content| match *answer {
        Content::Messages(turns) => Some(turns.clone()),
        Content::Text(_) => None,
    };
    let (before, turns) = match (prompt, texts(answers)) {
        (None, Some(texts)) => {
            let parsed: Result<Vec<_>, _> = texts.iter().map(|text| dialogue(text)).collect();
            (Vec::new(), parsed.map_err(|_| "nothing marks where the prompt ends")?)
        }
        (prompt, _) => {
            let turns: Option<Vec<Vec<Message>>> = answers.iter().map(messages).collect();
            let before = match prompt {
                Some(Content::Messages(turns)) => turns.clone(),
                _ => Vec::new(),
            };
            (before, turns.ok_or("a text is beside a conversation")?)
        }
    };
    let views: Vec<&[Message]> = turns.iter().map(Vec::as_slice).collect();
    let shared = views.first().map_or(&[][..], |first| &first[..shared_turns(&views)]);
    Ok([&before, shared].concat())
}

/// Returns the answers as texts if there are any and all of them are texts.
fn texts<'a>(answers: &[&'a Content]) -> Option<Vec<&'a str>> {
    let text = |answer: &&'a Content| match *answer {
        Content::Text(text) => Some(text.as_str()),
        Content::Messages(_) => None,
    };
    answers.iter().map(text).collect::<Option<Vec<_>>>().filter(|texts| !texts.is_empty())
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

/// Encodes turns as a text that is unique to them, ignoring space around each turn.
fn key_of(turns: &[Message]) -> String {
    turns.iter().fold(String::new(), |mut key, turn| {
        let said = turn.content.trim();
        // An empty turn marks an answer to come.
        if !said.is_empty() {
            key.push_str(&format!("{}\0{}\0\0", turn.role, said));
        }
        key
    })
}

fn hash_of(answer: &Content) -> u128 {
    xxh3_128(answer_of(answer).as_bytes())
}

/// Returns the text that distinguishes an answer from others to its prompt: its last turn.
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
        PairId::of_set(&read(std::slice::from_ref(&record)).0[0])[0]
    }

    /// Protects: a prompt has one identity in every schema; another prompt, role or system message has a
    /// different one.
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
            json!({"message_tree_id": "1", "prompt": {
                "message_id": "1", "text": "q one", "role": "prompter", "replies": [
                    {"message_id": "2", "text": "a", "role": "assistant", "rank": 0, "replies": []},
                    {"message_id": "3", "text": "b", "role": "assistant", "rank": 1, "replies": []}]}}),
        ] {
            assert_eq!(id(record.clone()), expected, "{record}");
        }
        let other = |record: Value| assert_ne!(id(record.clone()).prompt, expected.prompt, "{record}");
        other(json!({"prompt": "q two", "chosen": "a", "rejected": "b"}));
        other(json!({"system": "s", "prompt": "q one", "chosen": "a", "rejected": "b"}));
        let longer = json!([turn("user", "p"), turn("assistant", "x"), question]);
        other(json!({"prompt": longer, "chosen": [good], "rejected": [bad]}));
        let turned = id(json!({"prompt": "q one", "chosen": "b", "rejected": "a"}));
        assert!(turned != expected && turned.reversed() == expected);
    }

    /// Protects: pairs without a prompt are not treated as pairs of one prompt.
    #[test]
    fn pairs_without_a_prompt_are_their_own() {
        let bare = |chosen: &str| id(json!({"chosen": chosen, "rejected": "x"}));
        assert_ne!(bare("a").prompt, bare("b").prompt);
        let shared = |end: &str| id(json!({"chosen": format!("so a {end}"), "rejected": "so a x"}));
        assert_eq!(shared("y").prompt, shared("z").prompt);
    }
}
