//! The options of preference losses, their ranges, and invalid combinations.

use serde::{Deserialize, Serialize};

use super::divergence::Divergence;
use super::names::PreferenceLoss;
use crate::error::Result;
use crate::loss::WrongShare;
use crate::options::{number, refuse};

/// A loss with its weight in the sum (MPO, arXiv 2411.10442).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedLoss {
    /// The loss.
    pub loss: PreferenceLoss,
    /// Weight of the loss.
    pub weight: f64,
}

/// The loss of pairs of answers. Names and defaults follow TRL's `DPOConfig` and `CPOConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PreferenceConfig {
    /// Losses to sum.
    pub loss: Vec<WeightedLoss>,
    /// β, the strength of the reference; for `orpo` the weight of the odds ratio.
    pub beta: f64,
    /// ε, the assumed share of wrong labels, for `cdpo`, `exo_pair`, `robust`, `aot`, `aot_unpaired`, `simpo`
    /// and `cpo`.
    pub label_smoothing: WrongShare,
    /// The margin below which `floor` is flat.
    pub floor: f64,
    /// The divergence between policy and reference.
    pub f_divergence_type: Divergence,
    /// α of the α-divergence.
    pub f_alpha_divergence_coef: f64,
    /// τ of `discopop`.
    pub discopop_tau: f64,
    /// The weight of tokens beyond the length of the pair's shorter answer (LD-DPO, arXiv 2409.06411); `None`
    /// for 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ld_alpha: Option<f64>,
    /// Weights each pair by the likelihood of its answers under the policy (WPO, arXiv 2406.11827).
    pub use_weighting: bool,
    /// γ of `simpo`, the target margin.
    pub simpo_gamma: f64,
    /// Weight of the −ln π per token of preferred answers that `cpo` adds.
    pub cpo_alpha: f64,
}

impl Default for PreferenceConfig {
    fn default() -> Self {
        Self {
            loss: vec![WeightedLoss { loss: PreferenceLoss::Sigmoid, weight: 1.0 }],
            beta: 0.1,
            label_smoothing: WrongShare::Given(0.0),
            floor: -0.5,
            f_divergence_type: Divergence::ReverseKl,
            f_alpha_divergence_coef: 0.5,
            discopop_tau: 0.05,
            ld_alpha: None,
            use_weighting: false,
            simpo_gamma: 0.5,
            cpo_alpha: 1.0,
        }
    }
}

impl PreferenceConfig {
    /// Creates a config of one loss with weight 1 and default options.
    pub fn of(loss: PreferenceLoss) -> Self {
        Self { loss: vec![WeightedLoss { loss, weight: 1.0 }], ..Self::default() }
    }

    /// Returns the losses.
    pub fn losses(&self) -> impl Iterator<Item = PreferenceLoss> {
        self.loss.iter().map(|weighted| weighted.loss)
    }

    /// Returns true if no loss compares the policy with a reference.
    pub fn is_without_reference(&self) -> bool {
        self.losses().all(PreferenceLoss::is_without_reference)
    }

    /// Returns true if a loss sorts the pairs of a step, which are then computed together.
    pub fn sorts(&self) -> bool {
        self.losses().any(PreferenceLoss::sorts)
    }

    /// Returns true if the tokens of prompts are learned too: `orpo` uses −ln π of prompt and preferred
    /// answer.
    pub fn learns_prompts(&self) -> bool {
        self.losses().any(|loss| loss == PreferenceLoss::Orpo)
    }

    /// Returns true if −ln π of tokens is part of the loss.
    pub fn learns_tokens(&self) -> bool {
        self.likelihoods().iter().any(|weight| *weight != 0.0)
    }

    /// Returns the weights of −ln π per token: of the tokens of preferred answers, and of these with their
    /// prompts.
    pub(super) fn likelihoods(&self) -> [f64; 2] {
        let mut weights = [0.0; 2];
        for WeightedLoss { loss, weight } in &self.loss {
            match loss {
                PreferenceLoss::Sft => weights[0] += weight,
                PreferenceLoss::Cpo => weights[0] += weight * self.cpo_alpha,
                PreferenceLoss::Orpo => weights[1] += weight,
                _ => {}
            }
        }
        weights
    }

