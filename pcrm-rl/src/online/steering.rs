//! Adaptive coefficients of the KL penalty and of the entropy bonus.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::Algorithm;
use crate::advantage::{KlCoefficient, KlControl};
use crate::loss::policy::{EntropyCoefficient, EntropyControl, PolicyLoss};

/// The key of the coefficients in checkpoints.
const STATE: &str = "coefficients";

/// The coefficients of a run, with their adaptation rules.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Steering {
    kl: Option<KlControl>,
    entropy: Option<EntropyControl>,
    now: Coefficients,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Coefficients {
    kl: Option<KlCoefficient>,
    entropy: Option<EntropyCoefficient>,
}

impl Steering {
    /// Creates the initial coefficients, or restores them from a checkpoint.
    pub fn new(algorithm: &Algorithm, states: &BTreeMap<String, Value>) -> Self {
        let (kl, entropy) = match algorithm {
            Algorithm::Grpo(config) => (None, Some(config.entropy)),
            Algorithm::Ppo(config) => (Some(config.kl), Some(config.entropy)),
            Algorithm::Rloo(_) | Algorithm::OnlineDpo(_) => (None, None),
        };
        let start =
            Coefficients { kl: kl.map(|kl| kl.start()), entropy: entropy.map(|entropy| entropy.start()) };
        let kept = states.get(STATE).and_then(|kept| Coefficients::deserialize(kept).ok());
        Self { kl, entropy, now: kept.unwrap_or(start) }
    }

    /// Stores the coefficients for a checkpoint, if any is adaptive.
    pub fn keep(&self, states: &mut BTreeMap<String, Value>) {
        let moves = self.kl.is_some_and(|kl| kl.kl_target.is_some())
            || self.entropy.is_some_and(|entropy| entropy.use_adaptive_entropy);
        if let Some(kept) = serde_json::to_value(self.now).ok().filter(|_| moves) {
            states.insert(STATE.to_owned(), kept);
        }
    }

    /// Returns the coefficient of the KL penalty; 0 for an algorithm whose coefficient is an option of its
    /// loss.
    pub fn kl(&self) -> f64 {
        self.now.kl.map_or(0.0, |kl| kl.value)
    }

    /// Returns a loss with the current coefficients.
    pub fn applied(&self, loss: &PolicyLoss) -> PolicyLoss {
        let mut loss = loss.clone();
        if let Some(kl) = self.now.kl {
            loss = loss.with_kl_coefficient(kl.value);
        }
        if let Some((control, now)) = self.entropy.zip(self.now.entropy) {
            loss = loss.with_entropy_coefficient(control.applied(now));
        }
        loss
    }

    /// Adapts to the KL divergence of a rollout of `answers` answers.
    pub fn rolled_out(&mut self, kl: f64, answers: usize) {
        if let Some((control, now)) = self.kl.zip(self.now.kl) {
            self.now.kl = Some(control.next(now, kl, answers));
        }
    }

    /// Adapts to the mean entropy of an update's tokens.
    pub fn updated(&mut self, entropy: Option<f64>) {
        if let Some(((control, now), entropy)) = self.entropy.zip(self.now.entropy).zip(entropy) {
            self.now.entropy = Some(control.next(now, entropy));
        }
    }
}
