//! Scores of a trained model. The same tokens get the same bits in any batch and any order.

use pcrm_core::Packed;
use pcrm_core::data::encode::EncodedPair;
use pcrm_core::model::RewardModel;

use crate::batch::{PairBatch, ScoreAt, within_budget};
use crate::error::Result;

/// (preferred, dispreferred) scores of every pair; `micro_tokens` at most are computed at once.
///
/// # Errors
/// The model's.
pub fn score_pairs(
    model: &RewardModel,
    pairs: &[&EncodedPair],
    micro_tokens: usize,
) -> Result<Vec<(f32, f32)>> {
    within_vocabulary(pairs.iter().copied(), model.config().vocabulary)?;
    let model = model.detached();
    let mut all = Vec::with_capacity(pairs.len());
    for part in within_budget(pairs, micro_tokens, |pair| pair.unique_tokens()) {
        let sets: Vec<&[EncodedPair]> = part.iter().map(|pair| std::slice::from_ref(*pair)).collect();
        let batch = PairBatch::new(&sets, ScoreAt::Last, model.config().shares_up_to())?;
        let scores = model.scores(&batch.packed, &batch.rows)?.read()?.into_f32();
        all.extend(
            batch
                .last
                .iter()
                .map(|(chosen, rejected)| (scores[*chosen as usize], scores[*rejected as usize])),
        );
    }
    Ok(all)
}

/// Refuses pairs with token ids that a model of this vocabulary does not have, by their file and line.
///
/// # Errors
/// As said.
pub fn within_vocabulary<'a>(
    pairs: impl IntoIterator<Item = &'a EncodedPair>,
    vocabulary: usize,
) -> Result<()> {
    for pair in pairs {
        let mut ids = pair.prompt.iter().chain(&pair.chosen).chain(&pair.rejected);
        if let Some(id) = ids.find(|id| **id as usize >= vocabulary) {
            let message = format!("token id {id} is outside the model's vocabulary of {vocabulary}");
            let (path, line) = (pair.origin.file.to_path_buf(), pair.origin.line);
            return Err(pcrm_core::Error::Line { path, line, message }.into());
        }
    }
    Ok(())
}

/// The score of every sequence at its last token.
///
/// # Errors
/// The model's; an empty sequence.
pub fn score_sequences(model: &RewardModel, sequences: &[&[u32]], micro_tokens: usize) -> Result<Vec<f32>> {
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
