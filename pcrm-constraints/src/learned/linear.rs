//! f as a linear function of standardised features, with weights of the requested signs.

use pcrm_core::constraint::Direction;
use serde::Serialize;

use super::likelihood::{inverse, loss, slope_and_information};
use super::minimise::{Derivatives, Objective, minimise};
use super::table::{FitData, moments};

/// f(x) = intercept + Σ weightⱼ·(xⱼ − meanⱼ)/stdⱼ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Linear {
    /// The penalty λ, chosen by held-out likelihood.
    pub penalty: f64,
    /// f with all features at their means.
    pub intercept: f64,
    /// The features, in order.
    pub inputs: Vec<Input>,
}

/// A feature as one model sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Input {
    /// The feature's name.
    pub feature: String,
    /// The mean over the fitted pairs.
    pub mean: f64,
    /// Its standard deviation over the fitted pairs, or 1 if it is constant.
    pub std: f64,
    /// The change of f per standard deviation.
    pub weight: f64,
}

/// Candidates for λ, from strict to lax; held-out likelihood chooses.
pub(super) const PENALTIES: [f64; 10] = [100.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4];

/// The lower end of the intercept, where P is ½ to seven digits; wins below ½ would drive it to −∞.
const LEAST_INTERCEPT: f64 = -15.0;

impl Linear {
    /// Computes f from a pair's features.
    pub fn at(&self, x: &[f64]) -> f64 {
        let term = |(input, x): (&Input, &f64)| input.weight * (x - input.mean) / input.std;
        self.intercept + self.inputs.iter().zip(x).map(term).sum::<f64>()
    }

    /// Fits these rows for each λ, from strict to lax, by minimising
    ///
    /// Σᵢ −ln L(f(xᵢ), wᵢ) / (n + 1) − ln L(intercept, ½) / (n + 1) + λ/2·Σ weightⱼ²
    ///
    /// with weightⱼ ≥ 0 if Δ* must increase with a feature, and ≤ 0 if it must decrease. The middle term, a
    /// pair of mean features that is won half the time, keeps the intercept finite when all pairs are won.
    pub(super) fn path(
        table: &FitData,
        names: &[&str],
        directions: &[Direction],
        rows: &[usize],
    ) -> Vec<Self> {
        let inputs = |weights: &[f64], moments: &[(f64, f64)]| {
            let input = |((name, &weight), &(mean, std)): ((&&str, &f64), &(f64, f64))| Input {
                feature: (*name).to_owned(),
                mean,
                std,
                weight,
            };
            names.iter().zip(weights).zip(moments).map(input).collect()
        };
        let moments: Vec<(f64, f64)> = table
            .columns
            .iter()
            .map(|column| match moments(column, rows) {
                // A constant column may have a deviation from rounding.
                (mean, std) if std <= 1e-12 * mean.abs().max(1e-12) => (mean, 1.0),
                moments => moments,
            })
            .collect();
        let mut likelihood = Likelihood::new(table, rows, &moments);
        let (lower, upper): (Vec<f64>, Vec<f64>) = std::iter::once((LEAST_INTERCEPT, f64::INFINITY))
            .chain(directions.iter().map(|direction| match direction {
                Direction::Free => (f64::NEG_INFINITY, f64::INFINITY),
                Direction::Increasing => (0.0, f64::INFINITY),
                Direction::Decreasing => (f64::NEG_INFINITY, 0.0),
            }))
            .unzip();
        let mut parameters = vec![0.0; 1 + directions.len()];
        parameters[0] = likelihood.constant();
        PENALTIES
            .iter()
            .map(|&penalty| {
                likelihood.penalty = penalty;
                parameters = minimise(&likelihood, parameters.clone(), &lower, &upper);
                Self { penalty, intercept: parameters[0], inputs: inputs(&parameters[1..], &moments) }
            })
            .collect()
    }
}

/// Returns f of a model without features: the same P for every pair, fitted to these rows.
pub(super) fn constant(table: &FitData, rows: &[usize]) -> f64 {
    Likelihood::new(table, rows, &[]).constant()
}

/// The objective: rows of standardised features, each with a leading 1, concatenated.
struct Likelihood {
    x: Vec<f64>,
    wins: Vec<f64>,
    penalty: f64,
}

impl Likelihood {
    fn new(table: &FitData, rows: &[usize], moments: &[(f64, f64)]) -> Self {
        let mut x = Vec::with_capacity(rows.len() * (1 + moments.len()));
        for &row in rows {
            x.push(1.0);
            x.extend(
                table.columns.iter().zip(moments).map(|(column, (mean, std))| (column[row] - mean) / std),
            );
        }
        Self { x, wins: rows.iter().map(|&row| table.wins[row]).collect(), penalty: 0.0 }
    }

