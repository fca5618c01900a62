//! The update of a policy with the objective of its algorithm.

use std::ops::Range;

use pcrm_core::Backend;
use pcrm_core::model::LanguageModel;

use super::asked::Questions;
use super::pairs::PairStep;
use super::steering::Steering;
use super::step::{self, PolicyStep};
use super::tree::{Step, Tree};
use crate::error::Result;
use crate::lanes::LaneGradient;
use crate::learner::Learner;
use crate::objective::Batch;

/// The objective of an update.
#[derive(Debug, Clone)]
pub(super) enum UpdateObjective {
    /// A loss of sampled answers with advantages.
    Policy(PolicyStep),
    /// A loss of pairs of sampled answers.
    Pairs(PairStep),
}

/// The part of a rollout for one update.
pub(super) struct RolloutPart<'a> {
    pub items: &'a [usize],
    /// Number of updates of a pass over the rollout.
    pub updates: usize,
    pub micro_tokens: usize,
    /// Completed share of all steps.
    pub progress: f64,
}

impl UpdateObjective {
    /// Returns the temperature of log-probabilities: the sampling temperature, or 1 for pairs, whose implicit
    /// rewards come from the policy itself.
    pub fn temperature(&self) -> f64 {
        match self {
            Self::Policy(step) => step.temperature,
            Self::Pairs(_) => 1.0,
        }
    }

    /// Computes the gradient of a part of a rollout, with the current coefficients.
    pub fn gradient(
        &self,
        backend: &dyn Backend,
        learner: &Learner<LanguageModel>,
        rollout: &mut Step,
        part: &RolloutPart<'_>,
        steering: &Steering,
    ) -> Result<LaneGradient> {
        let RolloutPart { items, updates, micro_tokens, progress } = *part;
        match self {
            Self::Policy(PolicyStep { loss, temperature }) => {
                let loss = steering.applied(loss);
                let entropies = match loss.needs_threshold() {
                    true => {
                        let of_trees = |own: Range<usize>| {
                            let trees: Vec<&Tree> =
                                items[own].iter().map(|at| &rollout.trees()[*at]).collect();
                            Questions { trees: &trees, temperature: *temperature, micro_tokens }
                                .entropies(&learner.model)
                        };
                        Some(learner.lanes().dealt(items.len(), of_trees)?)
                    }
                    false => None,
                };
                rollout.counted(&loss, items, updates, entropies.as_deref())?;
                let objective = PolicyStep { loss, temperature: *temperature };
                learner.gradient(backend, &objective, &Batch { data: rollout, items, micro_tokens }, progress)
            }
            Self::Pairs(objective) => {
                learner.gradient(backend, objective, &Batch { data: rollout, items, micro_tokens }, progress)
            }
        }
    }

    /// Returns numbers for comparing a saved model with the trained one.
    pub fn probe(&self, model: &LanguageModel, rollout: &Step) -> Result<Vec<(String, f32)>> {
        step::probe(model, rollout, self.temperature())
    }
}
