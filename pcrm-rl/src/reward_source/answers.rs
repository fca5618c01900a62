//! A batch of answers as passed to reward sources.

use pcrm_core::data::conversation::{Content, Message};
use pcrm_core::data::prompts::Prompt;
use pcrm_core::text::Tokenizer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;

/// An answer of a policy with its prompt.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Prompt from the data, with its location and the other columns of its record.
    pub prompt: &'a Prompt,
    /// Texts that the policy read and wrote.
    pub texts: &'a AnswerTexts,
    /// Tokens that the policy wrote, including the one that ends the answer.
    pub completion_ids: &'a [u32],
    /// True if the answer ended; false if it was cut at the token limit.
    pub ended: bool,
}

/// The texts of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AnswerTexts {
    /// Prompt as the policy read it: a conversation rendered by the policy's template, with special tokens.
    pub prompt: String,
    /// Answer without special tokens.
    pub completion: String,
    /// Prompt and answer, with special tokens.
    pub sequence: String,
}

/// A batch of answers. Answers to the same prompt are adjacent.
#[derive(Debug, Clone, Copy)]
pub struct Answers<'a> {
    /// Number of updates before the answers were written.
    pub step: u64,
    /// Answers.
    pub rows: &'a [Answer<'a>],
}

impl AnswerTexts {
    /// Decodes these tokens to texts.
    ///
    /// The answer is the part of the decoded sequence after the decoded prompt: decoded alone it would lose
    /// the space that SentencePiece tokenizers put into its first token.
    ///
    /// # Errors
    /// Fails if the tokenizer does not have a token.
    pub fn decode(tokenizer: &Tokenizer, prompt: &[u32], completion: &[u32]) -> Result<Self> {
        let all = [prompt, completion].concat();
        let (plain_prompt, plain) = (tokenizer.decode_plain(prompt)?, tokenizer.decode_plain(&all)?);
        let rest = match plain.strip_prefix(plain_prompt.as_str()) {
            Some(rest) => rest.to_owned(),
            None => tokenizer.decode_plain(completion)?,
        };
        let (prompt, sequence) = (tokenizer.decode(prompt)?, tokenizer.decode(&all)?);
        Ok(Self { prompt, completion: rest, sequence })
    }
}

impl Answer<'_> {
    /// Returns the answer's text.
    pub fn completion(&self) -> &str {
        &self.texts.completion
    }

    /// Returns a column of the prompt's record.
    pub fn column(&self, name: &str) -> Option<&Value> {
        self.prompt.columns.get(name)
    }

    /// Returns the answer in the form of its prompt: a text, or an assistant message.
    pub fn content(&self) -> Content {
        let text = self.texts.completion.clone();
        match &self.prompt.prompt {
            Content::Text(_) => Content::Text(text),
            Content::Messages(_) => Content::Messages(vec![Message::new("assistant", text)]),
        }
    }

    /// Returns true if the answer's bytes are not valid text, such as tokens that end within a character. The text
    /// of an answer without tokens, such as one from a file, is always valid.
    pub fn is_broken(&self) -> bool {
        !self.completion_ids.is_empty() && self.texts.completion.contains(char::REPLACEMENT_CHARACTER)
    }
}

impl Answers<'_> {
    /// Returns the location of a row for messages: `answer 3 of 64 (prompts.jsonl:17)`, counted from 1.
    pub fn place(&self, row: usize) -> String {
        let of = self.rows.len();
        let origin = self.rows.get(row).map(|answer| format!(" ({})", answer.prompt.origin));
        format!("answer {} of {of}{}", row + 1, origin.unwrap_or_default())
    }

    /// Returns the names of all columns of the prompts' records, in order of appearance.
    pub fn columns(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for answer in self.rows {
            for name in answer.prompt.columns.keys() {
                if !names.contains(&name.as_str()) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// Returns the ranges of adjacent answers to the same prompt.
    pub fn by_prompt(&self) -> Vec<std::ops::Range<usize>> {
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        for (row, answer) in self.rows.iter().enumerate() {
            match runs.last_mut() {
                Some(run) if self.rows[run.start].prompt.prompt == answer.prompt.prompt => run.end = row + 1,
                _ => runs.push(row..row + 1),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use pcrm_core::data::report::Origin;
    use serde_json::json;

    use super::*;

    /// Protects: the space that a SentencePiece tokenizer puts into a first token stays in the answer,
    /// special tokens are in the sequence alone, and an answer that ends within a character is detected.
    #[test]
    fn answers_keep_their_first_space() {
        let golden = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/text"));
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(golden.join("bases/sentence.json"), dir.path().join("tokenizer.json")).unwrap();
        let config = json!({"tokenizer_class": "PreTrainedTokenizerFast"});
        std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
        let [prompt, answer] = ["the", "old"].map(|text| tokenizer.encode_rendered(text).unwrap());
        assert_eq!(tokenizer.decode_plain(&answer).unwrap(), "old");
        let texts = AnswerTexts::decode(&tokenizer, &prompt, &answer).unwrap();
        assert_eq!((texts.prompt.as_str(), texts.completion.as_str()), ("the", " old"));

        let bytes = Tokenizer::from_dir(&golden.join("qwen2")).unwrap();
        let (prompt, mut answer) = (bytes.encode("q").unwrap(), bytes.encode("a €").unwrap());
        answer.push(bytes.eos().unwrap().id);
        let texts = AnswerTexts::decode(&bytes, &prompt, &answer).unwrap();
        assert_eq!((texts.completion.as_str(), texts.sequence.as_str()), ("a €", "qa €</s>"));
        let cut = AnswerTexts::decode(&bytes, &prompt, &answer[..answer.len() - 2]).unwrap();
        assert!(cut.completion.starts_with("a ") && cut.completion.contains('\u{fffd}'), "{cut:?}");
        // The same text from a file has no tokens, so it is not broken.
        let origin = Origin { file: Arc::from(Path::new("rows.jsonl")), line: 1, record: 1 };
        let prompt =
            Prompt { origin, prompt: Content::Text("q".to_owned()), columns: serde_json::Map::default() };
        let is_broken = |ids: &[u32]| {
            Answer { prompt: &prompt, texts: &cut, completion_ids: ids, ended: true }.is_broken()
        };
        assert!(is_broken(&answer) && !is_broken(&[]));
    }
}
