//! The options of GRPO's loss.

use clap::{Args, ValueEnum};
use pcrm_rl::advantage::{GroupAdvantages, MultiObjective, ScaleRewards};
use pcrm_rl::loss::policy::{GrpoConfig, GrpoLoss, ImportanceLevel, KlEstimator};
use pcrm_rl::online::Algorithm;

use super::EntropyArgs;
use crate::numbers::{positive, real};

/// GRPO's loss and advantages, with the names and defaults of TRL.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loss")]
pub struct GrpoLossArgs {
    /// Minimise this loss: grpo, bnpo, dr_grpo, dapo, cispo, sapo, luspo, vespo
    #[arg(long, value_name = "NAME", default_value_t = GrpoLoss::Dapo)]
    loss_type: GrpoLoss,
    /// Weight the KL divergence from the reference by B; 0 for no reference
    #[arg(long, value_name = "B", default_value_t = 0.0, value_parser = real)]
    beta: f64,
    /// Estimate the KL divergence with k2 or k3
    #[arg(long, value_name = "NAME", default_value = "k3")]
    kl_estimator: KlChoice,
    /// Do not weight k3 by the importance ratio
    #[arg(long)]
    no_bias_correction_kl: bool,
    /// Clip importance ratios at 1 ± E
    #[arg(long, value_name = "E", default_value_t = 0.2, value_parser = real)]
    epsilon: f64,
    /// Clip the upper side at 1 + E, or at E for cispo [default: --epsilon]
    #[arg(long, value_name = "E", value_parser = real)]
    epsilon_high: Option<f64>,
    /// Also cap ratios at D where the clip has no effect
    #[arg(long, value_name = "D", value_parser = real)]
    delta: Option<f64>,
    /// Compute importance ratios per token or per answer (GSPO)
    #[arg(long, value_name = "LEVEL", default_value = "token")]
    importance_sampling_level: LevelChoice,
    /// Divide advantages by the standard deviation of the group, of the batch, or not at all
    #[arg(long, value_name = "BY", default_value = "group")]
    scale_rewards: ScaleChoice,
    /// Sum several rewards before or after normalisation
    #[arg(long, value_name = "ORDER", default_value = "sum_then_normalize")]
    multi_objective_aggregation: AggregationChoice,
    /// Leave out answers that were cut off before their end
    #[arg(long)]
    mask_truncated_completions: bool,
    /// Train only on the share S of tokens with the highest entropy
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = real)]
    top_entropy_quantile: f64,
    /// Leave out answers with a negative advantage whose mean log-probability has fallen by more than D since they
    /// were sampled
    #[arg(long, value_name = "D", value_parser = real)]
    off_policy_mask_threshold: Option<f64>,
    #[command(flatten)]
    soft: SoftArgs,
    /// Replace groups of equal rewards with prompts of further batches, at most N per rollout (DAPO)
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    pub dynamic_sampling: Option<usize>,
    #[command(flatten)]
    entropy: EntropyArgs,
}

/// The parameters of the losses that weigh tokens by a smooth function of the importance ratio.
#[derive(Debug, Clone, Copy, Args)]
struct SoftArgs {
    /// Use this temperature of sapo for positive advantages
    #[arg(long, value_name = "T", default_value_t = GrpoConfig::default().sapo_temperature_pos, value_parser = real)]
    sapo_temperature_pos: f64,
    /// Use this temperature of sapo for other advantages
    #[arg(long, value_name = "T", default_value_t = GrpoConfig::default().sapo_temperature_neg, value_parser = real)]
    sapo_temperature_neg: f64,
    /// Use this exponent k of vespo for advantages from 0 up
    #[arg(long, value_name = "K", default_value_t = GrpoConfig::default().vespo_k_pos, value_parser = real)]
    vespo_k_pos: f64,
    /// Use this decay λ of vespo for advantages from 0 up
    #[arg(long, value_name = "L", default_value_t = GrpoConfig::default().vespo_lambda_pos, value_parser = real)]
    vespo_lambda_pos: f64,
    /// Use this exponent k of vespo for negative advantages
    #[arg(long, value_name = "K", default_value_t = GrpoConfig::default().vespo_k_neg, value_parser = real)]
    vespo_k_neg: f64,
    /// Use this decay λ of vespo for negative advantages
    #[arg(long, value_name = "L", default_value_t = GrpoConfig::default().vespo_lambda_neg, value_parser = real)]
    vespo_lambda_neg: f64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KlChoice {
    K2,
    K3,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LevelChoice {
    Token,
    Sequence,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ScaleChoice {
    Group,
    Batch,
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum AggregationChoice {
    SumThenNormalize,
    NormalizeThenSum,
}

impl GrpoLossArgs {
    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        let loss = self;
        Algorithm::Grpo(GrpoConfig {
            loss_type: loss.loss_type,
            beta: loss.beta,
            kl_estimator: match loss.kl_estimator {
                KlChoice::K2 => KlEstimator::K2,
                KlChoice::K3 => KlEstimator::K3,
            },
            use_bias_correction_kl: !loss.no_bias_correction_kl,
            epsilon: loss.epsilon,
            epsilon_high: loss.epsilon_high,
            delta: loss.delta,
            importance_sampling_level: match loss.importance_sampling_level {
                LevelChoice::Token => ImportanceLevel::Token,
                LevelChoice::Sequence => ImportanceLevel::Sequence,
            },
            mask_truncated_completions: loss.mask_truncated_completions,
            top_entropy_quantile: loss.top_entropy_quantile,
            off_policy_mask_threshold: loss.off_policy_mask_threshold,
            sapo_temperature_pos: loss.soft.sapo_temperature_pos,
            sapo_temperature_neg: loss.soft.sapo_temperature_neg,
            vespo_k_pos: loss.soft.vespo_k_pos,
            vespo_lambda_pos: loss.soft.vespo_lambda_pos,
            vespo_k_neg: loss.soft.vespo_k_neg,
            vespo_lambda_neg: loss.soft.vespo_lambda_neg,
            entropy: loss.entropy.control(),
            advantages: GroupAdvantages {
                scale_rewards: match loss.scale_rewards {
                    ScaleChoice::Group => ScaleRewards::Group,
                    ScaleChoice::Batch => ScaleRewards::Batch,
                    ScaleChoice::None => ScaleRewards::None,
                },
                multi_objective_aggregation: match loss.multi_objective_aggregation {
                    AggregationChoice::SumThenNormalize => MultiObjective::SumThenNormalize,
                    AggregationChoice::NormalizeThenSum => MultiObjective::NormalizeThenSum,
                },
            },
            ..GrpoConfig::default()
        })
    }
}
