//! Pairs as token ids, cut where the two sequences part.

mod completion;
mod pair;
mod prompt;

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::conversation::Content;
use super::preference::Preference;
use super::prompt_id::PairId;
use super::render::{Readable, render};
use super::report::Origin;
use crate::error::{Error, Result};
use crate::text::Tokenizer;

pub use completion::{
    CompletionOptions, CompletionReport, EncodedCompletion, Overlong, TrainOn, encode_completions,
};
pub use pair::{EncodedPair, strip_padding};
pub use prompt::{EncodedPrompt, PromptReport, encode_prompts};

/// What to do with a pair that is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TooLong {
    /// Leave it out, as TRL does.
    #[default]
    Drop,
    /// Take tokens from the left of the prompt; a BOS stays.
    CutPrompt,
}

impl FromStr for TooLong {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "drop" => Ok(Self::Drop),
            "cut-prompt" => Ok(Self::CutPrompt),
            _ => Err(Error::invalid("too-long", format!("{text:?} is unknown; expected drop or cut-prompt"))),
        }
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drop => "drop",
            Self::CutPrompt => "cut-prompt",
        })
    }
}

/// How pairs are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncodeOptions {
    /// The most tokens a sequence may have; none for no limit.
    pub max_length: Option<usize>,
    /// What to do with a pair beyond it.
    pub too_long: TooLong,
}

/// What came of encoding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EncodeReport {
    /// The pairs that were given.
    pub pairs: usize,
    /// Those that were kept.
    pub kept: usize,
    /// Those left out because they are too long.
    pub dropped_too_long: usize,
    /// Those whose prompt was cut.
    pub cut_prompts: usize,
    /// Those left out because both sequences are the same tokens.
    pub identical_after_tokenisation: usize,
    /// The longest sequence that was kept, in tokens.
    pub longest: usize,
    /// The tokens of all sequences that were kept, prompts counted twice.
    pub tokens: usize,
    /// The same with prompts counted once.
    pub unique_tokens: usize,
    /// The tokens that batches of eight pairs in the file's order would have, padded to their longest.
    pub padded_tokens: usize,
}

impl fmt::Display for EncodeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} pairs", self.kept, self.pairs)?;
        let left_out = [
            (self.dropped_too_long, "too long, left out"),
            (self.cut_prompts, "too long, prompt cut"),
            (self.identical_after_tokenisation, "identical as tokens, left out"),
        ];
        for (count, what) in left_out.iter().filter(|(count, _)| *count > 0) {
            write!(f, "; {count} {what}")?;
        }
        write!(
            f,
            "; {} tokens, {} with prompts counted once; longest {}",
            self.tokens, self.unique_tokens, self.longest
        )
    }
}

/// Renders, tokenises, cuts and filters pairs, in order.
///
/// # Errors
/// Plain text where the tokenizer has no EOS, conversations where it has no chat template, what the template
/// refuses (with file and line), and no pair left.
pub fn encode_pairs(
    pairs: &[Preference],
    tokenizer: &Tokenizer,
    options: &EncodeOptions,
) -> Result<(Vec<EncodedPair>, EncodeReport)> {
    // The parallel map keeps its order, so the error that is returned is the first of the file and not of a
    // thread.
    let outcomes: Vec<Result<Outcome>> =
        pairs.par_iter().enumerate().map(|(row, pair)| encode_pair(row, pair, tokenizer, options)).collect();
    let mut report = EncodeReport { pairs: pairs.len(), ..EncodeReport::default() };
    let mut encoded = Vec::with_capacity(pairs.len());
    for outcome in outcomes {
        match outcome? {
            Outcome::TooLong => report.dropped_too_long += 1,
            Outcome::Identical => report.identical_after_tokenisation += 1,
            Outcome::Kept { pair, cut } => {
                report.cut_prompts += usize::from(cut);
                encoded.push(*pair);
            }
        }
    }
    report.kept = encoded.len();
    report.longest = longest(&encoded);
    report.tokens = encoded.iter().map(EncodedPair::tokens).sum();
    report.unique_tokens = encoded.iter().map(EncodedPair::unique_tokens).sum();
    report.padded_tokens = encoded.chunks(8).map(|batch| 2 * batch.len() * longest(batch)).sum();
    if encoded.is_empty() {
        return Err(Error::invalid(
            "data",
            format!(
                "no pair is left: of {}, {} exceed {} tokens and {} are identical as tokens",
                report.pairs,
                report.dropped_too_long,
                options.max_length.map_or("any number of".to_owned(), |limit| limit.to_string()),
                report.identical_after_tokenisation
            ),
        ));
    }
    Ok((encoded, report))
}

