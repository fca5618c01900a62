//! The form of the training texts, for the example on the card.

use std::collections::BTreeSet;

use pcrm_core::data::conversation::Content;
use pcrm_core::data::encode::{EncodedPair, EncodedSet, pairs};
use pcrm_core::data::preference::AnswerSet;
use serde::Serialize;

/// The form of prompts and answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DataForm {
    /// Messages, rendered by the tokenizer's chat template.
    Conversation {
        /// True if conversations begin with a system message.
        system: bool,
    },
    /// Plain texts: a prompt directly followed by an answer.
    Text {
        /// The beginning shared by all prompts: `\n\nHuman:`.
        before: String,
        /// The end shared by all prompts: `\n\nAssistant:`.
        after: String,
        /// The white space at the start of all answers.
        gap: String,
        /// True if any row has a prompt.
        prompts: bool,
    },
}

impl Default for DataForm {
    fn default() -> Self {
        Self::Text { before: String::new(), after: String::new(), gap: String::new(), prompts: true }
    }
}

/// The fewest different prompts whose shared beginning and end count as a frame: fewer may share real
/// content.
const FEWEST: usize = 5;
/// The longest frame, in characters.
const LONGEST: usize = 600;
const DIALOGUE: (&str, &str) = ("\n\nHuman:", "\n\nAssistant:");

impl DataForm {
    /// Returns the form of a run's data: the first conversation's, or what all texts share. It contains
    /// nothing from a single text.
    pub fn of(rows: &[AnswerSet], sets: &[EncodedSet]) -> Self {
        if rows.first().is_some_and(|row| row.answers.iter().any(Content::is_conversation)) {
            return Self::Conversation { system: rows.first().is_some_and(begins_with_system) };
        }
        let answers = |pair: EncodedPair<'_>| [pair.chosen_text, pair.rejected_text].map(str::to_owned);
        Self::of_texts(pairs(sets).map(|pair| (pair.prompt_text.to_owned(), answers(pair))).collect())
    }

    /// Returns the form of prompts with their answers.
    fn of_texts(texts: Vec<(String, [String; 2])>) -> Self {
        let prompts: BTreeSet<&str> = texts.iter().map(|(prompt, _)| prompt.as_str()).collect();
        let (before, after) = match prompts.len() {
            FEWEST.. => (shared_beginning(&prompts), shared_end(&prompts)),
            _ if prompts.iter().all(|text| text.starts_with(DIALOGUE.0) && text.ends_with(DIALOGUE.1)) => {
                (DIALOGUE.0.to_owned() + " ", DIALOGUE.1.to_owned())
            }
            _ => Default::default(),
        };
        let answers = texts.iter().flat_map(|(_, answers)| answers);
        let blank = |text: &String| text.len() - text.trim_start().len();
        let gaps: BTreeSet<&str> = answers.map(|text| &text[..blank(text)]).collect();
        Self::Text {
            before,
            after,
            gap: match gaps.len() {
                1 => gaps.first().map_or_else(String::new, |gap| (*gap).to_owned()),
                _ => String::new(),
            },
            prompts: prompts.iter().any(|text| !text.is_empty()),
        }
    }
}

fn begins_with_system(row: &AnswerSet) -> bool {
    let role = |content: &Content| match content {
        Content::Messages(messages) => messages.first().is_some_and(|message| message.role == "system"),
        Content::Text(_) => false,
    };
    row.prompt.as_ref().map_or_else(|| row.answers.first().is_some_and(role), role)
}

/// Returns the beginning shared by all texts, without a partial word at its end.
fn shared_beginning(texts: &BTreeSet<&str>) -> String {
    let first = texts.first().copied().unwrap_or_default();
    let shared = |other: &&str| first.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let length = texts.iter().map(shared).min().unwrap_or(0);
    let text: String = first.chars().take(length).collect();
    let text = text.trim_end_matches(char::is_alphanumeric);
    if length > LONGEST { String::new() } else { text.to_owned() }
}

/// Returns the end shared by all texts, without a partial sentence at its beginning.
fn shared_end(texts: &BTreeSet<&str>) -> String {
    let first = texts.first().copied().unwrap_or_default();
    let shared =
        |other: &&str| first.chars().rev().zip(other.chars().rev()).take_while(|(a, b)| a == b).count();
    let length = texts.iter().map(shared).min().unwrap_or(0);
    let skipped = first.chars().count() - length;
    let text: String = first.chars().skip(skipped).collect();
    let text =
        text.trim_start_matches(char::is_alphanumeric).trim_start_matches(['.', '?', '!', ')', '"', '\'']);
    if length > LONGEST { String::new() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(of: impl Fn(usize) -> (String, String), count: usize) -> DataForm {
        let text = |at: usize| {
            let (prompt, answer) = of(at);
            (prompt, [answer.clone(), answer + " No."])
        };
        DataForm::of_texts((0..count).map(text).collect())
    }

    fn text(before: &str, after: &str, gap: &str, prompts: bool) -> DataForm {
        let [before, after, gap] = [before, after, gap].map(str::to_owned);
        DataForm::Text { before, after, gap, prompts }
    }

    const ASKED: [&str; 6] =
        ["Why is it so?", "What now?", "Where are we?", "How long is it?", "Who is there?", "Which one?"];

    /// Protects: a card shows the frame of the data's own prompts and nothing else.
    #[test]
    fn the_frame_is_the_datas_own() {
        let of = |frame: &dyn Fn(&str) -> String, answer: &str, count: usize| {
            form(|at| (frame(ASKED[at]), answer.to_owned()), count)
        };
        let plain = |asked: &str| asked.to_owned();
        assert_eq!(of(&plain, "It is.", 6), text("", "", "", true));
        let dialogue = |asked: &str| format!("\n\nHuman: {asked}\n\nAssistant:");
        assert_eq!(of(&dialogue, " It is.", 6), text("\n\nHuman: ", "\n\nAssistant:", " ", true));
        assert_eq!(of(&dialogue, " It is.", 2), text("\n\nHuman: ", "\n\nAssistant:", " ", true));
        let marked = |asked: &str| format!("<|user|>{asked}<|end|><|assistant|>");
        assert_eq!(of(&marked, "It is.", 6), text("<|user|>", "<|end|><|assistant|>", "", true));
        let instruction = |asked: &str| format!("### Instruction:\n{asked}\n\n### Response:\n");
        let expected = text("### Instruction:\n", "\n\n### Response:\n", "", true);
        assert_eq!(of(&instruction, "It is.", 6), expected);
        let none = |_: &str| String::new();
        assert_eq!(of(&none, "It is.", 6), text("", "", "", false));
    }

    /// Protects: few prompts give no frame, since what they share may be real content.
    #[test]
    fn few_prompts_give_no_frame() {
        let secret = |at: usize| (format!("The secret is {at}, is it not?"), "Yes.".to_owned());
        assert_eq!(form(secret, 1), text("", "", "", true));
        assert_eq!(form(secret, 4), text("", "", "", true));
    }
}
