//! The divergence of a policy from its reference: the KL divergence of the next token at the positions of
//! answers.

use pcrm_core::data::encode::EncodedSet;
use pcrm_core::model::{LanguageModel, Rows};
use pcrm_core::{DType, Tensor};

use crate::answers::AnswerBatch;
use crate::error::Result;
use crate::options::refuse;

/// The number of logits in memory at once.
const AT_ONCE: usize = 1 << 22;

/// Returns KL(π ‖ π_ref) = Σ π·(ln π − ln π_ref) of the next token, in nats, at the position of every token
/// of every answer of these sets.
///
/// It is exact at each position, over the whole vocabulary; the texts come from the data, not from the
/// policy.
///
/// # Errors
/// Fails if the models have different vocabularies, if a config caps logits, or if a model fails.
pub fn next_token_kl(
    policy: &LanguageModel,
    reference: &LanguageModel,
    sets: &[&EncodedSet],
) -> Result<Vec<Vec<f32>>> {
    let vocabulary = policy.config().vocabulary;
    if vocabulary != reference.config().vocabulary {
        let message = format!(
            "has a vocabulary of {}, the policy of {vocabulary}; expected the same",
            reference.config().vocabulary
        );
        refuse("reference", message)?;
    }
    let limit = [policy, reference].iter().filter_map(|model| model.config().shares_up_to()).min();
    let batch = AnswerBatch::new(sets, false, limit)?;
    let mut rows = batch.rows.clone();
    rows.sort_unstable();
    rows.dedup();
    let hidden = |model: &LanguageModel| model.decoder().forward(&batch.packed, Rows::Only(&rows));
    let [ours, theirs] = [hidden(policy)?, hidden(reference)?];
    let mut of_rows = Vec::with_capacity(rows.len());
    let step = (AT_ONCE / vocabulary.max(1)).max(1);
    for start in (0..rows.len()).step_by(step) {
        let count = step.min(rows.len() - start);
        let log_softmax = |model: &LanguageModel, hidden: &Tensor| -> pcrm_core::Result<Tensor> {
            let logits = model.decoder().logits(&hidden.narrow(0, start, count)?)?.cast(DType::F32)?;
            logits.sub(&logits.log_sum_exp(1)?)
        };
        let (ours, theirs) = (log_softmax(policy, &ours)?, log_softmax(reference, &theirs)?);
        let kl = ours.exp()?.mul(&ours.sub(&theirs)?)?.sum(1)?;
        of_rows.extend(kl.read()?.into_f32());
    }
    let of_row = |row: &usize| of_rows[rows.partition_point(|other| other < row)];
    Ok(batch.answers.iter().map(|asked| batch.rows[asked.clone()].iter().map(of_row).collect()).collect())
}
