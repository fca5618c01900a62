//! Encodes sets of answers as token ids; each answer is rendered and tokenised once.

mod completion;
mod padding;
mod pair;
mod prompt;
mod set;

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::answer_set::AnswerSet;
use super::conversation::Content;
use super::prompt_id::PairId;
use super::readable::Readable;
use super::render::{Rendered, render};
use super::report::Origin;
use crate::error::{Error, Result};
use crate::text::Tokenizer;

pub use completion::{
    CompletionOptions, CompletionReport, EncodedCompletion, Overlong, TrainOn, encode_completions,
};
pub use padding::{Padding, strip_padding};
pub use pair::EncodedPair;
pub use prompt::{EncodedPrompt, PromptReport, encode_prompts};
pub use set::{EncodedAnswer, EncodedComparison, EncodedSet, Removed, Texts, pairs};

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
/// refuses a conversation (with file and line), or if no pair is left.
pub fn encode_sets(
    sets: &[AnswerSet],
    tokenizer: &Tokenizer,
    options: &EncodeOptions,
) -> Result<(Vec<EncodedSet>, EncodeReport)> {
    fit(tokenised(sets, tokenizer)?, tokenizer, options)
}

/// Tokenised sets before the length limit is applied and padding is removed.
#[derive(Debug, Clone)]
pub struct Tokenised {
    /// The sets, without comparisons of answers that have the same tokens.
    pub sets: Vec<EncodedSet>,
    /// The pairs given.
    pub pairs: usize,
    /// The pairs of two answers that have the same tokens.
    pub identical: usize,
}

