//! Losses of the margin Δ = β·(score of the preferred answer − score of the other).

use super::batch::Sums;
use super::config::PreferenceConfig;
use super::names::PreferenceLoss;
use crate::loss::{Slope, ln_sigmoid, neg_ln_sigmoid, sigmoid};

/// Mean log-probabilities are kept below 0 by this much: the odds of a certain answer are infinite.
const CERTAIN: f64 = -1e-12;

/// A margin, with its derivatives by the two log-probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Margin {
    pub value: f64,
    pub by_chosen: f64,
    pub by_rejected: f64,
}

impl Margin {
    /// Returns the difference of two scores, times a factor.
    fn of(chosen: Slope, rejected: Slope, factor: f64) -> Self {
        Self {
            value: factor * (chosen.value - rejected.value),
            by_chosen: factor * chosen.slope,
            by_rejected: -factor * rejected.slope,
        }
    }
}

impl PreferenceConfig {
    /// Returns the margin that a loss is a function of; `None` for a loss without a margin.
    ///
    /// With lr = ln π − ln π_ref, x = f'(lr) and n tokens it is β·(x_w − x_l). `ipo` and `sigmoid_norm` use
    /// β·(x_w/n_w − x_l/n_l); `cpo` and `simpo` use ln π instead of x; `orpo` uses the difference of log-odds
    /// ln p − ln(1 − p) at the mean log-probability, without β.
    pub(super) fn margin(&self, loss: PreferenceLoss, chosen: &Sums, rejected: &Sums) -> Option<Margin> {
        use PreferenceLoss as L;
        let score =
            |sums: &Sums| self.f_divergence_type.score(sums.log_ratio(), self.f_alpha_divergence_coef);
        let by_token = |score: Slope, sums: &Sums| {
            let tokens = sums.tokens.max(1.0);
            Slope { value: score.value / tokens, slope: score.slope / tokens }
        };
        let own = |sums: &Sums| Slope { value: sums.policy, slope: 1.0 };
        let two = [chosen, rejected];
        let of = |[a, b]: [Slope; 2], factor: f64| Some(Margin::of(a, b, factor));
        match loss {
            L::Sigmoid | L::Cdpo | L::Hinge | L::IpoSum | L::ExoPair | L::Robust | L::Floor | L::Discopop => {
                of(two.map(score), self.beta)
            }
            L::Ipo | L::SigmoidNorm => of(two.map(|sums| by_token(score(sums), sums)), self.beta),
            L::Cpo => of(two.map(own), self.beta),
            L::Simpo => of(two.map(|sums| by_token(own(sums), sums)), self.beta),
            L::Orpo => of(
                two.map(|sums| {
                    let mean = by_token(own(sums), sums);
                    let odds = log_odds(mean.value);
                    Slope { value: odds.value, slope: odds.slope * mean.slope }
                }),
                1.0,
            ),
            L::NcaPair
            | L::BcoPair
            | L::SppoHard
            | L::Aot
            | L::AotUnpaired
            | L::ApoZero
            | L::ApoDown
            | L::Sft => None,
        }
    }

    /// Returns the loss at a margin, with its derivative; `None` for a loss without a margin.
    pub(super) fn at(&self, loss: PreferenceLoss, margin: f64) -> Option<Slope> {
        use PreferenceLoss as L;
        let (beta, smoothing) = (self.beta, self.label_smoothing.value());
        Some(match loss {
            L::Sigmoid | L::SigmoidNorm => neg_ln_sigmoid(margin),
            L::Cdpo | L::Cpo => smoothed(margin, smoothing),
            L::Simpo => smoothed(margin - self.simpo_gamma, smoothing),
            L::Hinge => match margin < 1.0 {
                true => Slope { value: 1.0 - margin, slope: -1.0 },
                false => Slope::default(),
            },
            L::Ipo | L::IpoSum => {
                let off = (margin - 0.5) / beta; // d − 1/(2β)
                Slope { value: off * off, slope: 2.0 * off / beta }
            }
            L::ExoPair => exo(margin, smoothing),
            L::Robust => {
                let (forward, backward) = (neg_ln_sigmoid(margin), neg_ln_sigmoid(-margin).mirrored());
                let scale = 1.0 / (1.0 - 2.0 * smoothing);
                forward.mixed((1.0 - smoothing) * scale, backward, -smoothing * scale)
            }
            L::Floor if margin < self.floor => Slope { value: neg_ln_sigmoid(self.floor).value, slope: 0.0 },
            L::Floor => neg_ln_sigmoid(margin),
            L::Discopop => discopop(margin, self.discopop_tau),
            L::Orpo => {
                let loss = neg_ln_sigmoid(margin);
                Slope { value: beta * loss.value, slope: beta * loss.slope }
            }
            L::NcaPair
            | L::BcoPair
            | L::SppoHard
            | L::Aot
            | L::AotUnpaired
            | L::ApoZero
            | L::ApoDown
            | L::Sft => return None,
        })
    }
}

