//! A smooth function of a few numbers, minimised where each of them may have a least and a largest value.
//!
//! Projected Newton steps (D. P. Bertsekas, SIAM J. Control Optim. 20(2), 1982): numbers that stand at an end which the
//! gradient pushes against stay; the others take a step by the curvature, shortened and projected until it helps.

/// What is minimised.
pub(super) trait Objective {
    /// Its value.
    fn value(&self, x: &[f64]) -> f64;
    /// Its gradient and a positive semi-definite stand-in for its second derivatives.
    fn at(&self, x: &[f64]) -> Point;
}

/// An objective near one place.
pub(super) struct Point {
    pub gradient: Vec<f64>,
    /// Its lower triangle; nothing else is read.
    pub curvature: Vec<Vec<f64>>,
}

const STEPS: usize = 300;
/// How much of what the gradient promises a step must bring.
const ENOUGH: f64 = 1e-4;
/// Of a value, what its rounding may amount to.
const ROUNDING: f64 = 1e-15;

/// Where the objective is least, or as near as rounding lets one come, from a start within the ends. A local minimum
/// where the objective is not convex.
pub(super) fn minimise(
    objective: &impl Objective,
    start: Vec<f64>,
    lower: &[f64],
    upper: &[f64],
) -> Vec<f64> {
    let mut x = start;
    let mut value = objective.value(&x);
    for _ in 0..STEPS {
        let Point { gradient, curvature } = objective.at(&x);
        let pushed =
            |j: usize| (x[j] <= lower[j] && gradient[j] > 0.0) || (x[j] >= upper[j] && gradient[j] < 0.0);
        let free: Vec<usize> = (0..x.len()).filter(|&j| !pushed(j)).collect();
        let downhill: Vec<f64> = free.iter().map(|&j| -gradient[j]).collect();
        let moved = |step: &[f64], length: f64| {
            let mut there = x.clone();
            for (&j, step) in free.iter().zip(step) {
                there[j] = (x[j] + length * step).clamp(lower[j], upper[j]);
            }
            let promised: f64 = free.iter().map(|&j| gradient[j] * (there[j] - x[j])).sum();
            (there, promised)
        };
        let rounding = ROUNDING * value.abs().max(1.0);
        let step = newton(&curvature, &free, &downhill);
        let (there, promised) = moved(&step, 1.0);
        if promised <= 0.0 && promised > -rounding {
            // Values can no longer tell whether this helps.
            return there;
        }
        // Where a Newton step runs into an end it may lead uphill; the gradient itself never does.
        let found = [step, downhill].into_iter().find_map(|step| {
            let shorter = |length: f64| {
                let (there, promised) = moved(&step, length);
                let reached = objective.value(&there);
                (promised < 0.0 && reached <= value + ENOUGH * promised + rounding)
                    .then_some((there, reached))
            };
            (0..40).map(|halvings| 0.5_f64.powi(halvings)).find_map(shorter)
        });
        match found {
            Some((there, reached)) => (x, value) = (there, reached),
            None => break,
        }
    }
    x
}

/// The step s with C·s = downhill over the free numbers, by Cholesky's decomposition.
fn newton(curvature: &[Vec<f64>], free: &[usize], downhill: &[f64]) -> Vec<f64> {
    let size = free.len();
    let mut root = vec![vec![0.0; size]; size];
    for j in 0..size {
        for k in 0..=j {
            let before: f64 = (0..k).map(|i| root[j][i] * root[k][i]).sum();
            let left = curvature[free[j]][free[k]] - before;
            // The floor serves directions that the objective knows nothing of.
            root[j][k] = if j == k { left.max(1e-12).sqrt() } else { left / root[k][k] };
        }
    }
    let mut step = downhill.to_vec();
    for j in 0..size {
        let before: f64 = (0..j).map(|k| root[j][k] * step[k]).sum();
        step[j] = (step[j] - before) / root[j][j];
    }
    for j in (0..size).rev() {
        let after: f64 = (j + 1..size).map(|k| root[k][j] * step[k]).sum();
        step[j] = (step[j] - after) / root[j][j];
    }
    step
}
