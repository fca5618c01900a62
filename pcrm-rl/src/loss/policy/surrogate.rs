//! Surrogates: the loss term of one token, from its importance ratio, log-probability and advantage.

use crate::loss::sigmoid;

/// The formula of a token's term.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Surrogate {
    /// −min(min(ρ, most)·A, clip(ρ, 1 − low, 1 + high)·A); if A < 0 at most −dual·A.
    Clipped { low: f64, high: f64, most: Option<f64>, dual: Option<f64> },
    /// −min(ρ, most)·A·ln π, without gradient through ρ.
    Cispo { most: f64 },
    /// −(4/τ)·σ(τ(ρ − 1))·A, τ by the sign of A.
    Sapo { positive: f64, negative: f64 },
    /// −φ·A·ln π, without gradient through φ = e^(λ + k·ln w − λ·w) of the whole answer; k and λ by the sign
    /// of A.
    Vespo { k: [f64; 2], lambda: [f64; 2] },
}

/// The term of a token, with its derivatives by ln ρ and, separately, by ln π.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Term {
    pub value: f64,
    pub by_ratio: f64,
    pub by_log_prob: f64,
}

/// The side of a clip that changed a token's term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Side {
    #[default]
    None,
    Low,
    High,
}

impl Surrogate {
    /// Returns the term of a token with this ρ, ln π and A. `weight` is ln w of its answer, used by `vespo`.
    pub fn term(&self, ratio: f64, log_prob: f64, advantage: f64, weight: f64) -> Term {
        match *self {
            Self::Clipped { low, high, most, dual } => {
                let held = most.map_or(ratio, |most| ratio.min(most));
                let clipped = ratio.clamp(1.0 - low, 1.0 + high);
                let (free, bound) = (held * advantage, clipped * advantage);
                // Within the range both are equal, with the same slope.
                let (gain, moves) = match free <= bound {
                    true => (free, held == ratio),
                    false => (bound, clipped == ratio),
                };
                let least = dual.filter(|_| advantage < 0.0).map(|dual| dual * advantage);
                match least {
                    Some(least) if gain < least => Term { value: -least, ..Term::default() },
                    _ => Term {
                        value: -gain,
                        by_ratio: if moves { -ratio * advantage } else { 0.0 },
                        by_log_prob: 0.0,
                    },
                }
            }
            Self::Cispo { most } => weighted(ratio.min(most) * advantage, log_prob),
            Self::Sapo { positive, negative } => {
                let tau = if advantage > 0.0 { positive } else { negative };
                let soft = sigmoid(tau * (ratio - 1.0));
                let slope = 4.0 * soft * sigmoid(-tau * (ratio - 1.0)) * ratio;
                Term { value: -4.0 / tau * soft * advantage, by_ratio: -slope * advantage, by_log_prob: 0.0 }
            }
            Self::Vespo { .. } => weighted(self.phi(advantage, weight) * advantage, log_prob),
        }
    }

    /// Returns φ of an answer at ln w; 1 for other losses.
    pub fn phi(&self, advantage: f64, weight: f64) -> f64 {
        let Self::Vespo { k, lambda } = *self else { return 1.0 };
        let side = usize::from(advantage < 0.0);
        let lambda = lambda[side].max(1e-4);
        let phi = (lambda + k[side] * weight - lambda * weight.exp()).exp();
        if phi.is_finite() { phi } else { 0.0 }
    }

    /// Returns the side of the clip that holds a token; for `cispo` only the upper one.
    pub fn side(&self, ratio: f64, advantage: f64) -> Side {
        match *self {
            Self::Clipped { low, high, most, .. } => {
                let held = most.map_or(ratio, |most| ratio.min(most));
                match advantage {
                    a if a < 0.0 && held < 1.0 - low => Side::Low,
                    a if a > 0.0 && held > 1.0 + high => Side::High,
                    _ => Side::None,
                }
            }
            Self::Cispo { most } if ratio > most && advantage > 0.0 => Side::High,
            Self::Cispo { .. } | Self::Sapo { .. } | Self::Vespo { .. } => Side::None,
        }
    }
}

/// Returns −weight·ln π.
fn weighted(weight: f64, log_prob: f64) -> Term {
    Term { value: -weight * log_prob, by_ratio: 0.0, by_log_prob: -weight }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::Slope;
    use crate::loss::testing::check_slope;

    /// Protects: the derivative of every term by ln ρ, inside and outside its clips, and by ln π.
    #[test]
    fn slopes_are_differences() {
        let clipped = Surrogate::Clipped { low: 0.2, high: 0.3, most: Some(2.0), dual: Some(3.0) };
        let plain = Surrogate::Clipped { low: 0.2, high: 0.3, most: None, dual: None };
        let all = [
            clipped,
            Surrogate::Clipped { low: 0.2, high: 0.3, most: None, dual: Some(3.0) },
            plain,
            Surrogate::Cispo { most: 1.5 },
            Surrogate::Sapo { positive: 1.0, negative: 1.05 },
            Surrogate::Vespo { k: [2.0, 3.0], lambda: [3.0, 2.0] },
        ];
        for surrogate in all {
            for advantage in [-1.5, 0.0, 0.7] {
                let name = format!("{surrogate:?} at {advantage}");
                let fixed = matches!(surrogate, Surrogate::Cispo { .. });
                check_slope(&name, &[-1.0, -0.3, -0.1, 0.0, 0.1, 0.5, 1.0, 1.5], |x| {
                    let term = surrogate.term(if fixed { 1.1 } else { x.exp() }, -0.4, advantage, 0.2);
                    Slope { value: term.value, slope: term.by_ratio }
                });
                check_slope(&name, &[-3.0, -0.2], |x| {
                    let term = surrogate.term(1.1, x, advantage, 0.2);
                    Slope { value: term.value, slope: term.by_log_prob }
                });
            }
        }
        assert_eq!(plain.side(0.7, -1.0), Side::Low);
        assert_eq!((plain.side(1.4, 1.0), plain.side(1.4, -1.0)), (Side::High, Side::None));
        assert_eq!(clipped.term(4.0, 0.0, -1.0, 0.0).value, 2.0, "held by most before the dual clip");
        assert_eq!(Surrogate::Vespo { k: [2.0; 2], lambda: [3.0; 2] }.phi(1.0, 0.0), 1.0);
    }
}
