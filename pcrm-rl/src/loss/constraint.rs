//! The constraint of PCRM: the term that bounds a margin, for reward models and policies.

use super::{Slope, neg_ln_sigmoid};

/// Returns −ln σ(Δ* − Δ) and its derivative by Δ, σ(Δ − Δ*) (arXiv 2404.00978, §4.1).
///
/// Together with −ln σ(Δ) it is smallest at Δ = Δ*/2. For a reward model Δ = r_w − r_l; for DPO it is the
/// margin of the implicit rewards. With an infinite Δ* there is no bound: the term and its derivative are 0.
pub fn beyond_bound(margin: f64, bound: f64) -> Slope {
    match bound.is_finite() {
        true => neg_ln_sigmoid(bound - margin).mirrored(),
        false => Slope::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::testing::check_slope;

    /// Protects: the derivative, no term without a bound, and the optimum Δ*/2 of both terms together.
    #[test]
    fn the_margin_is_drawn_to_half_its_bound() {
        check_slope("bound 3", &[-5.0, 0.0, 2.9, 3.0, 40.0], |margin| beyond_bound(margin, 3.0));
        assert_eq!(beyond_bound(7.0, f64::INFINITY), Slope::default());
        let total = |margin: f64| neg_ln_sigmoid(margin).slope + beyond_bound(margin, 3.0).slope;
        assert!(total(1.5).abs() < 1e-15 && total(1.4) < 0.0 && total(1.6) > 0.0);
    }
}
