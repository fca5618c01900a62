//! Metrics of steps and evaluations, with TRL's names, and their files.
//!
//! An objective records metrics of every item; metrics of micro-batches, epochs and ranks merge. `loss` is
//! what training minimises, as in TRL: for a reward model under a constraint it is `ranking_loss` +
//! `constraint_loss` (and the centring term), so it cannot be compared between constraints. `ranking_loss`
//! can: it is the Bradley–Terry loss. Evaluations of reward models also have `coin_loss` and
//! `coin_ranking_loss`, both losses of a guessing model (equal scores) on the same pairs under the same
//! bounds.

mod file;
mod rollout;
mod spread;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

pub use file::{MetricsFile, read};
pub use rollout::{Completion, ScoredAnswer};
use spread::Spread;

/// Sums of metrics, in the order of their first records.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Metrics(Vec<(Cow<'static, str>, Accumulator)>);

/// The running value of one metric.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Accumulator {
    Mean {
        sum: f64,
        weight: f64,
    },
    Sum(f64),
    Min(f64),
    Max(f64),
    Std(Spread),
    Variance(Spread),
    /// The sums and counts of two kinds of values.
    Difference([f64; 2], [f64; 2]),
}

impl Metrics {
    /// Adds a value to a weighted mean.
    pub fn mean(&mut self, name: impl Into<Cow<'static, str>>, value: f64, weight: f64) {
        self.add(name.into(), Accumulator::Mean { sum: weight * value, weight });
    }

    /// Adds `by` to a weighted mean without adding to its weight, for a term on top of the recorded values, whose
    /// weights sum to `weight`.
    pub fn raise(&mut self, name: impl Into<Cow<'static, str>>, by: f64, weight: f64) {
        self.add(name.into(), Accumulator::Mean { sum: by * weight, weight: 0.0 });
    }

    /// Adds a value to a sum, for counts.
    pub fn sum(&mut self, name: impl Into<Cow<'static, str>>, value: f64) {
        self.add(name.into(), Accumulator::Sum(value));
    }

    /// Updates a minimum with a value.
    pub fn min(&mut self, name: impl Into<Cow<'static, str>>, value: f64) {
        self.add(name.into(), Accumulator::Min(value));
    }

    /// Updates a maximum with a value.
    pub fn max(&mut self, name: impl Into<Cow<'static, str>>, value: f64) {
        self.add(name.into(), Accumulator::Max(value));
    }

    /// Adds a value to a standard deviation, which divides by the number of values.
    pub fn std(&mut self, name: impl Into<Cow<'static, str>>, value: f64) {
        self.add(name.into(), Accumulator::Std(Spread::of(value)));
    }

    /// Adds a value to an unbiased variance, which divides by the number of values less one; a single value
    /// has none.
    pub fn variance(&mut self, name: impl Into<Cow<'static, str>>, value: f64) {
        self.add(name.into(), Accumulator::Variance(Spread::of(value)));
    }

    /// Adds a value to the first or the second mean of a difference of means. The difference has no value until both
    /// means have one.
    pub fn difference(&mut self, name: impl Into<Cow<'static, str>>, value: f64, first: bool) {
        let (sums, counts) = if first { ([value, 0.0], [1.0, 0.0]) } else { ([0.0, value], [0.0, 1.0]) };
        self.add(name.into(), Accumulator::Difference(sums, counts));
    }

    /// Adds all metrics of `other`, as if both had been recorded here.
    pub fn merge(&mut self, other: Self) {
        other.0.into_iter().for_each(|(name, more)| self.add(name, more));
    }

    /// Adds the values of a step to means in which every step counts alike, as transformers and TRL average between
    /// two lines. Of a sum, which is a count, the last step's value remains.
    pub fn add_step(&mut self, step: &Self) {
        for (name, of_step) in &step.0 {
            let Some(value) = of_step.value() else { continue };
            let Accumulator::Sum(_) = of_step else {
                self.mean(name.clone(), value, 1.0);
                continue;
            };
            match self.0.iter_mut().find(|(known, _)| known == name) {
                Some((_, held)) => *held = *of_step,
                None => self.0.push((name.clone(), *of_step)),
            }
        }
    }

