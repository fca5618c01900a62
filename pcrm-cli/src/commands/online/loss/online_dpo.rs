//! The options of online DPO's loss.

use anyhow::Result;
use clap::Args;
use pcrm_rl::advantage::TiedSamples;
use pcrm_rl::online::{Algorithm, OnlineDpoConfig};

use super::ShapingArgs;
use crate::training::policy::PreferenceArgs;

/// The loss of online DPO and the bound on its margins.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loss")]
pub struct OnlineDpoLossArgs {
    /// Bound the margins Δ = β·(log-ratio of the best answer − log-ratio of the worst) by this prior
    /// constraint: a name, JSON, or a JSON file
    #[arg(long, value_name = "KIND", default_value = "none")]
    pub constraint: String,
    #[command(flatten)]
    preference: PreferenceArgs,
    /// Also train on prompts whose best and worst answers have equal rewards, with the first answer as the
    /// preferred one, as TRL does
    #[arg(long)]
    keep_ties: bool,
    #[command(flatten)]
    shaping: ShapingArgs,
}

impl OnlineDpoLossArgs {
    /// Returns the algorithm.
    ///
    /// # Errors
    /// Fails if losses and weights conflict.
    pub fn algorithm(&self) -> Result<Algorithm> {
        Ok(Algorithm::OnlineDpo(OnlineDpoConfig {
            preference: self.preference.config()?,
            tied_samples: if self.keep_ties { TiedSamples::Keep } else { TiedSamples::Drop },
            shaping: self.shaping.shaping(),
        }))
    }
}