/// Returns −(1−ε)·ln σ(Δ) − ε·ln σ(−Δ).
pub(super) fn smoothed(margin: f64, smoothing: f64) -> Slope {
    neg_ln_sigmoid(margin).mixed(1.0 - smoothing, neg_ln_sigmoid(-margin).mirrored(), smoothing)
}

/// Returns the KL divergence of (σ(Δ), σ(−Δ)) from (1 − ε, ε).
fn exo(margin: f64, smoothing: f64) -> Slope {
    let (wins, loses) = (sigmoid(margin), sigmoid(-margin));
    let (ln_right, ln_wrong) = ((-smoothing).ln_1p(), smoothing.ln());
    Slope {
        value: wins * (ln_sigmoid(margin) - ln_right) + loses * (ln_sigmoid(-margin) - ln_wrong),
        slope: wins * loses * (margin - ln_right + ln_wrong),
    }
}

/// Returns (1 − m)·(−ln σ(Δ)) + m·e^−Δ with m = σ(Δ / τ). Products with e^−Δ are computed as exponentials of
/// sums, which stay finite for Δ far below 0.
fn discopop(margin: f64, tau: f64) -> Slope {
    let (ln_m, ln_rest) = (ln_sigmoid(margin / tau), ln_sigmoid(-margin / tau));
    let (logistic, exponential) = (neg_ln_sigmoid(margin), (ln_m - margin).exp());
    let (rest, by_mixing) = (ln_rest.exp(), (ln_m + ln_rest).exp() / tau);
    Slope {
        value: rest * logistic.value + exponential,
        slope: rest * logistic.slope - by_mixing * logistic.value + (ln_m + ln_rest - margin).exp() / tau
            - exponential,
    }
}

/// Returns ln p − ln(1 − e^p), the log-odds at a log-probability p < 0.
fn log_odds(log_prob: f64) -> Slope {
    let p = log_prob.min(CERTAIN);
    // ln(1 − e^p), by the branch that keeps precision.
    let rest = if p < -std::f64::consts::LN_2 { (-p.exp()).ln_1p() } else { (-p.exp_m1()).ln() };
    Slope { value: p - rest, slope: -1.0 / p.exp_m1() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::WrongShare;
    use crate::loss::testing::check_slope;

    const POINTS: [f64; 7] = [-6.0, -1.1, -0.02, 0.03, 0.9, 1.2, 7.0];

    /// Protects: the derivative of every loss of a margin, by differences, and finite numbers at ±1e4.
    #[test]
    fn slopes_are_differences() {
        let config =
            PreferenceConfig { label_smoothing: WrongShare::Given(0.1), ..PreferenceConfig::default() };
        let squares = |loss| matches!(loss, PreferenceLoss::Ipo | PreferenceLoss::IpoSum);
        for (loss, name) in super::super::names::ALL {
            let Some(_) = config.at(loss, 0.0) else {
                assert!(!loss.has_margin(), "{name}");
                continue;
            };
            assert!(loss.has_margin(), "{name}");
            // Differences of large values lose precision.
            let points: Vec<f64> = POINTS.into_iter().filter(|x| !squares(loss) || x.abs() < 2.0).collect();
            check_slope(name, &points, |x| config.at(loss, x).unwrap_or_default());
            for far in [-1e4, 1e4] {
                let at = config.at(loss, far).unwrap_or_default();
                assert!(at.value.is_finite() && at.slope.is_finite(), "{name} at {far}: {at:?}");
            }
        }
        let floored = PreferenceConfig { floor: -2.0, ..config };
        let at = |x| floored.at(PreferenceLoss::Floor, x).unwrap_or_default();
        assert_eq!(
            (at(-2.0).value, at(-9.0)),
            (at(-9.0).value, Slope { value: neg_ln_sigmoid(-2.0).value, slope: 0.0 })
        );
        assert_eq!(at(-1.9), neg_ln_sigmoid(-1.9));
        check_slope("log odds", &[-5.0, -0.8, -0.6, -0.5], log_odds);
    }
}
