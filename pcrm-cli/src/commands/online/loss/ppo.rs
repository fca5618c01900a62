//! The options of PPO's loss.

use clap::{Args, ValueEnum};
use pcrm_rl::advantage::KlControl;
use pcrm_rl::loss::policy::{KlEstimator, KlPlace, PpoConfig};
use pcrm_rl::online::Algorithm;

use super::{EntropyArgs, ShapingArgs};
use crate::numbers::real;

/// PPO's loss and advantages, with the names and defaults of TRL.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loss")]
pub struct PpoLossArgs {
    /// Weight the KL divergence from the reference by C; 0 for no reference
    #[arg(long, value_name = "C", default_value_t = KlControl::default().kl_coef, value_parser = real)]
    kl_coef: f64,
    /// Adapt the weight to keep answers K nats from the reference, summed over their tokens
    #[arg(long, value_name = "K", value_parser = real)]
    kl_target: Option<f64>,
    /// Adapt the weight over a horizon of N answers
    #[arg(long, value_name = "N", default_value_t = KlControl::default().kl_horizon, value_parser = real)]
    kl_horizon: f64,
    /// Subtract the KL penalty from the reward of every token, or add it to the loss
    #[arg(long, value_name = "PLACE", default_value = "reward")]
    kl_in: PlaceChoice,
    /// Estimate the KL divergence with k1, k2 or k3 [default: k1 in the reward, k3 in the loss]
    #[arg(long, value_name = "NAME")]
    kl_estimator: Option<EstimatorChoice>,
    /// Clip importance ratios at 1 ± E
    #[arg(long, value_name = "E", default_value_t = PpoConfig::default().cliprange, value_parser = real)]
    cliprange: f64,
    /// Cap the loss of tokens with a negative advantage A at −C·A; 3 is usual
    #[arg(long, value_name = "C", value_parser = real)]
    dual_clip: Option<f64>,
    /// Clip values to ±E around the rollout's; 0 for no clipping
    #[arg(long, value_name = "E", default_value_t = PpoConfig::default().cliprange_value, value_parser = real)]
    cliprange_value: f64,
    /// Weight the critic's loss by W
    #[arg(long, value_name = "W", default_value_t = PpoConfig::default().vf_coef, value_parser = real)]
    vf_coef: f64,
    /// Discount later rewards by G per token
    #[arg(long, value_name = "G", default_value_t = PpoConfig::default().gamma, value_parser = real)]
    gamma: f64,
    /// Set λ of generalised advantage estimation
    #[arg(long, value_name = "L", default_value_t = PpoConfig::default().lam, value_parser = real)]
    lam: f64,
    /// Scale the rewards of a rollout's tokens to variance 1
    #[arg(long)]
    whiten_rewards: bool,
    /// Do not normalise advantages to mean 0 and variance 1
    #[arg(long)]
    no_whiten_advantages: bool,
    /// Leave out answers that were cut off before their end
    #[arg(long)]
    mask_truncated_completions: bool,
    #[command(flatten)]
    shaping: ShapingArgs,
    #[command(flatten)]
    entropy: EntropyArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlaceChoice {
    Reward,
    Loss,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EstimatorChoice {
    K1,
    K2,
    K3,
}

impl PpoLossArgs {
    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        let kl_in = match self.kl_in {
            PlaceChoice::Reward => KlPlace::Reward,
            PlaceChoice::Loss => KlPlace::Loss,
        };
        Algorithm::Ppo(PpoConfig {
            kl_in,
            kl_estimator: match (self.kl_estimator, kl_in) {
                (Some(EstimatorChoice::K1), _) | (None, KlPlace::Reward) => KlEstimator::K1,
                (Some(EstimatorChoice::K2), _) => KlEstimator::K2,
                (Some(EstimatorChoice::K3), _) | (None, KlPlace::Loss) => KlEstimator::K3,
            },
            kl: KlControl { kl_coef: self.kl_coef, kl_target: self.kl_target, kl_horizon: self.kl_horizon },
            cliprange: self.cliprange,
            dual_clip: self.dual_clip,
            cliprange_value: self.cliprange_value,
            vf_coef: self.vf_coef,
            gamma: self.gamma,
            lam: self.lam,
            whiten_rewards: self.whiten_rewards,
            whiten_advantages: !self.no_whiten_advantages,
            mask_truncated_completions: self.mask_truncated_completions,
            shaping: self.shaping.shaping(),
            entropy: self.entropy.control(),
        })
    }
}
