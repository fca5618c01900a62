//! One reward model of the quickstart: its bounded data, its training, and its scores of the held-out pairs.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Result;
use pcrm_core::constraint::{self, Priors};
use pcrm_core::data::encode::{self, EncodedPair, EncodedSet};
use pcrm_core::model::RewardModel;
use pcrm_core::schedule::Shape;
use pcrm_core::text::Tokenizer;
use pcrm_core::{Backend, DType};
use pcrm_eval::PairScore;
use pcrm_rl::fingerprint::Fingerprint;
use pcrm_rl::objective::reward::{Reward, RewardConfig};
use pcrm_rl::offline::{Outcome, Run, TrainerConfig, Warmup, train};
use pcrm_rl::order::BatchSize;
use pcrm_rl::pairs::Pairs;
use pcrm_rl::score::score_pairs;
use serde_json::Value;

use super::progress::ModelProgress;
use crate::dataset::bounds;
use crate::interrupt::Interrupted;

/// Pairs per step.
const BATCH: usize = 16;
/// Tokens computed at once.
const MICRO_TOKENS: usize = 8192;
const LEARNING_RATE: f64 = 1e-3;

/// The settings shared by all models of a quickstart.
pub struct Course<'a> {
    /// The backend.
    pub backend: &'a dyn Backend,
    /// The folder of the initial weights.
    pub base: &'a Path,
    /// The tokenizer of all models.
    pub tokenizer: &'a Tokenizer,
    /// The training pairs.
    pub train: &'a [EncodedSet],
    /// The held-out pairs.
    pub test: &'a [EncodedSet],
    /// The seed of the order, and of constraints that draw random numbers.
    pub seed: u64,
    /// The number of passes over the pairs.
    pub epochs: f64,
    /// Set to end the training early.
    pub stop: &'a AtomicBool,
}

/// A trained model's results.
#[derive(Debug)]
pub struct QuickstartModel {
    /// The constraint with all its settings.
    pub constraint: Value,
    /// Its scores of the held-out pairs, in order.
    pub scores: Vec<PairScore>,
    /// The duration of training.
    pub seconds: f64,
}

impl Course<'_> {
    /// Trains a model under this constraint into `dir` and scores the held-out pairs with it.
    ///
    /// # Errors
    /// Fails if the constraint is unknown or refused, training fails or is stopped.
    pub fn follow(
        &self,
        constraint: &str,
        dir: &Path,
        progress: &mut ModelProgress,
    ) -> Result<QuickstartModel> {
        let started = Instant::now();
        let constraint = constraint::parse(constraint)?;
        let priors = Priors::seeded(self.seed);
        let bounds = |sets: &[EncodedSet]| bounds(constraint.as_ref(), sets, &priors);
        let pairs = Pairs::new(self.train.to_vec(), bounds(self.train)?);
        let model = RewardModel::load_to_train(self.backend, self.base, DType::F32, self.seed)?;
        let constraint_tag = constraint.to_tagged()?;
        let config = RewardConfig { ignore_margin: true, ..RewardConfig::default() };
        let objective = Reward { config, schedule: Some(constraint.as_ref()) };
        let run = Run {
            backend: self.backend,
            objective: &objective,
            model,
            tokenizer: self.tokenizer,
            train: &pairs,
            eval: None,
            dir,
            fingerprint: Fingerprint::from([("constraint".to_owned(), constraint_tag.clone())]),
            stop: self.stop,
        };
        let trained = train(run, &self.config(), progress)?;
        if let Outcome::Interrupted { steps, .. } = trained.outcome {
            let message = format!("stopped after step {steps}; the next run starts from the beginning");
            return Err(Interrupted { message }.into());
        }
        let seconds = started.elapsed().as_secs_f64();
        let scores = score_pairs(&trained.model, &self.test.iter().collect::<Vec<_>>(), MICRO_TOKENS)?;
        let scored = |((pair, bound), (chosen, rejected)): ((EncodedPair<'_>, f32), (f32, f32))| PairScore {
            chosen: chosen.into(),
            rejected: rejected.into(),
            chosen_tokens: pair.prompt.len() + pair.chosen.len(),
            rejected_tokens: pair.prompt.len() + pair.rejected.len(),
            bound: bound.is_finite().then_some(bound.into()),
            ..PairScore::default()
        };
        let scores = encode::pairs(self.test).zip(bounds(self.test)?).zip(scores).map(scored).collect();
        Ok(QuickstartModel { constraint: constraint_tag, scores, seconds })
    }

    fn config(&self) -> TrainerConfig {
        TrainerConfig {
            seed: self.seed,
            epochs: self.epochs,
            batch: BatchSize::Pairs(BATCH),
            micro_tokens: MICRO_TOKENS,
            learning_rate: LEARNING_RATE,
            schedule: Shape::Cosine,
            warmup: Warmup::Ratio(0.05),
            log_every: 10,
            save_every: None,
            keep: 1,
            ..TrainerConfig::default()
        }
    }
}
