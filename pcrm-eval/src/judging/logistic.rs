//! Logistic regression on shares, with an L1 penalty: the model behind length-controlled win rates.

use crate::error::{Error, Result, check_lengths};

/// Rows of features with the share in \[0, 1\] to predict for each.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    /// Features, row by row.
    pub features: Vec<Vec<f64>>,
    /// Target share of every row.
    pub targets: Vec<f64>,
}

/// Returns the penalties that scikit-learn's `LogisticRegressionCV` tries: ten values of C from 1e-4 to 1e4,
/// evenly spaced on a log scale.
pub fn usual_penalties() -> Vec<f64> {
    (0..10).map(|at| 10f64.powf(-4.0 + 8.0 * f64::from(at) / 9.0)).collect()
}

impl Shares {
    /// Returns the weights w that minimise C·Σ −(y ln σ(w·x) + (1 − y) ln σ(−w·x)) + ‖w‖₁, the objective of
    /// liblinear's L1 solver. Proximal Newton steps with a line search run until no step lowers the
    /// objective.
    ///
    /// # Errors
    /// Fails if there are no rows, if rows differ in length, if the numbers of rows and targets differ, or if
    /// C is not positive.
    pub fn fit(&self, c: f64) -> Result<Vec<f64>> {
        check_lengths("rows and shares", self.features.len(), self.targets.len())?;
        let Some(first) = self.features.first() else { return Err(Error::Empty { what: "rows" }) };
        if let Some(row) = self.features.iter().find(|row| row.len() != first.len()) {
            check_lengths("features of two rows", first.len(), row.len())?;
        }
        if !(c > 0.0 && c.is_finite()) {
            let what = "C of a logistic regression".to_owned();
            return Err(Error::Range { what, value: c, expected: "a positive number" });
        }
        let mut weights = vec![0.0; first.len()];
        let mut value = self.objective(&weights, c);
        for _ in 0..200 {
            let (gradient, hessian) = self.derivatives(&weights, c);
            let step = newton_step(&weights, &gradient, &hessian);
            let slope: f64 = step.iter().zip(&gradient).map(|(d, g)| d * g).sum::<f64>()
                + weights.iter().zip(&step).map(|(w, d)| (w + d).abs() - w.abs()).sum::<f64>();
            let mut size = 1.0;
            let next = loop {
                let next: Vec<f64> = weights.iter().zip(&step).map(|(w, d)| w + size * d).collect();
                let found = self.objective(&next, c);
                if found <= value + 1e-4 * size * slope {
                    break Some((next, found));
                }
                size *= 0.5;
                if size < 1e-12 {
                    break None;
                }
            };
            let Some((next, found)) = next else { break };
            let moved = weights.iter().zip(&next).map(|(w, n)| (w - n).abs()).fold(0.0, f64::max);
            (weights, value) = (next, found);
            if moved < 1e-12 {
                break;
            }
        }
        Ok(weights)
    }

    /// Returns the C with the least mean log loss on held-out rows; `folds` has the fold of every row.
    ///
    /// # Errors
    /// Same as [`Shares::fit`]; also fails if the numbers of folds and rows differ or a fold has all rows.
    pub fn best_penalty(&self, penalties: &[f64], folds: &[usize]) -> Result<f64> {
        check_lengths("rows and folds", self.features.len(), folds.len())?;
        let count = folds.iter().max().map_or(0, |last| last + 1);
        let mut best = (f64::INFINITY, penalties.first().copied().unwrap_or(1.0));
        for c in penalties {
            let mut losses = Vec::new();
            for fold in 0..count {
                let [held, fitted] = [true, false].map(|is| self.rows(folds, |of| (of == fold) == is));
                if held.targets.is_empty() {
                    continue;
                }
                losses.push(held.log_loss(&fitted.fit(*c)?));
            }
            let loss = crate::quantiles::mean(&losses);
            if loss < best.0 {
                best = (loss, *c);
            }
        }
        Ok(best.1)
    }

    /// Returns the mean −(y ln σ(w·x) + (1 − y) ln σ(−w·x)).
    pub fn log_loss(&self, weights: &[f64]) -> f64 {
        self.objective(weights, 1.0) / self.targets.len() as f64
            - weights.iter().map(|w| w.abs()).sum::<f64>() / self.targets.len() as f64
    }

    /// Returns Σ σ(z)(1 − σ(z))·x xᵀ: the Fisher information of the rows about the weights.
    pub fn information(&self, weights: &[f64]) -> Vec<Vec<f64>> {
        self.derivatives(weights, 1.0).1
    }

    fn rows(&self, folds: &[usize], is: impl Fn(usize) -> bool) -> Self {
        let kept = || folds.iter().enumerate().filter(|(_, fold)| is(**fold)).map(|(at, _)| at);
        Self {
            features: kept().map(|at| self.features[at].clone()).collect(),
            targets: kept().map(|at| self.targets[at]).collect(),
        }
    }

    fn objective(&self, weights: &[f64], c: f64) -> f64 {
        let loss = |(row, y): (&Vec<f64>, &f64)| {
            let z = dot(row, weights);
            y * softplus(-z) + (1.0 - y) * softplus(z)
        };
        let sum: f64 = self.features.iter().zip(&self.targets).map(loss).sum();
        c * sum + weights.iter().map(|w| w.abs()).sum::<f64>()
    }

    /// Returns the gradient and the Hessian of C times the loss, without the penalty.
    fn derivatives(&self, weights: &[f64], c: f64) -> (Vec<f64>, Vec<Vec<f64>>) {
        let size = weights.len();
        let (mut gradient, mut hessian) = (vec![0.0; size], vec![vec![0.0; size]; size]);
        for (row, y) in self.features.iter().zip(&self.targets) {
            let p = sigmoid(dot(row, weights));
            for i in 0..size {
                gradient[i] += c * (p - y) * row[i];
                for j in 0..size {
                    hessian[i][j] += c * p * (1.0 - p) * row[i] * row[j];
                }
            }
        }
        (gradient, hessian)
    }
}

/// Returns the step d that minimises g·d + ½ dᵀHd + ‖w + d‖₁, by coordinate descent.
fn newton_step(weights: &[f64], gradient: &[f64], hessian: &[Vec<f64>]) -> Vec<f64> {
    let size = weights.len();
    let mut step = vec![0.0; size];
    for _ in 0..1000 {
        let mut moved = 0.0_f64;
        for i in 0..size {
            // Rows predicted with certainty have no curvature left.
            let curvature = hessian[i][i].max(1e-12);
            let slope = gradient[i] + dot(&hessian[i], &step) + (curvature - hessian[i][i]) * step[i];
            let free = weights[i] + step[i] - slope / curvature;
            let shrunk = free.signum() * (free.abs() - 1.0 / curvature).max(0.0);
            let next = shrunk - weights[i];
            moved = moved.max((next - step[i]).abs());
            step[i] = next;
        }
        if moved < 1e-14 {
            break;
        }
    }
    step
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Returns σ(x).
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
