//! The options of preference losses.

use anyhow::{Result, ensure};
use clap::Args;
use pcrm_rl::loss::WrongShare;
use pcrm_rl::loss::preference::{Divergence, PreferenceConfig, PreferenceLoss, WeightedLoss};

use crate::numbers::real;
use crate::training::loss::wrong_share;

/// The loss, with the names and defaults of TRL.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loss")]
pub struct PreferenceArgs {
    /// Minimise the sum of these losses: sigmoid (DPO), cdpo, hinge, ipo (per token), ipo_sum, exo_pair,
    /// nca_pair, robust, floor, bco_pair, sppo_hard, aot, aot_unpaired, apo_zero, apo_down, discopop, sft,
    /// sigmoid_norm; without a reference simpo, cpo, orpo
    #[arg(long, value_name = "NAME", num_args = 1.., action = clap::ArgAction::Append,
          default_values_t = [PreferenceLoss::Sigmoid])]
    pub loss: Vec<PreferenceLoss>,
    /// Weight the losses by these numbers, in order [default: 1 each]
    #[arg(long, value_name = "W", num_args = 1.., action = clap::ArgAction::Append, value_parser = real)]
    pub loss_weights: Vec<f64>,
    /// Set β, the strength of the reference: larger values keep the policy closer to it
    #[arg(long, value_name = "B", default_value_t = 0.1, value_parser = real)]
    pub beta: f64,
    /// Assume this share of wrong labels, for cdpo, exo_pair, robust, aot, aot_unpaired, simpo and cpo: a
    /// number, or `estimate` to fit it with reward models that were not trained on the pairs they judge
    #[arg(long, value_name = "E", default_value_t = WrongShare::Given(0.0), value_parser = wrong_share)]
    pub label_smoothing: WrongShare,
    /// Set the margin below which the loss floor is flat, so that pairs which contradict the policy strongly do
    /// not move it [default: -0.5]
    #[arg(long, value_name = "M", allow_hyphen_values = true, value_parser = real)]
    pub floor: Option<f64>,
    /// Keep the policy near the reference with this divergence: reverse_kl, forward_kl, js_divergence,
    /// alpha_divergence
    #[arg(long, value_name = "NAME", default_value_t = Divergence::ReverseKl)]
    pub f_divergence_type: Divergence,
    /// Set α of alpha_divergence [default: 0.5]
    #[arg(long, value_name = "A", value_parser = real)]
    pub f_alpha_divergence_coef: Option<f64>,
    /// Set τ of discopop [default: 0.05]
    #[arg(long, value_name = "T", value_parser = real)]
    pub discopop_tau: Option<f64>,
    /// Weight tokens beyond the length of the shorter answer by A (LD-DPO)
    #[arg(long, value_name = "A", value_parser = real)]
    pub ld_alpha: Option<f64>,
    /// Weight pairs by the likelihood of their answers under the policy (WPO)
    #[arg(long)]
    pub use_weighting: bool,
    /// Set γ of simpo, the target margin [default: 0.5]
    #[arg(long, value_name = "G", value_parser = real)]
    pub simpo_gamma: Option<f64>,
    /// Weight −ln π of preferred answers by A in cpo [default: 1]
    #[arg(long, value_name = "A", value_parser = real)]
    pub cpo_alpha: Option<f64>,
}

impl PreferenceArgs {
    /// Returns the loss.
    ///
    /// # Errors
    /// Fails if the numbers of weights and losses differ, or an option belongs to another loss.
    pub fn config(&self) -> Result<PreferenceConfig> {
        let Self { loss, loss_weights, .. } = self;
        ensure!(
            loss_weights.is_empty() || loss_weights.len() == loss.len(),
            "--loss-weights: {} numbers for {} losses; expected one for each",
            loss_weights.len(),
            loss.len()
        );
        let of = |wanted: PreferenceLoss| loss.contains(&wanted);
        for (option, given, served, needs) in [
            ("floor", self.floor.is_some(), of(PreferenceLoss::Floor), "--loss floor"),
            ("simpo-gamma", self.simpo_gamma.is_some(), of(PreferenceLoss::Simpo), "--loss simpo"),
            ("cpo-alpha", self.cpo_alpha.is_some(), of(PreferenceLoss::Cpo), "--loss cpo"),
            ("discopop-tau", self.discopop_tau.is_some(), of(PreferenceLoss::Discopop), "--loss discopop"),
            (
                "f-alpha-divergence-coef",
                self.f_alpha_divergence_coef.is_some(),
                self.f_divergence_type == Divergence::AlphaDivergence,
                "--f-divergence-type alpha_divergence",
            ),
        ] {
            ensure!(!given || served, "--{option} has no effect without {needs}");
        }
        let weights = loss_weights.iter().copied().chain(std::iter::repeat(1.0));
        let usual = PreferenceConfig::default();
        Ok(PreferenceConfig {
            loss: loss
                .iter()
                .zip(weights)
                .map(|(loss, weight)| WeightedLoss { loss: *loss, weight })
                .collect(),
            beta: self.beta,
            label_smoothing: self.label_smoothing,
            floor: self.floor.unwrap_or(usual.floor),
            f_divergence_type: self.f_divergence_type,
            f_alpha_divergence_coef: self.f_alpha_divergence_coef.unwrap_or(usual.f_alpha_divergence_coef),
            discopop_tau: self.discopop_tau.unwrap_or(usual.discopop_tau),
            ld_alpha: self.ld_alpha,
            use_weighting: self.use_weighting,
            simpo_gamma: self.simpo_gamma.unwrap_or(usual.simpo_gamma),
            cpo_alpha: self.cpo_alpha.unwrap_or(usual.cpo_alpha),
        })
    }
}