    /// Returns the metrics that a checkpoint's states hold under a key; none if there are none.
    pub(crate) fn kept(states: &BTreeMap<String, Value>, key: &str) -> Self {
        states.get(key).and_then(|kept| Self::deserialize(kept).ok()).unwrap_or_default()
    }

    /// Adds the metrics to a checkpoint's states under a key, unless nothing was recorded.
    pub(crate) fn keep(&self, states: &mut BTreeMap<String, Value>, key: &str) {
        match serde_json::to_value(self).ok().filter(|_| !self.is_empty()) {
            Some(metrics) => states.insert(key.to_owned(), metrics),
            None => states.remove(key),
        };
    }

    /// Returns true if nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes the metric with this name.
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self
    }

    fn add(&mut self, name: Cow<'static, str>, more: Accumulator) {
        let Some((_, held)) = self.0.iter_mut().find(|(known, _)| *known == name) else {
            self.0.push((name, more));
            return;
        };
        *held = match (*held, more) {
            (Accumulator::Mean { sum, weight }, Accumulator::Mean { sum: s, weight: w }) => {
                Accumulator::Mean { sum: sum + s, weight: weight + w }
            }
            (Accumulator::Sum(a), Accumulator::Sum(b)) => Accumulator::Sum(a + b),
            (Accumulator::Min(a), Accumulator::Min(b)) => Accumulator::Min(a.min(b)),
            (Accumulator::Max(a), Accumulator::Max(b)) => Accumulator::Max(a.max(b)),
            (Accumulator::Std(a), Accumulator::Std(b)) => Accumulator::Std(a.merged(b)),
            (Accumulator::Variance(a), Accumulator::Variance(b)) => Accumulator::Variance(a.merged(b)),
            (Accumulator::Difference(a, m), Accumulator::Difference(b, n)) => {
                Accumulator::Difference([a[0] + b[0], a[1] + b[1]], [m[0] + n[0], m[1] + n[1]])
            }
            // A name has one kind; the first recording determines it.
            (held, _) => held,
        };
    }

    /// Returns the values of all recorded metrics. A metric whose weights are all 0 has no value.
    pub fn summary(&self) -> Summary {
        Summary(self.0.iter().filter_map(|(name, held)| Some((name.clone(), held.value()?))).collect())
    }
}

impl Accumulator {
    /// Returns the value; `None` if it has none yet.
    fn value(self) -> Option<f64> {
        match self {
            Self::Mean { sum, weight } => (weight != 0.0).then(|| sum / weight),
            Self::Sum(value) | Self::Min(value) | Self::Max(value) => Some(value),
            Self::Std(spread) => Some(spread.std()),
            Self::Variance(spread) => spread.variance(),
            Self::Difference([a, b], [m, n]) => (m > 0.0 && n > 0.0).then(|| a / m - b / n),
        }
    }
}

/// The values of metrics by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary(Vec<(Cow<'static, str>, f64)>);

impl Summary {
    /// Returns the value with this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Returns the loss that training minimises; NaN if no loss was recorded.
    pub fn loss(&self) -> f64 {
        self.get("loss").unwrap_or(f64::NAN)
    }

