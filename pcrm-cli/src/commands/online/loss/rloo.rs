//! The options of RLOO's loss.

use clap::Args;
use pcrm_rl::loss::policy::RlooConfig;
use pcrm_rl::online::Algorithm;

use super::ShapingArgs;
use crate::numbers::real;

/// RLOO's loss and advantages, with the names and defaults of TRL.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loss")]
pub struct RlooLossArgs {
    /// Subtract B times the KL divergence from the reference from rewards; 0 for no reference
    #[arg(long, value_name = "B", default_value_t = 0.05, value_parser = real)]
    beta: f64,
    /// Clip importance ratios at 1 ± E
    #[arg(long, value_name = "E", default_value_t = 0.2, value_parser = real)]
    epsilon: f64,
    /// Clip the upper side at 1 + E [default: --epsilon]
    #[arg(long, value_name = "E", value_parser = real)]
    epsilon_high: Option<f64>,
    /// Normalise the advantages of the batch
    #[arg(long)]
    normalize_advantages: bool,
    #[command(flatten)]
    shaping: ShapingArgs,
    /// Leave out answers that were cut off before their end
    #[arg(long)]
    mask_truncated_completions: bool,
}

impl RlooLossArgs {
    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        let loss = self;
        Algorithm::Rloo(RlooConfig {
            beta: loss.beta,
            epsilon: loss.epsilon,
            epsilon_high: loss.epsilon_high,
            normalize_advantages: loss.normalize_advantages,
            mask_truncated_completions: loss.mask_truncated_completions,
            shaping: loss.shaping.shaping(),
            ..RlooConfig::default()
        })
    }
}
