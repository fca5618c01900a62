//! The objective of an update: a policy loss over trees of prompts and sampled answers.

use pcrm_core::model::LanguageModel;

use super::asked::{AskedBatch, AskedStats, Questions};
use super::tree::{SampledAnswer, Step};
use crate::error::Result;
use crate::loss::policy::{AnswerRow, PolicyLoss};
use crate::metrics::Metrics;
use crate::objective::{Forward, Objective, Pass};
use crate::options::refuse;

/// The number of trees whose answers are compared after reloading the saved model.
const CHECKED: usize = 2;

/// The loss of an update on sampled answers.
///
/// A mixture of experts whose config has `output_router_logits` adds the routers' loss with its coefficient;
/// each micro-batch's is weighted by its prompts. A prompt that answers share counts once.
#[derive(Debug, Clone)]
pub struct PolicyStep {
    /// The loss.
    pub loss: PolicyLoss,
    /// Temperature of sampling.
    pub temperature: f64,
}

impl Objective for PolicyStep {
    type Model = LanguageModel;
    type Data = Step;
    type Config = super::OnlineConfig;

    fn sizes<'d>(&self, data: &'d Step) -> &'d [usize] {
        data.sizes()
    }

    fn origin(&self, data: &Step, item: usize) -> String {
        data.trees()[item].origin.clone()
    }

    fn check(&self, data: &Step, _model: &LanguageModel) -> Result<()> {
        check(data)
    }

    fn forward(
        &self,
        model: &LanguageModel,
        data: &Step,
        items: &[usize],
        pass: &Pass<'_>,
        metrics: &mut Metrics,
    ) -> Result<Forward> {
        let (trees, asked) = AskedBatch::of_items(data, items, model.config().shares_up_to())?;
        let AskedStats { stats, log_probs, entropies, routers } = asked.ask(model, self.temperature)?;
        let answers: Vec<&SampledAnswer> = trees.iter().flat_map(|tree| &tree.answers).collect();
        let rows: Vec<AnswerRow<'_>> = answers
            .iter()
            .zip(&asked.answers)
            .map(|(answer, range)| answer.row(&log_probs[range.clone()], Some(&entropies[range.clone()])))
            .collect();
        // The loss records the mismatch of answers from other engines.
        for (answer, range) in answers.iter().zip(&asked.answers).filter(|(answer, _)| !answer.foreign) {
            mismatch(
                &answer.sampled,
                answer.old_log_probs.as_deref().unwrap_or(&log_probs[range.clone()]),
                metrics,
            );
        }
        let found = self.loss.evaluate(&rows, &data.totals, metrics)?;
        let flat = |slopes: &[Vec<f64>]| -> Vec<f64> { slopes.iter().flatten().copied().collect() };
        let mut outputs = vec![(stats.log_probs, flat(&found.d_log_probs))];
        if let Some(entropy) = stats.entropy.filter(|_| !found.d_entropy.is_empty()) {
            outputs.push((entropy, flat(&found.d_entropy)));
        }
        let made = Forward { outputs, tokens: asked.tokens() };
        made.with_routers(routers, items.len() as f64, data.totals.rows, pass, metrics)
    }

    fn probe(&self, model: &LanguageModel, data: &Step) -> Result<Vec<(String, f32)>> {
        probe(model, data, self.temperature)
    }
}

/// Returns ln π of a few answers, for comparing a saved model with the trained one.
pub(super) fn probe(model: &LanguageModel, data: &Step, temperature: f64) -> Result<Vec<(String, f32)>> {
    let mut numbers = Vec::new();
    for tree in data.trees().iter().take(CHECKED) {
        let questions = Questions { trees: &[tree], temperature, micro_tokens: usize::MAX };
        for answer in questions.log_probs(model)? {
            numbers.push((tree.origin.clone(), answer.iter().sum::<f64>() as f32));
        }
    }
    Ok(numbers)
}

/// Refuses answers without a token.
pub(super) fn check(data: &Step) -> Result<()> {
    match data.trees().iter().all(|tree| tree.answers.iter().all(|answer| !answer.ids.is_empty())) {
        true => Ok(()),
        false => refuse("rollout", "an answer has no token".into()),
    }
}

/// Records the difference between the sampler's log-probabilities and those before the first update.
pub(super) fn mismatch(sampled: &[f64], old: &[f64], metrics: &mut Metrics) {
    for (sampled, old) in sampled.iter().zip(old) {
        let difference = (sampled - old).abs();
        metrics.mean("sampling/sampling_logp_difference/mean", difference, 1.0);
        metrics.max("sampling/sampling_logp_difference/max", difference);
    }
}