    fn rows(&self, size: usize) -> impl Iterator<Item = (&[f64], f64)> {
        self.x.chunks_exact(size).zip(self.wins.iter().copied())
    }

    /// Returns the best intercept if all weights are 0.
    fn constant(&self) -> f64 {
        let mean = (self.wins.iter().sum::<f64>() + 0.5) / (self.wins.len() as f64 + 1.0);
        inverse(mean).max(LEAST_INTERCEPT)
    }
}

impl Objective for Likelihood {
    fn value(&self, parameters: &[f64]) -> f64 {
        let losses = self.rows(parameters.len()).map(|(row, win)| loss(dot(row, parameters), win));
        let total = losses.sum::<f64>() + loss(parameters[0], 0.5);
        let weights = &parameters[1..];
        total / (self.wins.len() as f64 + 1.0) + self.penalty / 2.0 * dot(weights, weights)
    }

    fn at(&self, parameters: &[f64]) -> Derivatives {
        let size = parameters.len();
        let mut gradient = vec![0.0; size];
        let mut curvature = vec![vec![0.0; size]; size];
        let mut add = |row: &[f64], win: f64| {
            let f = dot(row, parameters);
            let (slope, information) = slope_and_information(f, win);
            for j in 0..size {
                gradient[j] += slope * row[j];
                for k in 0..=j {
                    curvature[j][k] += information * row[j] * row[k];
                }
            }
        };
        self.rows(size).for_each(|(row, win)| add(row, win));
        let mut means = vec![0.0; size];
        means[0] = 1.0;
        add(&means, 0.5);
        let count = self.wins.len() as f64 + 1.0;
        for j in 0..size {
            let penalty = if j == 0 { 0.0 } else { self.penalty };
            gradient[j] = gradient[j] / count + penalty * parameters[j];
            curvature[j].iter_mut().for_each(|entry| *entry /= count);
            curvature[j][j] += penalty;
        }
        Derivatives { gradient, curvature }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use pcrm_core::data::prompt_id::PromptId;
    use serde_json::Value;

    use super::*;

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../../tests/golden/constraints/learned.json")).unwrap()
    }

    fn list(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    }

    fn table() -> FitData {
        let golden = golden();
        let wins = list(&golden["wins"]);
        FitData {
            columns: golden["columns"].as_array().unwrap().iter().map(list).collect(),
            prompts: vec![PromptId::of_text("prompt"); wins.len()],
            folds: vec![0; wins.len()],
            wins,
        }
    }

    /// Protects: fits equal scipy's minimum of the same loss over many starts, with free and with fixed
    /// signs, at three penalties.
    #[test]
    fn fits_are_scipys() {
        let table = table();
        let rows = table.rows(|_| true);
        for fit in golden()["fits"].as_array().unwrap() {
            let directions: Vec<Direction> = (list(&fit["signs"]).into_iter())
                .map(|sign| match sign {
                    0.0 => Direction::Free,
                    sign if sign > 0.0 => Direction::Increasing,
                    _ => Direction::Decreasing,
                })
                .collect();
            let path = Linear::path(&table, &["a", "b", "c"], &directions, &rows);
            let model = path.iter().find(|model| Some(model.penalty) == fit["penalty"].as_f64()).unwrap();
            let got: Vec<f64> = std::iter::once(model.intercept)
                .chain(model.inputs.iter().map(|input| input.weight))
                .collect();
            let want = list(&fit["parameters"]);
            let off = got.iter().zip(&want).map(|(got, want)| (got - want).abs()).fold(0.0, f64::max);
            assert!(off < 1e-6, "{fit}: {got:?}");
            let moments: Vec<(f64, f64)> = model.inputs.iter().map(|input| (input.mean, input.std)).collect();
            let objective = Likelihood { penalty: model.penalty, ..Likelihood::new(&table, &rows, &moments) };
            assert!(objective.value(&got) <= fit["value"].as_f64().unwrap() + 1e-12, "{fit}");
        }
    }

    /// Protects: the gradient, including penalty and pseudo-pair, is that of the objective.
    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let table = table();
        let rows = table.rows(|_| true);
        let moments: Vec<(f64, f64)> = table.columns.iter().map(|column| moments(column, &rows)).collect();
        let objective = Likelihood { penalty: 0.3, ..Likelihood::new(&table, &rows, &moments) };
        let place = [0.2, -0.7, 0.4, 1.1];
        let gradient = objective.at(&place).gradient;
        for (j, got) in gradient.iter().enumerate() {
            let moved = |by: f64| {
                let mut there = place;
                there[j] += by;
                objective.value(&there)
            };
            let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((got - numeric).abs() < 1e-9, "{j}: {got}, expected {numeric}");
        }
    }
}
