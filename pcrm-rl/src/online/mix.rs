//! A language-model loss on other texts, added to a policy's updates so that it retains them (PPO-ptx, arXiv
//! 2203.02155).

use pcrm_core::Backend;
use pcrm_core::model::LanguageModel;

use crate::error::Result;
use crate::lanes::LaneGradient;
use crate::learner::Learner;
use crate::metrics::Metrics;
use crate::objective::sft::{Completions, Sft, SftConfig};
use crate::objective::{Batch, Forward, Objective, Pass};
use crate::plan::BatchPlan;

/// Texts to learn besides sampled answers.
#[derive(Debug, Clone, Copy)]
pub struct Mix<'a> {
    /// The texts.
    pub data: &'a Completions,
    /// Weight of their loss, which is that of supervised fine-tuning.
    pub coefficient: f64,
}

/// Texts with the run's position in them.
pub(super) struct Mixing<'a> {
    pub mix: Mix<'a>,
    pub plan: BatchPlan<'a>,
    pub micro_tokens: usize,
}

impl Mixing<'_> {
    /// Adds the gradient of the next texts to the gradient of an update, and records `ptx/loss`.
    pub fn add(
        &mut self,
        backend: &dyn Backend,
        learner: &Learner<LanguageModel>,
        progress: f64,
        made: &mut LaneGradient,
    ) -> Result<()> {
        let objective = Scaled { coefficient: self.mix.coefficient };
        let batch = Batch { data: self.mix.data, items: self.plan.next(), micro_tokens: self.micro_tokens };
        let texts = learner.gradient(backend, &objective, &batch, progress)?;
        made.metrics.mean("ptx/loss", texts.metrics.summary().loss(), 1.0);
        made.gradients.accumulate(texts.gradients)?;
        made.sent.extend(texts.sent);
        Ok(())
    }
}

/// The loss of supervised fine-tuning, times a coefficient.
#[derive(Debug, Clone, Copy)]
struct Scaled {
    coefficient: f64,
}

impl Objective for Scaled {
    type Model = LanguageModel;
    type Data = Completions;
    type Config = SftConfig;

    fn sizes<'d>(&self, data: &'d Completions) -> &'d [usize] {
        Sft.sizes(data)
    }

    fn weight(&self, data: &Completions, item: usize) -> f64 {
        Sft.weight(data, item)
    }

    fn origin(&self, data: &Completions, item: usize) -> String {
        Sft.origin(data, item)
    }

    fn check(&self, data: &Completions, model: &LanguageModel) -> Result<()> {
        Sft.check(data, model)
    }

    fn forward(
        &self,
        model: &LanguageModel,
        data: &Completions,
        items: &[usize],
        pass: &Pass<'_>,
        metrics: &mut Metrics,
    ) -> Result<Forward> {
        let mut found = Sft.forward(model, data, items, pass, metrics)?;
        let slopes = found.outputs.iter_mut().flat_map(|(_, slopes)| slopes);
        slopes.for_each(|slope| *slope *= self.coefficient);
        Ok(found)
    }

    fn probe(&self, model: &LanguageModel, data: &Completions) -> Result<Vec<(String, f32)>> {
        Sft.probe(model, data)
    }
}
