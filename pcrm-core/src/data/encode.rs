//! Encodes sets of answers as token ids; each answer is rendered and tokenised once.

mod completion;
mod padding;
mod pair;
mod prompt;
mod set;
mod tokenised;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use self::tokenised::located;
use super::answer_set::AnswerSet;
use super::conversation::Content;
use super::render::render;
use crate::error::{Error, Result};
use crate::text::Tokenizer;

pub use completion::{
    CompletionOptions, CompletionReport, EncodedCompletion, Overlong, TrainOn, encode_completions,
};
pub use padding::{Padding, strip_padding};
pub use pair::EncodedPair;
pub use prompt::{EncodedPrompt, PromptReport, encode_prompts};
pub use set::{EncodedAnswer, EncodedComparison, EncodedSet, Removed, Texts, pairs};
pub use tokenised::{Tokenised, tokenised};

/// The treatment of sequences longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TooLong {
    /// Leave the pair out, as TRL does.
    #[default]
    Drop,
    /// Remove tokens from the left of the prompt but keep a BOS.
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

/// Options of encoding. There is no default, because the caller must state the model's padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodeOptions {
    /// The maximum number of tokens in a sequence, including padding at its end; `None` for no limit.
    pub max_length: Option<usize>,
    /// The treatment of longer sequences.
    pub too_long: TooLong,
    /// The model's padding id ([`Padding::of`]), which is removed from the end of every sequence; `None` for
    /// a model without one.
    pub padding: Option<u32>,
}

impl EncodeOptions {
    /// Returns options without a limit, for a model with this padding.
    pub fn new(padding: Option<u32>) -> Self {
        Self { max_length: None, too_long: TooLong::Drop, padding }
    }
}

/// The result of encoding. All counts are of training sequences, without padding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EncodeReport {
    /// The pairs given: the comparisons of all sets.
    pub pairs: usize,
    /// The pairs kept.
    pub kept: usize,
    /// The pairs left out because a sequence is too long.
    pub dropped_too_long: usize,
    /// The pairs kept with a cut prompt.
    pub cut_prompts: usize,
    /// The pairs left out because both sequences have the same tokens.
    pub identical_after_tokenisation: usize,
    /// The number of tokens in the longest sequence kept.
    pub longest: usize,
    /// The tokens of all sequences kept, with the prompt counted in each.
    pub tokens: usize,
    /// The tokens computed: the common prefix of a set's sequences is counted once.
    pub unique_tokens: usize,
    /// The tokens of batches of eight sets in file order, padded to their longest sequence.
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

/// Renders and tokenises the answers of sets in order, then removes overlong sequences and padding.
///
/// # Errors
/// Fails if the tokenizer has no EOS for plain text or no chat template for conversations, if the template
/// refuses a conversation or leaves out one of its turns (with file and line), or if no pair is left.
pub fn encode_sets(
    sets: &[AnswerSet],
    tokenizer: &Tokenizer,
    options: &EncodeOptions,
) -> Result<(Vec<EncodedSet>, EncodeReport)> {
    fit(tokenised(sets, tokenizer)?, tokenizer, options)
}

/// Removes overlong sequences and padding: the second half of [`encode_sets`].
///
/// # Errors
/// Fails if no pair is left.
pub fn fit(
    tokenised: Tokenised,
    tokenizer: &Tokenizer,
    options: &EncodeOptions,
) -> Result<(Vec<EncodedSet>, EncodeReport)> {
    let Tokenised { sets, pairs, identical } = tokenised;
    let bos = tokenizer.first();
    let mut removed = Removed { identical, ..Removed::default() };
    let mut fitting = |set: EncodedSet| {
        let set = match options.max_length {
            Some(most) => set.within(most, options.too_long, bos, &mut removed)?,
            None => set,
        };
        match options.padding {
            Some(pad) => set.without_padding(pad, &mut removed),
            None => Some(set),
        }
    };
    let encoded: Vec<EncodedSet> = sets.into_iter().filter_map(&mut fitting).collect();
    let Removed { too_long, identical, cut } = removed;
    let longest = |sets: &[EncodedSet]| sets.iter().map(EncodedSet::longest).max().unwrap_or(0);
    let padded =
        |sets: &[EncodedSet]| sets.iter().map(|set| set.answers.len()).sum::<usize>() * longest(sets);
    let report = EncodeReport {
        pairs,
        kept: encoded.iter().map(|set| set.comparisons.len()).sum(),
        dropped_too_long: too_long,
        cut_prompts: cut,
        identical_after_tokenisation: identical,
        longest: longest(&encoded),
        tokens: encoded.iter().map(EncodedSet::tokens).sum(),
        unique_tokens: encoded.iter().map(EncodedSet::unique_tokens).sum(),
        padded_tokens: encoded.chunks(8).map(padded).sum(),
    };
    match encoded.is_empty() {
        true => Err(nothing_left(pairs, removed, options.max_length)),
        false => Ok((encoded, report)),
    }
}

fn nothing_left(pairs: usize, removed: Removed, max_length: Option<usize>) -> Error {
    let Removed { too_long, identical, .. } = removed;
    let out = [(too_long, exceeding(max_length)), (identical, "are identical as tokens".to_owned())];
    Error::invalid("data", format!("no pair is left: of {pairs}, {}", counted(&out)))
}

/// Returns the fault of sequences beyond a limit; without a limit, there are none.
fn exceeding(max_length: Option<usize>) -> String {
    max_length.map_or_else(String::new, |limit| format!("exceed {limit} tokens"))
}

/// Joins the counts that are not zero, each with its fault: `2 exceed 512 tokens and 1 are identical as tokens`.
fn counted(faults: &[(usize, String)]) -> String {
    let found = faults.iter().filter(|(count, _)| *count > 0);
    let found: Vec<String> = found.map(|(count, fault)| format!("{count} {fault}")).collect();
    if found.is_empty() { "none can be used".to_owned() } else { found.join(" and ") }
}

/// Returns the token ids of one text, the same as for an answer of a set, without padding at the end.
///
/// # Errors
/// Fails in the same cases as [`encode_sets`].
pub fn encode_text(
    prompt: Option<&Content>,
    text: &Content,
    tokenizer: &Tokenizer,
    padding: Option<u32>,
) -> Result<Vec<u32>> {
    let mut ids = render(prompt, text, tokenizer)?.tokens(tokenizer)?;
    if let Some(pad) = padding {
        strip_padding(&mut ids, pad);
    }
    Ok(ids)
}

/// Returns the length of the longest common prefix of two sequences.
pub fn common_prefix(left: &[u32], right: &[u32]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests;