fn longest(pairs: &[EncodedPair]) -> usize {
    pairs.iter().map(EncodedPair::longest).max().unwrap_or(0)
}

/// The token ids of one text: the same that it gets as half of a pair.
///
/// # Errors
/// As [`encode_pairs`].
pub fn encode_text(prompt: Option<&Content>, text: &Content, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    render(prompt, text, tokenizer)?.tokens(tokenizer)
}

enum Outcome {
    Kept { pair: Box<EncodedPair>, cut: bool },
    TooLong,
    Identical,
}

fn encode_pair(
    row: usize,
    pair: &Preference,
    tokenizer: &Tokenizer,
    options: &EncodeOptions,
) -> Result<Outcome> {
    let located = |error: Error| located(error, &pair.origin, &pair.chosen, tokenizer);
    let sequence = |answer| {
        let rendered = render(pair.prompt.as_ref(), answer, tokenizer)?;
        let tokens = rendered.tokens(tokenizer)?;
        Ok((rendered.text, tokens))
    };
    let (chosen_full, chosen) = sequence(&pair.chosen).map_err(located)?;
    let (rejected_full, rejected) = sequence(&pair.rejected).map_err(located)?;
    if chosen.is_empty() || rejected.is_empty() {
        let message = "an answer renders to no tokens; expected at least one to score".to_owned();
        return Err(located(Error::invalid("data", message)));
    }
    if chosen == rejected {
        return Ok(Outcome::Identical);
    }
    let shared = pair::shared(&chosen, &rejected);
    let mut prompt = chosen[..shared].to_vec();
    let excess = options.max_length.map_or(0, |limit| chosen.len().max(rejected.len()).saturating_sub(limit));
    if excess > 0 {
        let kept = usize::from(tokenizer.bos().is_some_and(|bos| prompt.first() == Some(&bos.id)));
        if options.too_long == TooLong::Drop || excess > prompt.len() - kept {
            return Ok(Outcome::TooLong);
        }
        prompt.drain(kept..kept + excess);
    }
    let text = Readable::of(pair, &chosen_full, &rejected_full, tokenizer);
    let pair = EncodedPair {
        row,
        origin: pair.origin.clone(),
        id: PairId::of(pair),
        prompt,
        chosen: chosen[shared..].to_vec(),
        rejected: rejected[shared..].to_vec(),
        margin: pair.margin,
        verdict: pair.verdict,
        in_set: pair.in_set,
        identity: identity(&chosen_full, &rejected_full),
        prompt_text: text.prompt,
        chosen_text: text.chosen,
        rejected_text: text.rejected,
    };
    Ok(Outcome::Kept { pair: Box::new(pair), cut: excess > 0 })
}

/// The error with the row's file and line, where the row is at fault: a missing template is not.
fn located(error: Error, origin: &Origin, content: &Content, tokenizer: &Tokenizer) -> Error {
    match error {
        Error::Tokenizer(message) if content.is_conversation() && tokenizer.has_chat_template() => {
            Error::Line { path: origin.file.to_path_buf(), line: origin.line, message }
        }
        Error::Invalid { message, .. } => {
            Error::Line { path: origin.file.to_path_buf(), line: origin.line, message }
        }
        other => other,
    }
}

fn identity(chosen: &str, rejected: &str) -> u64 {
    let mut hash = Xxh3::new();
    // Without the length, "ab" and "c" would be "a" and "bc".
    hash.update(&(chosen.len() as u64).to_le_bytes());
    hash.update(chosen.as_bytes());
    hash.update(rejected.as_bytes());
    hash.digest()
}

#[cfg(test)]
mod tests;
