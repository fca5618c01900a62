//! Logistic regression of wins on one number: P(win) = σ(Δ*/2), Δ* = β1·v + d, by maximum likelihood.
//!
//! L(β1, d) = Σ kᵢ [wᵢ ln σ(zᵢ) + (1 − wᵢ) ln(1 − σ(zᵢ))], zᵢ = (β1·vᵢ + d)/2, is concave; wᵢ may be any
//! share in \[0, 1\] and kᵢ is the count of an observation. Newton's method with step halving maximises L.
//! Under β1 ≥ 0 and d ≥ [`LEAST`] the maximum is the unconstrained one, or on one of the two borders of that
//! quadrant, which are both tried.

/// The smallest fitted d, and so the smallest fitted bound.
pub const LEAST: f64 = 0.01;
/// An upper limit on Newton steps that no fit reaches.
const STEPS: usize = 60;

/// Observations and their counts.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The variable that predicts wins, at least 0.
    pub v: &'a [f64],
    /// Shares of wins.
    pub wins: &'a [f64],
    /// The counts of the observations.
    pub counts: &'a [f64],
}

/// Δ* = β1·v + d.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearBound {
    /// β1.
    pub slope: f64,
    /// d, the Δ* at v = 0.
    pub end: f64,
}

impl LinearBound {
    /// Computes Δ* at v.
    pub fn at(&self, v: f64) -> f64 {
        self.slope * v + self.end
    }

    /// Returns the line of greatest likelihood, with any signs. Perfectly separated wins have no maximum; the
    /// result is then a steep line. Without two different v the slope is 0.
    pub fn free(sample: &Sample<'_>) -> Self {
        let total: f64 = sample.counts.iter().sum();
        let mean = sample.sum(|v, _| v) / total;
        let scale = (sample.sum(|v, _| (v - mean).powi(2)) / total).sqrt();
        // Rounding turns equal numbers into differences of about 1e-17.
        if scale.is_nan() || scale <= 1e-12 * mean.abs() {
            return Self { slope: 0.0, end: constant(sample) };
        }
        let half = logit(sample.mean_win());
        let [a, b] = climb(sample, [half, 0.0], |v| [1.0, (v - mean) / scale], 0.0);
        Self { slope: 2.0 * b / scale, end: 2.0 * (a - b * mean / scale) }
    }

    /// Returns the line of greatest likelihood with β1 ≥ 0 and d ≥ [`LEAST`].
    pub fn bounded(sample: &Sample<'_>, free: Self) -> Self {
        if free.slope >= 0.0 && free.end >= LEAST {
            return free;
        }
        let flat = Self { slope: 0.0, end: constant(sample).max(LEAST) };
        let scale = (sample.sum(|v, _| v * v) / sample.counts.iter().sum::<f64>()).sqrt();
        if scale.is_nan() || scale <= 0.0 {
            return flat;
        }
        let [b, _] = climb(sample, [0.0, 0.0], |v| [v / scale, 0.0], LEAST / 2.0);
        let steep = Self { slope: (2.0 * b / scale).max(0.0), end: LEAST };
        if steep.likelihood(sample) > flat.likelihood(sample) { steep } else { flat }
    }

    /// Computes Σ k [w ln σ(Δ*/2) + (1 − w) ln(1 − σ(Δ*/2))], in nats.
    pub fn likelihood(&self, sample: &Sample<'_>) -> f64 {
        sample.sum(|v, win| log_likelihood(self.at(v) / 2.0, win))
    }
}

impl Sample<'_> {
    /// Returns the mean share of wins.
    pub fn mean_win(&self) -> f64 {
        self.sum(|_, win| win) / self.counts.iter().sum::<f64>()
    }

    fn sum(&self, term: impl Fn(f64, f64) -> f64) -> f64 {
        let counted = self.counts.iter().zip(self.v).zip(self.wins);
        counted.filter(|((k, _), _)| **k > 0.0).map(|((k, v), win)| k * term(*v, *win)).sum()
    }
}

/// Returns the single bound for all pairs: c = 2·logit(mean win). Shares of 0 and 1 are moved inwards by half
/// a win.
pub fn constant(sample: &Sample<'_>) -> f64 {
    let half = 0.5 / sample.counts.iter().sum::<f64>().max(1.0);
    2.0 * logit(sample.mean_win().clamp(half, 1.0 - half))
}

/// Computes w ln σ(z) + (1 − w) ln(1 − σ(z)), in nats; exact for any z.
pub fn log_likelihood(z: f64, win: f64) -> f64 {
    // 0 · ∞ would be NaN.
    let cost = |share: f64, cost: f64| if share == 0.0 { 0.0 } else { share * cost };
    -cost(win, softplus(-z)) - cost(1.0 - win, softplus(z))
}

/// Computes 1 / (1 + e^−z).
pub fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 { 1.0 / (1.0 + (-z).exp()) } else { z.exp() / (1.0 + z.exp()) }
}

fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

fn logit(p: f64) -> f64 {
    let p = p.clamp(1e-9, 1.0 - 1e-9);
    (p / (1.0 - p)).ln()
}

/// Maximises the likelihood of z = θ·features + offset over θ, by Newton's method from `start`. A feature
/// that is 0 everywhere keeps its θ.
fn climb(sample: &Sample<'_>, start: [f64; 2], features: impl Fn(f64) -> [f64; 2], offset: f64) -> [f64; 2] {
    let z = |theta: [f64; 2], v: f64| {
        let [f, g] = features(v);
        theta[0] * f + theta[1] * g + offset
    };
    let value = |theta| sample.sum(|v, win| log_likelihood(z(theta, v), win));
    let (mut theta, mut best) = (start, value(start));
    for _ in 0..STEPS {
        let (mut slope, mut bend) = ([0.0; 2], [0.0; 3]);
        for ((k, v), win) in sample.counts.iter().zip(sample.v).zip(sample.wins) {
            if *k == 0.0 {
                continue;
            }
            let ([f, g], p) = (features(*v), sigmoid(z(theta, *v)));
            let (off, spread) = (k * (win - p), k * p * (1.0 - p));
            slope = [slope[0] + off * f, slope[1] + off * g];
            bend = [bend[0] + spread * f * f, bend[1] + spread * f * g, bend[2] + spread * g * g];
        }
        let Some(step) = solve(bend, slope) else { break };
        // Below this the quadratic promises a gain smaller than rounding; by quadratic convergence its last
        // step is exact enough.
        if slope[0] * step[0] + slope[1] * step[1] < 1e-11 * (1.0 + best.abs()) {
            theta = [theta[0] + step[0], theta[1] + step[1]];
            break;
        }
        let halvings = (0..30).map(|by| 0.5_f64.powi(by));
        let moved = halvings
            .map(|by| [theta[0] + by * step[0], theta[1] + by * step[1]])
            .map(|theta| (theta, value(theta)))
            .find(|(_, value)| *value > best);
        match moved {
            Some(better) => (theta, best) = better,
            None => break,
        }
    }
    theta
}

/// Solves A x = b with a symmetric A given as (a, b, c) of [[a, b], [b, c]]; a row of zeros gives 0.
fn solve([a, b, c]: [f64; 3], [p, q]: [f64; 2]) -> Option<[f64; 2]> {
    if c == 0.0 {
        return (a > 0.0).then(|| [p / a, 0.0]);
    }
    let determinant = a * c - b * b;
    (determinant > 1e-14 * a * c).then(|| [(c * p - b * q) / determinant, (a * q - b * p) / determinant])
}
