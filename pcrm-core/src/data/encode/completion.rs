//! Completions as token ids, with the tokens that count in the loss, as in TRL's SFT trainer.

mod options;

use std::fmt;
use std::ops::Range;

use rayon::prelude::*;
use serde::Serialize;

pub use self::options::{CompletionOptions, Overlong, TrainOn};
use super::{common_prefix, counted, exceeding, located};
use crate::data::completions::Completion;
use crate::data::conversation::Content;
use crate::data::prompt_id::PromptId;
use crate::data::render::{Rendered, render};
use crate::data::report::Origin;
use crate::data::survey::lost::Lost;
use crate::error::{Error, Result};
use crate::text::Tokenizer;

/// A sequence as token ids with the ranges to train on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedCompletion {
    /// The index of its row among the rows given.
    pub row: usize,
    /// The file and line of the row.
    pub origin: Origin,
    /// The identity of the prompt.
    pub prompt_id: PromptId,
    /// All tokens: the prompt, the completion and its end token.
    pub ids: Vec<u32>,
    /// The tokens that are targets of the loss, as ascending ranges of `ids` that do not touch; never empty.
    /// The first token is never a target, because no token comes before it.
    pub trained: Vec<Range<usize>>,
}

impl EncodedCompletion {
    /// Returns the number of tokens that are targets of the loss.
    pub fn trained_tokens(&self) -> usize {
        self.trained.iter().map(ExactSizeIterator::len).sum()
    }
}

/// Counts of encoding completions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CompletionReport {
    /// The rows given.
    pub rows: usize,
    /// The rows kept.
    pub kept: usize,
    /// The rows left out because they are too long.
    pub dropped_too_long: usize,
    /// The rows that were cut to the limit and kept.
    pub cut: usize,
    /// The rows left out because no token is left to train on: there is no assistant's turn, or the prompt
    /// alone fills the limit.
    pub nothing_to_learn: usize,
    /// The rows whose tokens do not begin with their prompt's tokens; the completion begins where they
    /// differ.
    pub prompt_changed: usize,
    /// The length of the longest sequence kept, in tokens.
    pub longest: usize,
    /// The tokens of all sequences kept.
    pub tokens: usize,
    /// The tokens among them that are targets of the loss.
    pub trained_tokens: usize,
    /// True if the end token of the assistant's turns is not trained on: the chat template's marks exclude
    /// it, so the model does not learn to stop.
    pub ends_not_learned: bool,
}

impl fmt::Display for CompletionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} rows", self.kept, self.rows)?;
        let counts = [
            (self.dropped_too_long, "too long, left out"),
            (self.cut, "too long, cut"),
            (self.nothing_to_learn, "with no token to train on, left out"),
            (self.prompt_changed, "with a prompt that has other tokens when tokenised alone"),
        ];
        for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
            write!(f, "; {count} {what}")?;
        }
        write!(
            f,
            "; {} tokens, {} of them trained on; longest {}",
            self.tokens, self.trained_tokens, self.longest
        )?;
        if self.ends_not_learned {
            f.write_str(
                "\nwarning: the chat template's {% generation %} marks leave out the token that ends an \
                 assistant's turn, so that the model does not learn to stop. Put {% endgeneration %} after \
                 it, or train on whole completions",
            )?;
        }
        Ok(())
    }
}

