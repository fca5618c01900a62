//! Two models of ties, which extend Bradley–Terry's.

use serde::{Deserialize, Serialize};

use super::{Slope, ln_sigmoid, neg_ln_sigmoid, sigmoid};

/// A model of ties between two scores, with Δ = r_i − r_j.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TieModel {
    /// No model: ties are left out of training.
    #[default]
    #[serde(rename = "drop")]
    None,
    /// Davidson (1970): P(i ≻ j) = e^{r_i} / (e^{r_i} + e^{r_j} + ν·e^{(r_i + r_j)/2}), P(tie) the rest.
    Davidson {
        /// ν > 0: 0 would make ties impossible; at Δ = 0 a tie has probability ν / (2 + ν).
        nu: f64,
    },
    /// Rao and Kupper (1967): P(i ≻ j) = σ(Δ − ln θ), P(tie) = (θ² − 1)·σ(Δ − ln θ)·σ(−Δ − ln θ).
    RaoKupper {
        /// θ > 1: 1 would make ties impossible; at Δ = 0 a tie has probability (θ − 1) / (θ + 1).
        theta: f64,
    },
}

impl TieModel {
    /// Returns −ln P(i ≻ j) at Δ.
    pub fn win(self, margin: f64) -> Slope {
        match self {
            Self::None => neg_ln_sigmoid(margin),
            // With q = P(tie) / (1 − P(tie)): P(i ≻ j) = σ(Δ) / (1 + q).
            Self::Davidson { nu } => {
                let (odds, of_odds) = (log_odds(margin, nu), neg_ln_sigmoid(-log_odds(margin, nu).value));
                let wins = neg_ln_sigmoid(margin);
                Slope { value: wins.value + of_odds.value, slope: wins.slope - of_odds.slope * odds.slope }
            }
            Self::RaoKupper { theta } => neg_ln_sigmoid(margin - theta.ln()),
        }
    }

    /// Returns −ln P(tie) at Δ; `None` without a model of ties.
    pub fn tie(self, margin: f64) -> Option<Slope> {
        match self {
            Self::None => None,
            Self::Davidson { nu } => {
                let odds = log_odds(margin, nu);
                let tied = neg_ln_sigmoid(odds.value);
                Some(Slope { value: tied.value, slope: tied.slope * odds.slope })
            }
            Self::RaoKupper { theta } => {
                let over = neg_ln_sigmoid(margin - theta.ln());
                let under = neg_ln_sigmoid(-margin - theta.ln()).mirrored();
                let both = over.mixed(1.0, under, 1.0);
                Some(Slope { value: both.value - (theta * theta - 1.0).ln(), ..both })
            }
        }
    }
}

/// Returns ln q = ln ν + ½·(ln σ(Δ) + ln σ(−Δ)), Davidson's log-odds of a tie.
fn log_odds(margin: f64, nu: f64) -> Slope {
    Slope {
        value: nu.ln() + 0.5 * (ln_sigmoid(margin) + ln_sigmoid(-margin)),
        slope: 0.5 * (sigmoid(-margin) - sigmoid(margin)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::check_slope;

    const MODELS: [TieModel; 2] = [TieModel::Davidson { nu: 1.3 }, TieModel::RaoKupper { theta: 2.0 }];

    /// Protects: the probabilities of win, loss and tie sum to 1, and every derivative.
    #[test]
    fn probabilities_add_up_and_slopes_are_differences() {
        let points = [-6.0, -0.7, 0.0, 0.2, 8.0];
        check_slope("no ties", &points, |margin| TieModel::None.win(margin));
        for model in MODELS {
            check_slope("win", &points, |margin| model.win(margin));
            check_slope("tie", &points, |margin| model.tie(margin).unwrap_or_default());
            for margin in points {
                let tie = model.tie(margin).unwrap_or_default();
                let parts = [model.win(margin), model.win(-margin), tie].map(|part| (-part.value).exp());
                assert!((parts.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{model:?} at {margin}: {parts:?}");
            }
        }
        assert_eq!(TieModel::None.tie(0.0), None);
    }
}