/// Renders and tokenises the answers of sets: the first half of [`encode_sets`], for inspecting the
/// tokenizer's sequences.
///
/// # Errors
/// Fails in the same cases as [`encode_sets`].
pub fn tokenised(sets: &[AnswerSet], tokenizer: &Tokenizer) -> Result<Tokenised> {
    let counts = sets.iter().map(|set| set.comparisons.len());
    let first_pairs = counts.scan(0, |next, count| Some(std::mem::replace(next, *next + count)));
    let numbered: Vec<(usize, &AnswerSet)> = first_pairs.zip(sets).collect();
    // The parallel map keeps the order, so the error returned is the first in file order.
    let outcomes: Vec<Result<(Option<EncodedSet>, Removed)>> = numbered
        .par_iter()
        .enumerate()
        .map(|(row, (first_pair, set))| {
            let mut removed = Removed::default();
            Ok((tokenised_set((row, *first_pair), set, tokenizer)?.tidied(&mut removed), removed))
        })
        .collect();
    let pairs = sets.iter().map(|set| set.comparisons.len()).sum();
    let mut all = Tokenised { sets: Vec::with_capacity(sets.len()), pairs, identical: 0 };
    for outcome in outcomes {
        let (set, removed) = outcome?;
        all.sets.extend(set);
        all.identical += removed.identical;
    }
    match all.sets.is_empty() {
        true => Err(nothing_left(pairs, Removed { identical: all.identical, ..Removed::default() }, None)),
        false => Ok(all),
    }
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
    let limit = max_length.map_or("any number of".to_owned(), |limit| limit.to_string());
    let message = format!(
        "no pair is left: of {pairs}, {too_long} exceed {limit} tokens and {identical} are identical as \
         tokens"
    );
    Error::invalid("data", message)
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

/// Renders and tokenises a set's prompt and, once each, the answers that are compared.
fn tokenised_set(
    (row, first_pair): (usize, usize),
    set: &AnswerSet,
    tokenizer: &Tokenizer,
) -> Result<EncodedSet> {
    let AnswerSet { origin, prompt, answers, comparisons, .. } = set;
    let nothing = Content::Text(String::new());
    let located = |error: Error| located(error, origin, answers.first().unwrap_or(&nothing), tokenizer);
    // For each answer in file order, its index among the answers that are compared.
    let mut numbers: Vec<Option<u32>> = vec![None; answers.len()];
    for answer in comparisons.iter().flat_map(|comparison| [comparison.chosen, comparison.rejected]) {
        let count = answers.len();
        let beyond = || Error::invalid("data", format!("answer {answer} is compared, of {count} answers"));
        *numbers.get_mut(answer as usize).ok_or_else(beyond).map_err(located)? = Some(0);
    }
    numbers.iter_mut().flatten().zip(0..).for_each(|(number, next)| *number = next);
    let compared: Vec<&Content> =
        answers.iter().zip(&numbers).filter_map(|(answer, number)| number.map(|_| answer)).collect();
    let sequence = |answer: &&Content| {
        let rendered = render(prompt.as_ref(), answer, tokenizer)?;
        let ids = rendered.tokens(tokenizer)?;
        match ids.is_empty() {
            true => {
                let message = "an answer renders to no tokens; expected at least one to score";
                Err(Error::invalid("data", message))
            }
            false => Ok((rendered, ids)),
        }
    };
    let sequences: Vec<(Rendered, Vec<u32>)> =
        compared.iter().map(sequence).collect::<Result<_>>().map_err(located)?;
    let mut readable = Readable::new(prompt.as_ref(), tokenizer);
    let everything: Vec<(&Content, &str)> =
        compared.iter().zip(&sequences).map(|(answer, (rendered, _))| (*answer, &*rendered.text)).collect();
    let alone = match sequences.first() {
        Some((rendered, _)) => {
            let text = readable.prompt(&everything).0.to_string();
            Rendered { text, by_template: rendered.by_template, answer_at: None }
                .tokens(tokenizer)
                .map_err(located)?
        }
        None => Vec::new(),
    };
    let ids = PairId::of_set(set);
    let number = |answer: u32| numbers[answer as usize].unwrap_or_default();
    let comparisons = comparisons.iter().enumerate().map(|(at, comparison)| {
        let (chosen, rejected) = (number(comparison.chosen), number(comparison.rejected));
        let two = [chosen, rejected].map(|answer| everything[answer as usize]);
        EncodedComparison {
            chosen,
            rejected,
            cut: 0,
            row: first_pair + at,
            id: ids[at],
            identity: identity(two[0].1, two[1].1),
            verdict: comparison.verdict,
            margin: comparison.margin,
            scores: comparison.scores,
            in_set: set.in_set(comparison),
            texts: readable.texts([chosen, rejected], two),
        }
    });
    let comparisons = comparisons.collect();
    let answer = |(_, ids): (Rendered, Vec<u32>)| {
        let answer_start = common_prefix(&ids, &alone);
        EncodedAnswer { ids, answer_start }
    };
    Ok(EncodedSet {
        row,
        origin: origin.clone(),
        prompt_id: ids.first().map(|id| id.prompt).unwrap_or_default(),
        shared: 0,
        answers: sequences.into_iter().map(answer).collect(),
        comparisons,
    })
}

/// Adds the row's file and line to an error that the row causes. A missing template is not the row's fault.
fn located(error: Error, origin: &Origin, content: &Content, tokenizer: &Tokenizer) -> Error {
    match error {
        Error::Tokenizer(message) if content.is_conversation() && tokenizer.has_chat_template() => {
            Error::Line { path: origin.file.to_path_buf(), line: origin.line, message }
        }
        Error::Text(message) | Error::Invalid { message, .. } => {
            Error::Line { path: origin.file.to_path_buf(), line: origin.line, message }
        }
        other => other,
    }
}

fn identity(chosen: &str, rejected: &str) -> u64 {
    let mut hash = Xxh3::new();
    // Without the length, "ab" and "c" would hash like "a" and "bc".
    hash.update(&(chosen.len() as u64).to_le_bytes());
    hash.update(chosen.as_bytes());
    hash.update(rejected.as_bytes());
    hash.digest()
}

#[cfg(test)]
mod tests;