/// Renders and tokenises completions in order, and marks the tokens to train on.
///
/// Plain text ends with the EOS, which is added if missing; a conversation ends as the chat template writes
/// it. The completion begins where the tokens of the whole differ from those of the prompt alone (for a
/// conversation, the prompt includes the template's beginning of an answer). Answers with labels are encoded
/// the same way; `row` finds the label.
///
/// # Errors
/// Fails if the tokenizer has no EOS for plain text or no chat template for conversations, if the template
/// refuses a row or leaves out one of its turns (with file and line), if [`TrainOn::Assistant`] meets a template
/// without marks or a row of plain text, or if no row is left.
pub fn encode_completions<R: AsRef<Completion> + Sync>(
    rows: &[R],
    tokenizer: &Tokenizer,
    options: &CompletionOptions,
) -> Result<(Vec<EncodedCompletion>, CompletionReport)> {
    let tokenizer = &match options.train_on {
        TrainOn::Assistant => {
            let is_text = |row: &&R| !row.as_ref().completion.is_conversation();
            if let Some(row) = rows.iter().find(is_text) {
                let Origin { file, line, .. } = &row.as_ref().origin;
                let message = "a plain text has no assistant's turns to train on; expected a conversation";
                return Err(Error::Line {
                    path: file.to_path_buf(),
                    line: *line,
                    message: message.to_owned(),
                });
            }
            tokenizer.with_assistant_marks()?
        }
        TrainOn::Completion | TrainOn::Everything => tokenizer.clone(),
    };
    Lost::of_completions(rows, tokenizer).refuse()?;
    let encode = |(row, completion): (usize, &R)| {
        let completion = completion.as_ref();
        encode_one(row, completion, tokenizer, options)
            .map_err(|error| located(error, &completion.origin, &completion.completion, tokenizer))
    };
    // The parallel map keeps the order, so the error returned is the first in file order.
    let outcomes: Vec<Result<Encoding>> = rows.par_iter().enumerate().map(encode).collect();
    let mut report = CompletionReport { rows: rows.len(), ..CompletionReport::default() };
    let mut encoded = Vec::with_capacity(rows.len());
    for outcome in outcomes {
        match outcome? {
            Encoding::TooLong => report.dropped_too_long += 1,
            Encoding::NothingToLearn => report.nothing_to_learn += 1,
            Encoding::Kept { completion, cut, prompt_changed } => {
                report.cut += usize::from(cut);
                report.prompt_changed += usize::from(prompt_changed);
                encoded.push(completion);
            }
        }
    }
    report.kept = encoded.len();
    report.ends_not_learned = options.train_on == TrainOn::Assistant && !tokenizer.marks_the_end_of_turns();
    report.longest = encoded.iter().map(|row| row.ids.len()).max().unwrap_or(0);
    report.tokens = encoded.iter().map(|row| row.ids.len()).sum();
    report.trained_tokens = encoded.iter().map(EncodedCompletion::trained_tokens).sum();
    if encoded.is_empty() {
        let out = [
            (report.dropped_too_long, exceeding(options.max_length)),
            (report.nothing_to_learn, "have no token to train on".to_owned()),
        ];
        return Err(Error::invalid("data", format!("no row is left: of {}, {}", report.rows, counted(&out))));
    }
    Ok((encoded, report))
}

enum Encoding {
    Kept { completion: EncodedCompletion, cut: bool, prompt_changed: bool },
    TooLong,
    NothingToLearn,
}

fn encode_one(
    row: usize,
    completion: &Completion,
    tokenizer: &Tokenizer,
    options: &CompletionOptions,
) -> Result<Encoding> {
    let (mut ids, mut mask) = whole(completion, tokenizer, options.train_on)?;
    let prompt = match (&completion.prompt, options.train_on) {
        (Some(prompt), TrainOn::Completion | TrainOn::Assistant) => prompt_ids(prompt, tokenizer)?,
        _ => Vec::new(),
    };
    let shared = common_prefix(&prompt, &ids);
    // The first token is never a target.
    mask.iter_mut().take(shared.max(1)).for_each(|token| *token = false);
    let excess = options.max_length.map_or(0, |limit| ids.len().saturating_sub(limit));
    if excess > 0 {
        match options.too_long {
            Overlong::Drop => return Ok(Encoding::TooLong),
            Overlong::CutEnd => {
                ids.truncate(ids.len() - excess);
                mask.truncate(ids.len());
            }
        }
    }
    let trained = ranges(&mask);
    if trained.is_empty() {
        return Ok(Encoding::NothingToLearn);
    }
    let encoded = EncodedCompletion {
        row,
        origin: completion.origin.clone(),
        prompt_id: PromptId::of_answer(completion.prompt.as_ref(), &completion.completion),
        ids,
        trained,
    };
    Ok(Encoding::Kept { completion: encoded, cut: excess > 0, prompt_changed: shared < prompt.len() })
}

/// Returns the tokens of prompt and completion, and a mask of those that may be targets.
fn whole(completion: &Completion, tokenizer: &Tokenizer, on: TrainOn) -> Result<(Vec<u32>, Vec<bool>)> {
    if let (TrainOn::Assistant, Content::Messages(turns)) = (on, &completion.completion) {
        let before = match &completion.prompt {
            Some(Content::Messages(before)) => before.as_slice(),
            _ => &[],
        };
        return tokenizer.encode_chat_marked(&[before, turns].concat());
    }
    let ids = render(completion.prompt.as_ref(), &completion.completion, tokenizer)?.tokens(tokenizer)?;
    let mask = vec![true; ids.len()];
    Ok((ids, mask))
}

/// Returns the tokens of a prompt alone; a conversation's prompt ends with the beginning of an answer.
pub(super) fn prompt_ids(prompt: &Content, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let rendered = match prompt {
        Content::Text(text) => Rendered::plain(text.clone()),
        Content::Messages(turns) => Rendered::templated(tokenizer.render_chat(turns, true)?),
    };
    rendered.tokens(tokenizer)
}

/// Returns the ranges of consecutive `true` values.
fn ranges(mask: &[bool]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (at, _) in mask.iter().enumerate().filter(|(_, token)| **token) {
        match ranges.last_mut().filter(|range| range.end == at) {
            Some(range) => range.end += 1,
            None => ranges.push(at..at + 1),
        }
    }
    ranges
}

#[cfg(test)]
mod tests;
