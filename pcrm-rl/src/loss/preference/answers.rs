//! Losses that use each answer's log-ratio separately.

use super::batch::Sums;
use super::config::PreferenceConfig;
use super::names::PreferenceLoss;
use crate::loss::{Slope, neg_ln_sigmoid, sigmoid};

/// A loss of a pair, with its derivatives by the two log-probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct OfPair {
    pub value: f64,
    pub d_chosen: f64,
    pub d_rejected: f64,
}

/// Returns σ(x) and its derivative σ(x)·σ(−x).
fn logistic(x: f64) -> Slope {
    Slope { value: sigmoid(x), slope: sigmoid(x) * sigmoid(-x) }
}

impl PreferenceConfig {
    /// Returns the loss by r_w = β·lr_w and r_l = β·lr_l; `None` for losses of another kind.
    pub(super) fn apart(&self, loss: PreferenceLoss, chosen: &Sums, rejected: &Sums) -> Option<OfPair> {
        use PreferenceLoss as L;
        let beta = self.beta;
        let (won, lost) = (chosen.log_ratio(), rejected.log_ratio());
        let (r_w, r_l) = (beta * won, beta * lost);
        let (by_won, by_lost) = match loss {
            L::NcaPair => (
                neg_ln_sigmoid(r_w).mixed(1.0, neg_ln_sigmoid(-r_w).mirrored(), 0.5),
                neg_ln_sigmoid(-r_l).mirrored().mixed(0.5, Slope::default(), 0.0),
            ),
            L::BcoPair => (neg_ln_sigmoid(r_w), neg_ln_sigmoid(-r_l).mirrored()),
            L::SppoHard => {
                // In terms of β·lr, so that the common factor below cancels the division.
                let square = |off: f64| Slope { value: off * off, slope: 2.0 * off / beta };
                (square(won - 0.5 / beta), square(lost + 0.5 / beta))
            }
            L::ApoZero => {
                let rest = logistic(-r_w).mirrored(); // 1 − σ(r_w)
                (rest, logistic(r_l))
            }
            L::ApoDown => {
                let rest = logistic(r_l - r_w); // 1 − σ(r_w − r_l)
                let down = logistic(r_w);
                let by_won = Slope { value: down.value + rest.value, slope: down.slope - rest.slope };
                (by_won, Slope { value: 0.0, slope: rest.slope })
            }
            _ => return None,
        };
        Some(OfPair {
            value: by_won.value + by_lost.value,
            d_chosen: beta * by_won.slope,
            d_rejected: beta * by_lost.slope,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::check_slope;

    /// Protects: both derivatives of every loss of this kind, by differences.
    #[test]
    fn slopes_are_differences() {
        let config = PreferenceConfig { beta: 0.3, ..PreferenceConfig::default() };
        let sums = |policy: f64| Sums { policy, reference: -0.4, tokens: 3.0 };
        let mut seen = 0;
        for (loss, name) in super::super::names::ALL {
            if config.apart(loss, &sums(0.0), &sums(0.0)).is_none() {
                continue;
            }
            seen += 1;
            let at =
                |chosen, rejected| config.apart(loss, &sums(chosen), &sums(rejected)).unwrap_or_default();
            let points = [-7.0, -0.9, -0.4, 0.2, 3.0];
            check_slope(name, &points, |x| {
                let of = at(x, -1.3);
                Slope { value: of.value, slope: of.d_chosen }
            });
            check_slope(name, &points, |x| {
                let of = at(-1.3, x);
                Slope { value: of.value, slope: of.d_rejected }
            });
        }
        assert_eq!(seen, 5);
    }
}
