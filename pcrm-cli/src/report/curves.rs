//! Curves of a run, from the lines of its `metrics.jsonl`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The most points of a line.
const POINTS: usize = 300;
/// A smoothed line averages windows of this fraction of a run's points: 1/20.
const WINDOW: usize = 20;

/// The lines of a run's metrics.
#[derive(Debug, Clone, Default)]
pub struct Curves {
    train: Vec<Value>,
    eval: Vec<Value>,
}

impl Curves {
    /// Splits lines of `metrics.jsonl` into training and evaluations.
    pub fn new(lines: Vec<Value>) -> Self {
        let (eval, train) = lines.into_iter().partition(|line| line.get("eval_loss").is_some());
        Self { train, eval }
    }

    /// Returns a metric over the steps of training.
    pub fn train(&self, name: &str) -> Vec<(f64, f64)> {
        points(&self.train, name)
    }

    /// Returns the names of all training metrics.
    pub fn names(&self) -> BTreeSet<&str> {
        let lines = self.train.iter().filter_map(Value::as_object);
        lines.flat_map(|line| line.keys().map(String::as_str)).collect()
    }

    /// Returns a metric over evaluations.
    pub fn eval(&self, name: &str) -> Vec<(f64, f64)> {
        points(&self.eval, &format!("eval_{name}"))
    }

    /// Returns the names of all metrics, those of evaluations with their prefix `eval_`.
    pub fn all_names(&self) -> BTreeSet<&str> {
        let lines = self.train.iter().chain(&self.eval).filter_map(Value::as_object);
        let is_metric = |name: &str| !["step", "epoch", "num_tokens"].contains(&name);
        lines.flat_map(|line| line.keys().map(String::as_str)).filter(|name| is_metric(name)).collect()
    }

    /// Returns true if any line has this metric.
    pub fn has(&self, name: &str) -> bool {
        self.train.iter().chain(&self.eval).any(|line| line[name].is_number())
    }

    /// Returns a metric by its name in the file, evaluations included.
    pub fn points(&self, name: &str) -> Vec<(f64, f64)> {
        match name.starts_with("eval_") {
            true => points(&self.eval, name),
            false => points(&self.train, name),
        }
    }

    /// Returns the steps of all lines.
    pub fn steps(&self) -> impl Iterator<Item = u64> {
        self.train.iter().chain(&self.eval).filter_map(|line| line["step"].as_u64())
    }

    /// Returns a number for every step: from its training line, or the last one before an evaluation.
    pub fn at_steps(&self, of: impl Fn(&Value) -> Option<f64>) -> BTreeMap<u64, f64> {
        let mut found: BTreeMap<u64, f64> =
            self.train.iter().filter_map(|line| Some((line["step"].as_u64()?, of(line)?))).collect();
        for step in self.eval.iter().filter_map(|line| line["step"].as_u64()) {
            let before = found.range(..=step).next_back().map_or(0.0, |(_, value)| *value);
            found.insert(step, before);
        }
        found
    }

    /// Returns the minutes spent in steps until the end of each, without evaluations and breaks.
    pub fn minutes(&self) -> BTreeMap<u64, f64> {
        let (mut tokens, mut minutes) = (0.0, 0.0);
        let mut spent = BTreeMap::new();
        for line in &self.train {
            let now = line["num_tokens"].as_f64().unwrap_or(tokens);
            if let Some(speed) = line["tokens_per_second"].as_f64().filter(|speed| *speed > 0.0) {
                minutes += (now - tokens) / speed / 60.0;
            }
            tokens = now;
            spent.extend(line["step"].as_u64().map(|step| (step, minutes)));
        }
        self.at_steps(|line| spent.get(&line["step"].as_u64()?).copied())
    }

    /// Returns the last training line.
    pub fn last(&self) -> Option<&Value> {
        self.train.last()
    }

    /// Returns the evaluation after this step.
    pub fn evaluation(&self, step: u64) -> Option<&Value> {
        self.eval.iter().rev().find(|line| line["step"] == step)
    }

    /// Returns the last evaluation.
    pub fn last_evaluation(&self) -> Option<&Value> {
        self.eval.last()
    }

    /// Returns the median of a metric over the logged steps.
    pub fn median(&self, name: &str) -> Option<f64> {
        let mut values: Vec<f64> = self.train(name).into_iter().map(|(_, value)| value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// Returns the seconds spent in steps, from each line's tokens and speed, without evaluations,
    /// checkpoints and breaks.
    pub fn seconds(&self) -> f64 {
        let mut before = 0.0;
        let spent = self.train.iter().filter_map(|line| {
            let (tokens, speed) = (line["num_tokens"].as_f64()?, line["tokens_per_second"].as_f64()?);
            let new = tokens - before;
            before = tokens;
            (speed > 0.0).then(|| new / speed)
        });
        spent.sum()
    }

    /// Returns the number of lines that a smoothed line averages.
    pub fn window(&self) -> usize {
        window(self.train.len())
    }
}

fn points(lines: &[Value], name: &str) -> Vec<(f64, f64)> {
    lines.iter().filter_map(|line| Some((line["step"].as_f64()?, line[name].as_f64()?))).collect()
}

fn window(points: usize) -> usize {
    (points / WINDOW).max(1) | 1
}

/// Returns a centred moving mean, over fewer points at the ends.
pub fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let half = window(points.len()) / 2;
    let mean = |at: usize| {
        let around = &points[at.saturating_sub(half)..(at + half + 1).min(points.len())];
        (points[at].0, around.iter().map(|(_, y)| y).sum::<f64>() / around.len() as f64)
    };
    thin(&(0..points.len()).map(mean).collect::<Vec<_>>())
}

/// Returns at most 300 points, averaging equal stretches of longer lines.
pub fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let stretch = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let sum = part.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / part.len() as f64, sum.1 / part.len() as f64)
    };
    points.chunks(stretch).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_become_curves() {
        let line = |step: u64| {
            json!({
                "step": step, "loss": 1.0 / step as f64, "num_tokens": 100 * step, "tokens_per_second": 50.0
            })
        };
        let curves = Curves::new(vec![line(1), line(2), json!({"step": 2, "eval_loss": 0.25}), line(4)]);
        assert_eq!(curves.train("loss"), [(1.0, 1.0), (2.0, 0.5), (4.0, 0.25)]);
        assert_eq!(curves.eval("loss"), [(2.0, 0.25)]);
        assert_eq!(curves.train("bound"), []);
        assert_eq!((curves.seconds(), curves.median("loss")), (8.0, Some(0.5)));
        assert!(curves.evaluation(2).is_some() && curves.evaluation(4).is_none());
    }

    /// Protects: long runs are drawn with few points and the same mean.
    #[test]
    fn long_lines_are_thinned_without_bias() {
        let points: Vec<_> = (0..30_000).map(|at| (f64::from(at), f64::from(at % 2))).collect();
        let thinned = thin(&points);
        assert_eq!(thinned.len(), 300);
        assert!(thinned.iter().all(|(_, y)| *y == 0.5));
        assert_eq!(thin(&points[..3]), points[..3]);
        assert_eq!(smooth(&points[..5]), points[..5]);
        assert!(smooth(&points).len() <= 300);
    }
}
