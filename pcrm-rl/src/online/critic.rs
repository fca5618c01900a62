//! PPO's critic: a reward model that predicts, before every token of an answer, the return from that token
//! on.

use pcrm_core::Backend;
use pcrm_core::model::RewardModel;

use super::asked::{AskedBatch, host};
use super::tree::{SampledAnswer, Step};
use crate::error::Result;
use crate::learner::Learner;
use crate::loss::policy::{ValueLoss, ValueRow};
use crate::metrics::Metrics;
use crate::objective::{Batch, Forward, Objective, Pass};

/// The name of the critic's folder, in a run's folder and in its checkpoints.
pub const CRITIC: &str = "critic";

/// The critic of a run, with its optimiser and its loss.
pub(super) struct Critic {
    pub learner: Learner<RewardModel>,
    pub objective: ValueStep,
}

impl Critic {
    /// Updates the critic on these trees, and records metrics including `critic/grad_norm`. Without a scored
    /// answer its gradient is 0.
    pub fn update(
        &mut self,
        backend: &dyn Backend,
        batch: &Batch<'_, ValueStep>,
        progress: f64,
        metrics: &mut Metrics,
    ) -> Result<()> {
        let (gradient, update) = self.learner.step(backend, &self.objective, batch, progress)?;
        metrics.mean("critic/grad_norm", update.grad_norm, 1.0);
        metrics.mean("critic/learning_rate", update.learning_rate, 1.0);
        metrics.merge(gradient.metrics.without("loss"));
        Ok(())
    }
}

/// The loss of a critic's update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ValueStep {
    pub loss: ValueLoss,
}

impl Objective for ValueStep {
    type Model = RewardModel;
    type Data = Step;
    type Config = super::OnlineConfig;

    fn sizes<'d>(&self, data: &'d Step) -> &'d [usize] {
        data.sizes()
    }

    fn origin(&self, data: &Step, item: usize) -> String {
        data.trees()[item].origin.clone()
    }

    fn check(&self, data: &Step, _model: &RewardModel) -> Result<()> {
        super::step::check(data)
    }

    fn forward(
        &self,
        model: &RewardModel,
        data: &Step,
        items: &[usize],
        _pass: &Pass<'_>,
        metrics: &mut Metrics,
    ) -> Result<Forward> {
        let (trees, asked) = AskedBatch::of_items(data, items, model.config().shares_up_to())?;
        let (rows, places) = asked.distinct_rows();
        let scores = model.scores(&asked.packed, &rows)?;
        let of_rows = host(scores.read()?.into_f32());
        let values: Vec<f64> = places.iter().map(|place| of_rows[*place]).collect();
        let answers: Vec<&SampledAnswer> = trees.iter().flat_map(|tree| &tree.answers).collect();
        // Answers without returns do not contribute.
        let learned: Vec<(&std::ops::Range<usize>, ValueRow<'_>)> = answers
            .iter()
            .zip(&asked.answers)
            .filter_map(|(answer, range)| {
                let judged = answer.judged.as_ref().filter(|judged| !judged.returns.is_empty())?;
                let (old_values, returns) = (judged.values.as_slice(), judged.returns.as_slice());
                Some((range, ValueRow { values: &values[range.clone()], old_values, returns }))
            })
            .collect();
        let rows: Vec<ValueRow<'_>> = learned.iter().map(|(_, row)| *row).collect();
        let found = self.loss.evaluate(&rows, data.totals.tokens, metrics)?;
        metrics.mean("loss", found.total, 1.0);
        let mut slopes = vec![0.0; of_rows.len()];
        for ((range, _), of_answer) in learned.iter().zip(&found.d_values) {
            for (place, slope) in places[(*range).clone()].iter().zip(of_answer) {
                slopes[*place] += slope;
            }
        }
        Ok(Forward { outputs: vec![(scores, slopes)], tokens: asked.tokens() })
    }

    fn probe(&self, _model: &RewardModel, _data: &Step) -> Result<Vec<(String, f32)>> {
        Ok(Vec::new())
    }
}
