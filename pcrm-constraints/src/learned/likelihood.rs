//! The likelihood of wins under a bound, the objective that f is fitted to.
//!
//! With Δ*/2 = softplus(f) the loss of PCRM pulls P(chosen ≻ rejected) towards
//! P(f) = σ(softplus(f)) = (1 + eᶠ)/(2 + eᶠ), which is between ½ and 1. A win w in \[0, 1\] has
//! ln L = w·ln P + (1 − w)·ln(1 − P) = w·softplus(f) − ln(2 + eᶠ).

/// Computes ln(1 + eᶠ), which is Δ*/2, without overflow.
pub(super) fn softplus(f: f64) -> f64 {
    f.max(0.0) + (-f.abs()).exp().ln_1p()
}

/// Computes P(f), from ½ to 1.
pub(super) fn probability(f: f64) -> f64 {
    let e = (-f.abs()).exp();
    if f > 0.0 { (e + 1.0) / (2.0 * e + 1.0) } else { (1.0 + e) / (2.0 + e) }
}

/// Returns the f with P(f) = `p`; −∞ at ½ and below, ∞ at 1.
pub(super) fn inverse(p: f64) -> f64 {
    ((2.0 * p - 1.0).max(0.0) / (1.0 - p)).ln()
}

/// Computes −ln L of a win or a share of wins: ln(2 + eᶠ) − w·softplus(f). Not convex in f for w < ½.
pub(super) fn loss(f: f64, win: f64) -> f64 {
    let e = (-f.abs()).exp();
    let (two_plus, half) =
        if f > 0.0 { (f + (2.0 * e).ln_1p(), f + e.ln_1p()) } else { ((2.0 + e).ln(), e.ln_1p()) };
    two_plus - win * half
}

/// Computes d(−ln L)/df = (P − w)·σ(f) and Fisher's information about f in one win, P·(1 − P)·σ(f)²: the
/// second derivative at w = P, and never negative.
pub(super) fn slope_and_information(f: f64, win: f64) -> (f64, f64) {
    let (p, of_f) = (probability(f), sigmoid(f));
    ((p - win) * of_f, p * (1.0 - p) * of_f * of_f)
}

fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Protects: P and −ln L equal those of scipy, for extreme f too.
    #[test]
    fn losses_are_scipys() {
        let golden: Value =
            serde_json::from_str(include_str!("../../../tests/golden/constraints/learned.json")).unwrap();
        let list = |value: &Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
        };
        let close = |got: f64, want: f64| (got - want).abs() <= 1e-12 * want.abs().max(1.0);
        let fs = list(&golden["f"]);
        for (f, want) in fs.iter().zip(list(&golden["p"])) {
            assert!(close(probability(*f), want), "P({f}) = {}, expected {want}", probability(*f));
        }
        for (win, losses) in golden["losses"].as_object().unwrap() {
            let win = win.parse().unwrap();
            for (f, want) in fs.iter().zip(list(losses)) {
                assert!(close(loss(*f, win), want), "{f}, {win}: {}, expected {want}", loss(*f, win));
            }
        }
    }

    /// Protects: the slope is the loss's derivative, and the information is the slope's derivative at w = P.
    #[test]
    fn derivatives_are_those_of_finite_differences() {
        let step = 1e-5;
        for f in [-6.0, -1.0, 0.0, 0.4, 3.0, 9.0] {
            for win in [0.0, 0.2, 0.75, 1.0] {
                let numeric = (loss(f + step, win) - loss(f - step, win)) / (2.0 * step);
                assert!((slope_and_information(f, win).0 - numeric).abs() < 1e-9, "{f}, {win}: {numeric}");
            }
            let p = probability(f);
            let slope = |f| slope_and_information(f, p).0;
            let numeric = (slope(f + step) - slope(f - step)) / (2.0 * step);
            let information = slope_and_information(f, p).1;
            assert!((information - numeric).abs() < 1e-9, "{f}: {numeric}");
            assert!((inverse(p) - f).abs() < 1e-9, "{f}: {}", inverse(p));
        }
        assert_eq!(inverse(0.4), f64::NEG_INFINITY);
    }
}