    /// Returns all names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// Returns the values with a prefix to their names, as for evaluations: `eval_loss`.
    pub fn prefixed(&self, prefix: &str) -> serde_json::Map<String, serde_json::Value> {
        self.iter().map(|(name, value)| (format!("{prefix}{name}"), value.into())).collect()
    }
}

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// A line of `metrics.jsonl` about training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepMetrics {
    /// Number of completed steps.
    pub step: u64,
    /// Number of completed epochs, as a fraction.
    pub epoch: f64,
    /// Metrics of the batch before the step; in `metrics.jsonl`, their means over the steps since the line before.
    #[serde(flatten)]
    pub metrics: Summary,
    /// √Σ g², before clipping.
    pub grad_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Tokens seen so far, with a separate prompt per answer and without padding, as TRL counts them; but each
    /// pass over a rollout counts, where TRL counts the rollout once.
    pub num_tokens: u64,
    /// These tokens per second.
    pub tokens_per_second: f64,
    /// Share of the padded batch that was not computed: padding and repeated prompts.
    pub padding_avoided: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(values: &[f64]) -> Metrics {
        let mut metrics = Metrics::default();
        for (at, value) in values.iter().enumerate() {
            metrics.mean("mean", *value, 1.0 + at as f64);
            metrics.min("low", *value);
            metrics.max("high", *value);
            metrics.std("std", *value);
            metrics.sum("sum", *value);
            metrics.variance("variance", *value);
        }
        metrics
    }

    /// Protects: each kind of metric, against numbers by hand, and the order of metrics.
    #[test]
    fn metrics_are_what_their_names_say() {
        let summary = recorded(&[1.0, -3.0]).summary();
        let expected = [
            ("mean", -5.0 / 3.0),
            ("low", -3.0),
            ("high", 1.0),
            ("std", 2.0),
            ("sum", -2.0),
            ("variance", 8.0),
        ];
        assert!(summary.iter().eq(expected), "{summary:?}");
        assert_eq!(summary.get("none"), None);
        assert!(summary.loss().is_nan());
        assert_eq!(recorded(&[1.0]).summary().get("variance"), None);
        let mut unweighted = Metrics::default();
        unweighted.mean("bound", 3.0, 0.0);
        assert_eq!(unweighted.summary(), Summary::default());
    }

    /// Protects: a mean that is raised in parts is raised by their sum, in any order of the parts.
    #[test]
    fn a_mean_is_raised_by_parts() {
        let (mut one, mut other) = (Metrics::default(), Metrics::default());
        one.mean("loss", 2.0, 1.0);
        one.raise("loss", 0.25, 4.0);
        other.raise("loss", 0.5, 4.0);
        other.mean("loss", 6.0, 3.0);
        one.merge(other);
        assert_eq!(one.summary().get("loss"), Some(5.75));
    }

    /// Protects: every step counts alike in means over steps, whatever its weights, and of a count the last step's
    /// value remains; one step alone keeps its bits, and sums kept in a checkpoint continue.
    #[test]
    fn steps_are_averaged_alike() {
        let (first, second) = (recorded(&[0.1, 0.3, 7.0]), recorded(&[-3.0]));
        let mut window = Metrics::default();
        window.add_step(&first);
        assert_eq!(window.summary(), first.summary());
        let mut states = BTreeMap::new();
        window.keep(&mut states, "unlogged");
        let mut window = Metrics::kept(&states, "unlogged");
        window.add_step(&second);
        let (found, one, other) = (window.summary(), first.summary(), second.summary());
        for name in ["mean", "low", "high", "std"] {
            let of = |summary: &Summary| summary.get(name).unwrap();
            assert_eq!(of(&found), f64::midpoint(of(&one), of(&other)), "{name}");
        }
        assert_eq!(found.get("sum"), Some(-3.0));
        // A single value has no variance.
        assert_eq!(found.get("variance"), one.get("variance"));
        Metrics::default().keep(&mut states, "unlogged");
        assert!(states.is_empty() && Metrics::kept(&states, "unlogged").is_empty());
    }

    /// Protects: metrics of parts merge to those of the whole.
    #[test]
    fn parts_merge_to_the_whole() {
        let (mut parts, values) = (Metrics::default(), [0.5, 2.0, -1.0, 4.0, 0.25]);
        for (at, value) in values.iter().enumerate() {
            let mut part = Metrics::default();
            part.mean("mean", *value, 1.0 + at as f64);
            part.min("low", *value);
            part.max("high", *value);
            part.std("std", *value);
            part.sum("sum", *value);
            part.variance("variance", *value);
            parts.merge(part);
        }
        for ((name, merged), (_, whole)) in parts.summary().iter().zip(recorded(&values).summary().iter()) {
            assert!((merged - whole).abs() < 1e-12, "{name}: {merged} {whole}");
        }
    }
}
