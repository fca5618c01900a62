//! The options for the source of answers, and for correcting samples of another engine or an older policy.

use serde::{Deserialize, Serialize};

use super::config::Algorithm;
use crate::error::Result;
use crate::loss::policy::{Correction, CorrectionMode, GrpoConfig};
use crate::options::{number, refuse};
use crate::rollout::source::SourceKind;

/// The options for the source of answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct RolloutConfig {
    /// Source of answers.
    #[serde(rename = "rollouts", skip_serializing_if = "SourceKind::is_own")]
    pub source: SourceKind,
    /// Number of rollouts that are sampled ahead: the policy of a rollout is this many rollouts old.
    #[serde(skip_serializing_if = "is_zero")]
    pub staleness: usize,
    /// Correction of samples from another engine or an older policy; `None` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correction: Option<Correction>,
    /// Largest mean of |ln π_server − ln π_trainer| over tokens; a run ends with an error beyond it. Results
    /// do not depend on it.
    #[serde(skip)]
    pub max_mismatch: f64,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self { source: SourceKind::Own, staleness: 0, correction: None, max_mismatch: 0.05 }
    }
}

impl RolloutConfig {
    /// Returns the correction that a source's samples need unless options say otherwise: ratios of tokens, or
    /// of whole answers for RLOO, which uses such ratios itself, truncated at 2. Online DPO has no ratio.
    pub fn usual_correction(source: SourceKind, algorithm: &Algorithm) -> Option<Correction> {
        let mode = match algorithm {
            _ if source.is_own() => return None,
            Algorithm::OnlineDpo(_) => return None,
            Algorithm::Rloo(_) => CorrectionMode::SequenceTruncate,
            Algorithm::Grpo(_) | Algorithm::Ppo(_) => CorrectionMode::TokenTruncate,
        };
        Some(Correction { importance_sampling_clip_max: Some(2.0), ..Correction::of(mode) })
    }

    /// Returns true if the log-probabilities of every rollout are compared with the trainer's.
    pub(super) fn compares_rollouts(&self) -> bool {
        self.source.is_served() && self.staleness == 0
    }

    /// Returns true if the log-probabilities of a probe are compared instead, because rollouts come from older
    /// policies.
    pub(super) fn probes(&self) -> bool {
        self.source.is_served() && self.staleness > 0
    }

    pub(super) fn check(&self, algorithm: &Algorithm) -> Result<()> {
        if self.staleness > 0 && !self.source.is_served() {
            let message = format!(
                "{}: only servers sample while the policy is updated; expected 0, or --rollouts vllm:URL or \
                 sglang:URL",
                self.staleness
            );
            refuse("staleness", message)?;
        }
        number("max-mismatch", self.max_mismatch, self.max_mismatch > 0.0, "a positive number")?;
        match (&self.correction, algorithm) {
            (None, _) => Ok(()),
            (Some(_), _) if self.source.is_own() => refuse(
                "importance-sampling-mode",
                "the trainer's own samples need no correction; expected --rollouts of a server or a file"
                    .into(),
            ),
            (Some(_), Algorithm::OnlineDpo(_)) => refuse(
                "importance-sampling-mode",
                "online DPO has no importance ratio to correct; expected none".into(),
            ),
            (Some(correction), Algorithm::Grpo(config)) => {
                GrpoConfig { rollout_correction: Some(*correction), ..config.clone() }.check()
            }
            (Some(correction), _) => correction.check(),
        }
    }
}