    /// Refuses numbers out of range, options without effect, and invalid combinations of losses; `bounded` is
    /// true if a constraint bounds margins. Errors name options as the command line does.
    ///
    /// # Errors
    /// Fails for the first such option.
    pub fn check(&self, bounded: bool) -> Result<()> {
        use PreferenceLoss as L;
        let any = |of: fn(L) -> bool| self.losses().any(of);
        if self.loss.is_empty() {
            return refuse("loss", "expected at least one".into());
        }
        for WeightedLoss { weight, .. } in &self.loss {
            number("loss-weights", *weight, *weight > 0.0, "positive numbers")?;
        }
        number("beta", self.beta, self.beta > 0.0, "a positive number")?;
        let epsilon = self.label_smoothing;
        if let WrongShare::Given(share) = epsilon {
            number("label-smoothing", share, (0.0..0.5).contains(&share), "a number from 0 to below 0.5")?;
        }
        if epsilon != WrongShare::Given(0.0) && !any(L::smooths) {
            let message = format!(
                "{epsilon}: has no effect on {}; cdpo is sigmoid with smoothed labels, robust with corrected \
                 ones",
                self.names()
            );
            return refuse("label-smoothing", message);
        }
        if epsilon == WrongShare::Given(0.0) && any(|loss| loss == L::ExoPair) {
            return refuse("label-smoothing", "0: exo_pair needs more; its paper recommends 1e-3".into());
        }
        number("floor", self.floor, self.floor.is_finite(), "a finite number")?;
        number("discopop-tau", self.discopop_tau, self.discopop_tau > 0.0, "a positive number")?;
        let alpha = self.f_alpha_divergence_coef;
        number("f-alpha-divergence-coef", alpha, true, "a number")?;
        if let Some(alpha) = self.ld_alpha {
            number("ld-alpha", alpha, (0.0..=1.0).contains(&alpha), "a number from 0 to 1")?;
        }
        number("simpo-gamma", self.simpo_gamma, self.simpo_gamma >= 0.0, "a number from 0 up")?;
        number("cpo-alpha", self.cpo_alpha, self.cpo_alpha >= 0.0, "a number from 0 up")?;
        let off_kl = self.f_divergence_type != Divergence::ReverseKl;
        if let Some(loss) = self.losses().find(|loss| off_kl && !loss.takes_divergences()) {
            let message = format!(
                "{}: is not defined for {loss}, in which the divergence's normalising constant does not \
                 cancel; expected reverse_kl",
                self.f_divergence_type
            );
            return refuse("f-divergence-type", message);
        }
        let weighed = |loss: &L| self.use_weighting && (loss.sorts() || *loss == L::Sft);
        if let Some(loss) = self.losses().find(weighed) {
            let message = format!("weighs pairs, and {loss} is not a sum over pairs");
            return refuse("use-weighting", message);
        }
        if bounded {
            self.check_bound()?;
        }
        Ok(())
    }

    fn check_bound(&self) -> Result<()> {
        let apart = self.losses().find(|loss| !loss.has_margin() && *loss != PreferenceLoss::Sft);
        if let Some(loss) = apart {
            let message = format!(
                "a bound limits the difference of two answers, and {loss} is not a function of one \
                 difference; expected none, or a loss such as sigmoid, cdpo, robust, hinge, ipo, simpo or cpo"
            );
            return refuse("constraint", message);
        }
        match self.losses().any(PreferenceLoss::has_margin) {
            true => Ok(()),
            false => {
                let message =
                    "a bound limits the difference of two answers, and sft alone looks at one; expected none";
                refuse("constraint", message.into())
            }
        }
    }

    fn names(&self) -> String {
        self.losses().map(PreferenceLoss::name).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PreferenceLoss as L;

    fn refused(config: &PreferenceConfig, bounded: bool) -> String {
        config.check(bounded).err().map(|error| error.to_string()).unwrap_or_default()
    }

    /// Protects: every loss of a difference accepts a bound, and other losses refuse it with a message.
    #[test]
    fn bounds_go_with_losses_of_a_difference() {
        for (loss, name) in super::super::names::ALL {
            let smoothing = WrongShare::Given(if loss == L::ExoPair { 1e-3 } else { 0.0 });
            let config = PreferenceConfig { label_smoothing: smoothing, ..PreferenceConfig::of(loss) };
            assert_eq!(refused(&config, false), "", "{name}");
            let message = refused(&config, true);
            assert_eq!(message.is_empty(), loss.has_margin(), "{name}: {message}");
            assert!(message.is_empty() || message.starts_with("constraint: a bound limits"), "{message}");
        }
        let both = |other| PreferenceConfig {
            loss: [L::Sigmoid, other].map(|loss| WeightedLoss { loss, weight: 0.5 }).to_vec(),
            ..PreferenceConfig::default()
        };
        assert_eq!(refused(&both(L::Sft), true), "");
        assert!(refused(&both(L::BcoPair), true).contains("bco_pair is not a function"));
    }

    /// Protects: numbers out of range and options without effect are refused, naming the option.
    #[test]
    fn undefined_losses_are_refused() {
        let usual = PreferenceConfig::default;
        for (config, expected) in [
            (PreferenceConfig { beta: 0.0, ..usual() }, "beta: 0: "),
            (
                PreferenceConfig { label_smoothing: WrongShare::Given(0.1), ..usual() },
                "label-smoothing: 0.1: has no effect",
            ),
            (
                PreferenceConfig { label_smoothing: WrongShare::ESTIMATE, ..usual() },
                "label-smoothing: estimate: has no effect",
            ),
            (
                PreferenceConfig { label_smoothing: WrongShare::Given(0.5), ..PreferenceConfig::of(L::Cdpo) },
                "label-smoothing: 0.5",
            ),
            (PreferenceConfig::of(L::ExoPair), "label-smoothing: 0: exo_pair"),
            (PreferenceConfig { ld_alpha: Some(1.5), ..usual() }, "ld-alpha: 1.5"),
            (
                PreferenceConfig {
                    f_divergence_type: Divergence::ForwardKl,
                    ..PreferenceConfig::of(L::NcaPair)
                },
                "f-divergence-type: forward_kl: is not defined for nca_pair",
            ),
            (PreferenceConfig { use_weighting: true, ..PreferenceConfig::of(L::Aot) }, "use-weighting: "),
            (PreferenceConfig { loss: Vec::new(), ..usual() }, "loss: expected at least one"),
        ] {
            assert!(refused(&config, false).starts_with(expected), "{:?}", refused(&config, false));
        }
    }
}
