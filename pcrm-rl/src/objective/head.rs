//! Runs the head of a language model on answer tokens: token statistics with history, and figures of whole
//! distributions without it, in chunks of rows.

use pcrm_core::kernels::{Ask, TokenStats};
use pcrm_core::model::lora::{Adapters, Modules};
use pcrm_core::model::{LanguageModel, RouterLoss, Rows};
use pcrm_core::{DType, Tensor};

use crate::answers::AnswerBatch;
use crate::error::Result;

/// The number of logits in memory at once when whole distributions are computed.
const AT_ONCE: usize = 1 << 22;

/// Statistics of the tokens requested by a batch, in its order.
pub(super) struct HeadStats {
    /// Log-probabilities with history, entropies, and hits.
    pub stats: TokenStats,
    /// The mean logit over the vocabulary, where the head is a plain matrix; else empty.
    pub mean_logits: Vec<f32>,
    /// ln Σ p² of the next token's distribution, if requested; else empty.
    pub log_sum_squares: Vec<f32>,
    /// The routers' loss of a mixture of experts, if training adds it.
    pub routers: Option<RouterLoss>,
}

/// Runs a model and its head over a batch; `squares` requests ln Σ p² too.
///
/// # Errors
/// Fails if the model fails.
pub(super) fn ask(model: &LanguageModel, batch: &AnswerBatch, squares: bool) -> Result<HeadStats> {
    let mut rows = batch.rows.clone();
    rows.sort_unstable();
    rows.dedup();
    let places: Vec<u32> =
        batch.rows.iter().map(|row| rows.partition_point(|other| other < row) as u32).collect();
    let decoder = model.decoder();
    let (hidden, routers) = model.trained_states(&batch.packed, Rows::Only(&rows))?;
    let soft_cap = model.config().logit_cap;
    let ask = Ask { rows: &places, targets: &batch.targets, temperature: 1.0, soft_cap, entropy: true };
    let stats = decoder.token_stats(&hidden, &ask)?;
    let hidden = hidden.detach();
    let of_places = |of_rows: Vec<f32>| -> Vec<f32> {
        places.iter().filter_map(|place| of_rows.get(*place as usize).copied()).collect()
    };
    let plain = soft_cap.is_none() && decoder.adapters().is_none_or(|adapters| leaves_head(model, adapters));
    let mean_logits = if plain { of_places(mean_logits(model, &hidden)?) } else { Vec::new() };
    let log_sum_squares = if squares { of_places(log_sum_squares(model, &hidden)?) } else { Vec::new() };
    Ok(HeadStats { stats, mean_logits, log_sum_squares, routers })
}

/// Returns true if no adapter is on the head, judging by the target modules.
fn leaves_head(model: &LanguageModel, adapters: &Adapters) -> bool {
    let head = model.config().family.language_head.trim_end_matches(".weight");
    match &adapters.config().target_modules {
        None => true,
        Some(Modules::List(names)) => !names.iter().any(|name| name.ends_with(head)),
        Some(Modules::Pattern(pattern)) => pattern == "all-linear",
    }
}

/// Returns the mean logit of each row, Σ_v h·w_v / |V| = h·(Σ_v w_v) / |V|, without computing any logit.
fn mean_logits(model: &LanguageModel, hidden: &Tensor) -> Result<Vec<f32>> {
    let head = model.decoder().language_head()?.detach();
    let sum = head.cast(DType::F32)?.sum(0)?; // [1, width]
    let products = hidden.cast(DType::F32)?.mul(&sum)?.sum(1)?;
    let share = model.config().logit_scale / model.config().vocabulary as f64;
    Ok(products.affine(share, 0.0)?.read()?.into_f32())
}

/// Returns ln Σ p² = ln Σ e^{2z} − 2·ln Σ e^z of each row.
fn log_sum_squares(model: &LanguageModel, hidden: &Tensor) -> Result<Vec<f32>> {
    let model = model.detached();
    let (rows, step) = (hidden.shape()[0], (AT_ONCE / model.config().vocabulary.max(1)).max(1));
    let mut all = Vec::with_capacity(rows);
    for start in (0..rows).step_by(step) {
        let part = hidden.narrow(0, start, step.min(rows - start))?;
        let logits = model.decoder().logits(&part)?.cast(DType::F32)?;
        let squares = logits.affine(2.0, 0.0)?.log_sum_exp(1)?;
        all.extend(squares.sub(&logits.log_sum_exp(1)?.affine(2.0, 0.0)?)?.read()?.into_f32());
    }
    Ok(all)
}
