//! The loss of one comparison of two scores.

use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::Slope;
use super::constraint::beyond_bound;
use super::form::RankingForm;
use super::ties::TieModel;

/// The loss of a ranked set. For two answers both are Bradley–Terry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ranking {
    /// Mean loss over every pair of its answers (InstructGPT, arXiv 2203.02155, eq. 1).
    #[default]
    Pairs,
    /// The whole order as successive choices of the best remaining answer; the loss is the mean of −ln P over
    /// the choices.
    PlackettLuce,
}

/// The loss of a reward model, without the constraint.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LossConfig {
    /// Loss of a ranked set.
    pub ranking: Ranking,
    /// The model of ties.
    pub ties: TieModel,
    /// The form of the ranking loss of a pair.
    pub form: RankingForm,
    /// c: adds c·(r_w + r_l)², which keeps scores around 0 (arXiv 2312.09244); 0 for none.
    pub center_rewards: f64,
}

/// Two scores with their bound, margin and label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScorePair {
    /// r_w, the score of the preferred answer.
    pub chosen: f64,
    /// r_l, the score of the other.
    pub rejected: f64,
    /// Δ*, infinite without a bound.
    pub bound: f64,
    /// m of ℓ(Δ − m); 0 for none.
    pub margin: f64,
    /// True if the data rate neither answer better.
    pub tied: bool,
}

/// The terms of a comparison's loss, with its derivatives.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PairLoss {
    /// Sum of all terms, which training minimises.
    pub total: f64,
    /// ℓ(Δ − m), smoothed, corrected or floored.
    pub ranking: f64,
    /// −ln σ(Δ* − Δ); 0 without a bound.
    pub constraint: f64,
    /// d total / d r_w
    pub d_chosen: f64,
    /// d total / d r_l
    pub d_rejected: f64,
}

impl LossConfig {
    /// Computes L = ℓ(Δ − m) − ln σ(Δ* − Δ) + c·(r_w + r_l)², Δ = r_w − r_l (PCRM, arXiv 2404.00978, §4.1).
    ///
    /// ℓ = −ln σ, or −ln P(win) under a model of ties; a tie uses −ln P(tie) instead.
    ///
    /// # Errors
    /// Fails on a tie without a model of ties.
    pub fn pair(&self, comparison: &ScorePair) -> Result<PairLoss> {
        let margin = comparison.chosen - comparison.rejected;
        let ranking = match comparison.tied {
            true => self.ties.tie(margin).ok_or_else(|| {
                Error::invalid("ties", "a comparison is a tie, and the loss has no model of ties")
            })?,
            false => self.form.of(margin - comparison.margin, self.ties),
        };
        Ok(self.with_priors(ranking, comparison))
    }

    /// Computes the loss of [`LossConfig::pair`] without the ranking term, for comparisons in a set that is
    /// ranked as a whole.
    pub fn priors(&self, comparison: &ScorePair) -> PairLoss {
        self.with_priors(Slope::default(), comparison)
    }

    fn with_priors(&self, ranking: Slope, comparison: &ScorePair) -> PairLoss {
        let ScorePair { chosen, rejected, bound, .. } = *comparison;
        let constraint = beyond_bound(chosen - rejected, bound);
        let (sum, by_margin) = (chosen + rejected, ranking.slope + constraint.slope);
        let centring = 2.0 * self.center_rewards * sum;
        PairLoss {
            total: ranking.value + constraint.value + self.center_rewards * sum * sum,
            ranking: ranking.value,
            constraint: constraint.value,
            d_chosen: by_margin + centring,
            d_rejected: centring - by_margin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::form::WrongShare;
    use crate::loss::testing::check_slope;

    fn smoothed(share: f64) -> RankingForm {
        RankingForm::Smoothed { label_smoothing: WrongShare::Given(share) }
    }

    fn robust(share: f64) -> RankingForm {
        RankingForm::Robust { label_smoothing: WrongShare::Given(share) }
    }

    fn configs() -> Vec<LossConfig> {
        let usual = LossConfig::default();
        let ties = TieModel::Davidson { nu: 0.8 };
        vec![
            usual,
            LossConfig { form: smoothed(0.1), center_rewards: 0.02, ..usual },
            LossConfig { form: robust(0.3), ..usual },
            LossConfig { form: RankingForm::Floor { floor: -0.5 }, ..usual },
            LossConfig { ties, form: robust(0.1), center_rewards: 0.01, ..usual },
            LossConfig { ties: TieModel::RaoKupper { theta: 1.7 }, ..usual },
        ]
    }

    /// Protects: both derivatives of every form of the loss, with and without bound or tie, by differences.
    #[test]
    fn derivatives_are_differences() {
        for config in configs() {
            for (bound, margin, tied) in
                [(f64::INFINITY, 0.0, false), (2.0, 0.3, false), (2.0, 0.0, config.ties != TieModel::None)]
            {
                let at = |chosen: f64, rejected: f64| {
                    let comparison = ScorePair { chosen, rejected, bound, margin, tied };
                    config.pair(&comparison).unwrap_or_default()
                };
                let points = [-4.0, -1.1, 0.05, 0.45, 6.0];
                check_slope(&format!("{config:?}, chosen"), &points, |x| {
                    let loss = at(x, 0.2);
                    Slope { value: loss.total, slope: loss.d_chosen }
                });
                check_slope(&format!("{config:?}, rejected"), &points, |x| {
                    let loss = at(0.2, x);
                    Slope { value: loss.total, slope: loss.d_rejected }
                });
            }
        }
    }

    /// Protects: under labels with a share ε flipped, the robust loss has the expectation of ℓ under true
    /// labels, and a floor makes loss and gradient constant below it.
    #[test]
    fn robust_is_unbiased_and_floor_is_flat() {
        let at = |config: LossConfig, margin: f64| {
            let comparison =
                ScorePair { chosen: margin, rejected: 0.0, bound: f64::INFINITY, margin: 0.0, tied: false };
            config.pair(&comparison).unwrap_or_default()
        };
        let robust = LossConfig { form: robust(0.3), ..LossConfig::default() };
        for margin in [-3.0, 0.1, 2.0] {
            let expected = 0.7 * at(robust, margin).total + 0.3 * at(robust, -margin).total;
            assert!((expected - at(LossConfig::default(), margin).total).abs() < 1e-12);
        }
        let floored = LossConfig { form: RankingForm::Floor { floor: -0.5 }, ..LossConfig::default() };
        assert_eq!(at(floored, -9.0).d_chosen, 0.0);
        assert_eq!(at(floored, -9.0).total, at(LossConfig::default(), -0.5).total);
        assert_eq!(at(floored, 1.0), at(LossConfig::default(), 1.0));
    }

    /// Protects: a tie without a model of ties is an error and never a number.
    #[test]
    fn a_tie_needs_a_model() {
        let tie = ScorePair { chosen: 1.0, rejected: 0.0, bound: 2.0, margin: 0.0, tied: true };
        assert!(LossConfig::default().pair(&tie).is_err());
    }
}
