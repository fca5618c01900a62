//! Rendering and tokenising sets of answers, each answer once.

use rayon::prelude::*;
use xxhash_rust::xxh3::Xxh3;

use super::set::{EncodedAnswer, EncodedComparison, EncodedSet, Removed};
use super::{common_prefix, completion, nothing_left};
use crate::data::answer_set::AnswerSet;
use crate::data::conversation::{Content, Message};
use crate::data::prompt_id::PairId;
use crate::data::readable::{Cut, Readable};
use crate::data::render::{Rendered, render};
use crate::data::report::Origin;
use crate::data::survey::lost::Lost;
use crate::error::{Error, Result};
use crate::text::Tokenizer;

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

/// Renders and tokenises the answers of sets: the first half of [`encode_sets`](super::encode_sets), for
/// inspecting the tokenizer's sequences.
///
/// # Errors
/// Fails in the same cases as [`encode_sets`](super::encode_sets).
pub fn tokenised(sets: &[AnswerSet], tokenizer: &Tokenizer) -> Result<Tokenised> {
    Lost::of_sets(sets, tokenizer).refuse()?;
    let counts = sets.iter().map(|set| set.comparisons.len());
    let first_pairs = counts.scan(0, |next, count| Some(std::mem::replace(next, *next + count)));
    let numbered: Vec<(usize, &AnswerSet)> = first_pairs.zip(sets).collect();
    // The parallel map keeps the order, so the error returned is the first in file order.
    let outcomes: Vec<Result<(Option<EncodedSet>, Removed)>> = numbered
        .par_iter()
        .enumerate()
        .map(|(row, (first_pair, set))| {
            let mut removed = Removed::default();
            Ok((tokenised_set(row, *first_pair, set, tokenizer)?.tidied(&mut removed), removed))
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

/// Renders and tokenises a set's prompt and, once each, the answers that are compared.
fn tokenised_set(
    row: usize,
    first_pair: usize,
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
            let (text, cut) = readable.prompt(&everything);
            let chat = match (cut, compared.first()) {
                (Cut::Turn(shared), Some(Content::Messages(turns))) if rendered.by_template => {
                    chat_prompt(prompt.as_ref(), &turns[..shared], tokenizer)
                }
                _ => None,
            };
            let text = || Rendered { answer_at: None, text: text.to_string(), ..rendered.clone() };
            chat.map_or_else(|| text().tokens(tokenizer), Ok).map_err(located)?
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
    // One start for all answers, so that each has the same context, as in TRL.
    let answer_start = sequences.iter().map(|(_, ids)| common_prefix(ids, &alone)).min().unwrap_or(0);
    let answer = |(_, ids): (Rendered, Vec<u32>)| EncodedAnswer { ids, answer_start };
    Ok(EncodedSet {
        row,
        origin: origin.clone(),
        prompt_id: ids.first().map(|id| id.prompt).unwrap_or_default(),
        shared: 0,
        answers: sequences.into_iter().map(answer).collect(),
        comparisons,
    })
}

/// Returns the tokens of a conversation's prompt, including the `shared` turns of its answers and the
/// template's beginning of an answer; `None` if no answer can follow it or the template refuses it.
fn chat_prompt(prompt: Option<&Content>, shared: &[Message], tokenizer: &Tokenizer) -> Option<Vec<u32>> {
    let before = match prompt {
        Some(Content::Messages(turns)) => turns.as_slice(),
        _ => &[],
    };
    let turns = [before, shared].concat();
    let awaits_answer = turns.last().is_some_and(|turn| turn.role != "assistant");
    let ids = || completion::prompt_ids(&Content::Messages(turns), tokenizer).ok();
    if awaits_answer { ids() } else { None }
}

/// Adds the row's file and line to an error that the row causes. A missing template is not the row's fault.
pub(super) fn located(error: Error, origin: &Origin, content: &Content, tokenizer: &Tokenizer) -> Error {
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
