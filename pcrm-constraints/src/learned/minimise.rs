//! Minimisation of a smooth function of a few variables with box constraints.
//!
//! Projected Newton steps (D. P. Bertsekas, SIAM J. Control Optim. 20(2), 1982): variables at an end that the
//! gradient pushes against stay there; the others take a Newton step, shortened and projected until it helps.

/// A function to minimise.
pub(super) trait Objective {
    /// Returns its value.
    fn value(&self, x: &[f64]) -> f64;
    /// Returns its gradient and a positive semi-definite approximation of its second derivatives.
    fn at(&self, x: &[f64]) -> Derivatives;
}

/// The derivatives of an objective at one point.
pub(super) struct Derivatives {
    pub gradient: Vec<f64>,
    /// The curvature's lower triangle; nothing else is read.
    pub curvature: Vec<Vec<f64>>,
}

const STEPS: usize = 300;
/// The share of the decrease promised by the gradient that a step must achieve.
const ENOUGH: f64 = 1e-4;
/// The relative rounding error of a value.
const ROUNDING: f64 = 1e-15;

/// Minimises the objective from a start within the ends, as precisely as rounding allows; a local minimum if
/// the objective is not convex.
pub(super) fn minimise(
    objective: &impl Objective,
    start: Vec<f64>,
    lower: &[f64],
    upper: &[f64],
) -> Vec<f64> {
    let mut x = start;
    let mut value = objective.value(&x);
    for _ in 0..STEPS {
        let Derivatives { gradient, curvature } = objective.at(&x);
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
            // The expected change is below rounding, so values cannot confirm it.
            return there;
        }
        // A Newton step projected at an end may lead uphill; a projected gradient step never does.
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

/// Solves C·s = downhill over the free variables by Cholesky decomposition.
fn newton(curvature: &[Vec<f64>], free: &[usize], downhill: &[f64]) -> Vec<f64> {
    let size = free.len();
    let mut root = vec![vec![0.0; size]; size];
    for j in 0..size {
        for k in 0..=j {
            let before: f64 = (0..k).map(|i| root[j][i] * root[k][i]).sum();
            let left = curvature[free[j]][free[k]] - before;
            // The floor handles directions in which the objective is flat.
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
