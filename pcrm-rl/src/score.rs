//! Scores from a trained model. The same tokens get the same bits in any batch and any order.

use pcrm_core::Packed;
use pcrm_core::data::encode::{EncodedSet, common_prefix};
use pcrm_core::model::Scores;

use crate::batch::{PairBatch, ScoreAt};
use crate::error::Result;
use pcrm_core::tree::within_budget;

/// Returns the scores of every comparison of these sets, in order: (preferred, dispreferred). Every answer is
/// scored once; at most `micro_tokens` tokens are computed at once.
///
/// # Errors
/// Fails if the model fails or lacks a token.
pub fn score_pairs(
    model: &impl Scores,
    sets: &[&EncodedSet],
    micro_tokens: usize,
) -> Result<Vec<(f32, f32)>> {
    let model = model.detached();
    within_vocabulary(sets.iter().copied(), model.outline().inputs)?;
    if model.outline().is_encoder {
        return score_apart(&model, sets, micro_tokens);
    }
    let mut all = Vec::with_capacity(sets.iter().map(|set| set.comparisons.len()).sum());
    for part in within_budget(sets, micro_tokens, |set| set.unique_tokens()) {
        let batch = PairBatch::new(part, ScoreAt::Last, model.outline().shares_up_to)?;
        let scores = model.scores(&batch.packed, &batch.rows)?.read()?.into_f32();
        let score = |place: u32| scores[place as usize];
        all.extend(batch.last.iter().map(|(chosen, rejected)| (score(*chosen), score(*rejected))));
    }
    Ok(all)
}

/// Scores pairs with an encoder, which computes each answer in one segment with its own copy of the prompt.
fn score_apart(model: &impl Scores, sets: &[&EncodedSet], micro_tokens: usize) -> Result<Vec<(f32, f32)>> {
    let sequences: Vec<&[u32]> =
        sets.iter().flat_map(|set| set.answers.iter().map(|answer| answer.ids.as_slice())).collect();
    let scores = score_sequences(model, &sequences, micro_tokens)?;
    let (mut all, mut first) = (Vec::new(), 0);
    for set in sets {
        let score = |answer: u32| scores[first + answer as usize];
        all.extend(set.comparisons.iter().map(|pair| (score(pair.chosen), score(pair.rejected))));
        first += set.answers.len();
    }
    Ok(all)
}

/// Refuses sets with token ids outside this vocabulary, naming file and line.
///
/// # Errors
/// Fails for the first such id.
pub fn within_vocabulary<'a>(
    sets: impl IntoIterator<Item = &'a EncodedSet>,
    vocabulary: usize,
) -> Result<()> {
    for set in sets {
        let mut ids = set.answers.iter().flat_map(|answer| &answer.ids);
        if let Some(id) = ids.find(|id| **id as usize >= vocabulary) {
            let message = format!("token id {id} is outside the model's vocabulary of {vocabulary}");
            let (path, line) = (set.origin.file.to_path_buf(), set.origin.line);
            return Err(pcrm_core::Error::Line { path, line, message }.into());
        }
    }
    Ok(())
}

/// Returns the score of every sequence at its last token.
///
/// # Errors
/// Fails if the model fails or a sequence is empty.
pub fn score_sequences(model: &impl Scores, sequences: &[&[u32]], micro_tokens: usize) -> Result<Vec<f32>> {
    let model = model.detached();
    let mut all = Vec::with_capacity(sequences.len());
    for part in within_budget(sequences, micro_tokens, |ids| ids.len()) {
        let mut packed = Packed::default();
        let mut last = Vec::with_capacity(part.len());
        for ids in part {
            packed.push(ids, None)?;
            last.push(packed.ids.len() - 1);
        }
        all.extend(model.scores(&packed, &last)?.read()?.into_f32());
    }
    Ok(all)
}

/// Returns the scores of sequences at their last tokens, by group: the answers to one prompt, whose common
/// prefix is computed once. The scores have the bits of [`score_sequences`].
///
/// # Errors
/// Fails if the model fails or a sequence is empty.
pub fn score_answers(
    model: &impl Scores,
    groups: &[Vec<&[u32]>],
    micro_tokens: usize,
) -> Result<Vec<Vec<f32>>> {
    let model = model.detached();
    let limit = model.outline().shares_up_to;
    let pieces = groups.iter().enumerate().flat_map(|(group, sequences)| {
        let parts = within_budget(sequences, micro_tokens, |ids| ids.len());
        parts.into_iter().map(move |part| (group, part, shared(part, limit)))
    });
    let pieces: Vec<(usize, &[&[u32]], usize)> = pieces.collect();
    let size = |(_, part, shared): &(usize, &[&[u32]], usize)| {
        part.iter().map(|ids| ids.len() - shared).sum::<usize>() + shared
    };
    let mut all = vec![Vec::new(); groups.len()];
    for run in within_budget(&pieces, micro_tokens, size) {
        let (mut packed, mut last, mut owners) = (Packed::default(), Vec::new(), Vec::new());
        for (group, part, shared) in run {
            let prompt = match *shared {
                0 => None,
                shared => Some(packed.push(&part[0][..shared], None)?),
            };
            for ids in *part {
                packed.push(&ids[*shared..], prompt)?;
                last.push(packed.ids.len() - 1);
                owners.push(*group);
            }
        }
        let scores = model.scores(&packed, &last)?.read()?.into_f32();
        owners.into_iter().zip(scores).for_each(|(group, score)| all[group].push(score));
    }
    Ok(all)
}

/// Returns the length of the common prefix of sequences, leaving each at least one token of its own; 0 if
/// they may share none.
fn shared(sequences: &[&[u32]], limit: Option<usize>) -> usize {
    let may_share = |ids: &&[u32]| limit.is_none_or(|limit| ids.len() <= limit);
    match sequences.split_first() {
        Some((first, rest)) if !rest.is_empty() && sequences.iter().all(may_share) => {
            let most = first.len().saturating_sub(1);
            rest.iter()
                .fold(most, |most, ids| most.min(common_prefix(first, ids)).min(ids.len().saturating_sub(1)))
        }
        _ => 0,
    }
}
