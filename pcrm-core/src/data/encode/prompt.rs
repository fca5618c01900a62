//! Prompts as token ids, ready for generation.

use std::fmt;

use rayon::prelude::*;
use serde::Serialize;

use super::completion::prompt_ids;
use super::located;
use crate::data::prompt_id::PromptId;
use crate::data::prompts::Prompt;
use crate::data::report::Origin;
use crate::data::survey::lost::Lost;
use crate::error::{Error, Result};
use crate::text::Tokenizer;

/// A prompt as token ids: plain text unchanged, a conversation with the chat template's beginning of an
/// answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPrompt {
    /// The index of its row among the rows given.
    pub row: usize,
    /// The file and line of the prompt.
    pub origin: Origin,
    /// The identity of the prompt.
    pub prompt_id: PromptId,
    /// The tokens; never empty.
    pub ids: Vec<u32>,
}

/// Counts of encoding prompts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PromptReport {
    /// The prompts given.
    pub rows: usize,
    /// The prompts kept.
    pub kept: usize,
    /// The prompts left out because they are too long.
    pub dropped_too_long: usize,
    /// The length of the longest prompt kept, in tokens.
    pub longest: usize,
    /// The tokens of all prompts kept.
    pub tokens: usize,
}

impl fmt::Display for PromptReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} prompts", self.kept, self.rows)?;
        if self.dropped_too_long > 0 {
            write!(f, "; {} too long, left out", self.dropped_too_long)?;
        }
        write!(f, "; {} tokens; longest {}", self.tokens, self.longest)
    }
}

/// Renders and tokenises prompts in order; leaves out prompts of more than `max_length` tokens.
///
/// # Errors
/// Fails if the tokenizer has no chat template for conversations, if the template refuses a prompt or
/// leaves out one of its turns (with file and line), if a prompt has no tokens, or if no prompt is left.
pub fn encode_prompts(
    rows: &[Prompt],
    tokenizer: &Tokenizer,
    max_length: Option<usize>,
) -> Result<(Vec<EncodedPrompt>, PromptReport)> {
    Lost::of_prompts(rows, tokenizer).refuse()?;
    let encode = |(row, prompt): (usize, &Prompt)| {
        let ids = prompt_ids(&prompt.prompt, tokenizer)
            .map_err(|error| located(error, &prompt.origin, &prompt.prompt, tokenizer))?;
        if ids.is_empty() {
            let Origin { file, line, .. } = &prompt.origin;
            let message = "the prompt has no tokens; expected at least one".to_owned();
            return Err(Error::Line { path: file.to_path_buf(), line: *line, message });
        }
        let prompt_id = PromptId::of_answer(Some(&prompt.prompt), &prompt.prompt);
        Ok(EncodedPrompt { row, origin: prompt.origin.clone(), prompt_id, ids })
    };
    let outcomes: Vec<Result<EncodedPrompt>> = rows.par_iter().enumerate().map(encode).collect();
    let mut encoded = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
    encoded.retain(|prompt| max_length.is_none_or(|limit| prompt.ids.len() <= limit));
    let report = PromptReport {
        rows: rows.len(),
        kept: encoded.len(),
        dropped_too_long: rows.len() - encoded.len(),
        longest: encoded.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0),
        tokens: encoded.iter().map(|prompt| prompt.ids.len()).sum(),
    };
    if encoded.is_empty() {
        let message =
            format!("no prompt is left: all {} exceed {} tokens", rows.len(), max_length.unwrap_or_default());
        return Err(Error::invalid("data", message));
    }
    Ok((encoded, report))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::data::conversation::Content;
    use crate::data::survey::testing::tokenizer;

    fn prompt(prompt: Content) -> Prompt {
        let origin = Origin { file: Arc::from(Path::new("rows.jsonl")), line: 3, record: 3 };
        Prompt { origin, prompt, columns: serde_json::Map::new() }
    }

    /// Protects: prompts have the ids from which TRL generates: texts unchanged, conversations with the
    /// beginning of an answer.
    #[test]
    fn prompts_are_those_of_trl() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/text/sft.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let cases = golden["prompts"].as_array().unwrap();
        assert_eq!(cases.len(), 15);
        for case in cases {
            let tokenizer = tokenizer(case["tokenizer"].as_str().unwrap());
            let rows = [prompt(Content::from_value(&case["prompt"]).unwrap())];
            let (encoded, report) = encode_prompts(&rows, &tokenizer, None).unwrap();
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(encoded[0].ids, ids, "{case}");
            assert_eq!((report.kept, report.tokens, report.longest), (1, ids.len(), ids.len()));
        }
    }

    /// Protects: long prompts are left out and counted, and a prompt without tokens is refused with its line.
    #[test]
    fn long_and_empty_prompts_are_said() {
        let text = |text: &str| prompt(Content::Text(text.to_owned()));
        let plain = tokenizer("plain");
        let (kept, report) = encode_prompts(&[text("x x x x x x"), text("x")], &plain, Some(3)).unwrap();
        assert_eq!((kept[0].row, report.dropped_too_long), (1, 1));
        assert_eq!(report.to_string(), "1 of 2 prompts; 1 too long, left out; 1 tokens; longest 1");
        let said = encode_prompts(&[text("x x x x x x")], &plain, Some(3)).unwrap_err().to_string();
        assert!(said.contains("no prompt is left: all 1 exceed 3 tokens"), "{said}");
        let said = encode_prompts(&[text("")], &plain, None).unwrap_err().to_string();
        assert_eq!(said, "rows.jsonl:3: the prompt has no tokens; expected at least one");
    }
}
