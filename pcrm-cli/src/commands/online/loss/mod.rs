//! The loss options of commands that train on sampled answers.

mod grpo;
mod online_dpo;
mod ppo;
mod rloo;

use clap::Args;
use pcrm_rl::advantage::ScoreShaping;
use pcrm_rl::loss::policy::EntropyControl;

use crate::numbers::real;

pub use grpo::GrpoLossArgs;
pub use online_dpo::OnlineDpoLossArgs;
pub use ppo::PpoLossArgs;
pub use rloo::RlooLossArgs;

/// Options of reward shaping.
#[derive(Debug, Clone, Args)]
pub struct ShapingArgs {
    /// Clip rewards to this range
    #[arg(long, value_names = ["LOW", "HIGH"], num_args = 2, value_parser = real, allow_negative_numbers = true)]
    reward_clip_range: Vec<f64>,
    /// Subtract X from the reward of answers without an end token
    #[arg(long, value_name = "X", value_parser = real)]
    missing_eos_penalty: Option<f64>,
}

impl ShapingArgs {
    fn shaping(&self) -> ScoreShaping {
        ScoreShaping {
            reward_clip_range: <[f64; 2]>::try_from(self.reward_clip_range.as_slice()).ok(),
            missing_eos_penalty: self.missing_eos_penalty,
        }
    }
}

/// Options of the entropy bonus.
#[derive(Debug, Clone, Args)]
pub struct EntropyArgs {
    /// Weight an entropy bonus by X; with --use-adaptive-entropy, its initial weight
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = real)]
    entropy_coef: f64,
    /// Raise the bonus after steps with an entropy of at most --entropy-target, and lower it after other
    /// steps
    #[arg(long)]
    use_adaptive_entropy: bool,
    /// Target an entropy of H nats per token
    #[arg(long, value_name = "H", default_value_t = EntropyControl::default().entropy_target, value_parser = real)]
    entropy_target: f64,
    /// Change an adaptive bonus by X per step
    #[arg(long, value_name = "X", default_value_t = EntropyControl::default().entropy_coef_delta, value_parser = real)]
    entropy_coef_delta: f64,
    /// Keep an adaptive bonus at X or more
    #[arg(long, value_name = "X", default_value_t = EntropyControl::default().entropy_coef_min, value_parser = real)]
    entropy_coef_min: f64,
    /// Keep an adaptive bonus at X or less
    #[arg(long, value_name = "X", default_value_t = EntropyControl::default().entropy_coef_max, value_parser = real)]
    entropy_coef_max: f64,
}

impl EntropyArgs {
    fn control(&self) -> EntropyControl {
        EntropyControl {
            entropy_coef: self.entropy_coef,
            use_adaptive_entropy: self.use_adaptive_entropy,
            entropy_coef_min: self.entropy_coef_min,
            entropy_coef_max: self.entropy_coef_max,
            entropy_coef_delta: self.entropy_coef_delta,
            entropy_target: self.entropy_target,
        }
    }
}
