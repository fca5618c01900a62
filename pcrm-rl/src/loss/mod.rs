//! Losses as functions of numbers, in f64 on the host, with their gradients.
//!
//! A trainer gets a few numbers per sequence from the model: scores, or log-probabilities of answer tokens. A
//! loss returns its value and d loss / d number for each, and the trainer backpropagates those through the
//! model. So losses are independent of tensors, every backend minimises the same function, and gradients can
//! be checked by finite differences.

pub mod constraint;
pub mod form;
pub mod pair;
pub mod plackett_luce;
pub mod policy;
pub mod preference;
pub mod ties;

pub use constraint::beyond_bound;
pub use form::{RankingForm, WrongShare};
pub use pair::{LossConfig, PairLoss, Ranking, ScorePair};
pub use ties::TieModel;

/// The value and derivative of a function at a point.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Slope {
    /// f(x)
    pub value: f64,
    /// f'(x)
    pub slope: f64,
}

impl Slope {
    /// Returns a·f + b·g.
    pub fn mixed(self, a: f64, other: Self, b: f64) -> Self {
        Self { value: a * self.value + b * other.value, slope: a * self.slope + b * other.slope }
    }

    /// Returns f(−x) for a function evaluated at −x, with the derivative's sign changed.
    pub fn mirrored(self) -> Self {
        Self { slope: -self.slope, ..self }
    }
}

/// Returns σ(x) = 1 / (1 + e^−x) without overflow.
pub fn sigmoid(x: f64) -> f64 {
    match x >= 0.0 {
        true => 1.0 / (1.0 + (-x).exp()),
        false => x.exp() / (1.0 + x.exp()),
    }
}

/// Returns ln σ(x), exact for large |x|.
pub fn ln_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// Returns −ln σ(x) and its derivative −σ(−x).
pub fn neg_ln_sigmoid(x: f64) -> Slope {
    Slope { value: -ln_sigmoid(x), slope: -sigmoid(-x) }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::Slope;

    /// Asserts that a derivative equals the central difference of its function at each of these points.
    pub fn check_slope(what: &str, points: &[f64], f: impl Fn(f64) -> Slope) {
        const STEP: f64 = 1e-5;
        for &x in points {
            let difference = (f(x + STEP).value - f(x - STEP).value) / (2.0 * STEP);
            let slope = f(x).slope;
            assert!((slope - difference).abs() < 1e-8, "{what} at {x}: {slope}, by differences {difference}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: σ and ln σ beyond the range of exp, and the derivative of −ln σ.
    #[test]
    fn the_logistic_function_neither_overflows_nor_loses_its_tail() {
        assert_eq!((sigmoid(800.0), sigmoid(-800.0)), (1.0, 0.0));
        assert_eq!((ln_sigmoid(800.0), ln_sigmoid(-800.0)), (0.0, -800.0));
        assert!((ln_sigmoid(40.0) + (-40.0_f64).exp()).abs() < 1e-30);
        testing::check_slope("-ln sigmoid", &[-30.0, -2.0, 0.0, 0.3, 9.0], neg_ln_sigmoid);
    }
}
