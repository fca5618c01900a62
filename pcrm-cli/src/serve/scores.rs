//! The latest scores of a model, compared with its scores in training.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use pcrm_core::model::Outline;
use pcrm_rl::score_range::ScoreRange;
use serde_json::Value;

/// The range of a model's scores in training.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    pub low: f64,
    /// The mean, if known.
    pub mean: Option<f64>,
    pub high: f64,
    /// The standard deviation, if known.
    pub deviation: Option<f64>,
    /// The source of the range.
    pub source: String,
}

impl Range {
    /// Returns a range given by the user.
    pub fn given(low: f64, high: f64) -> Self {
        Self { low, mean: None, high, deviation: None, source: "--range".to_owned() }
    }

    /// Reads the range of a model from its `config.json`, or else from the training metrics in its folder.
    pub fn of<'a>(model: impl Into<Outline<'a>>, dir: &Path) -> Option<Self> {
        let noted = ScoreRange::noted(model).map(|noted| Self {
            low: noted.low,
            mean: Some(noted.mean),
            high: noted.high,
            deviation: Some(noted.std),
            source: "config.json".to_owned(),
        });
        noted.or_else(|| Self::of_metrics(dir))
    }

    /// Reads the range of the last evaluation in `metrics.jsonl`, or else of the last steps.
    fn of_metrics(dir: &Path) -> Option<Self> {
        const STEPS: usize = 50;
        let text = fs::read_to_string(dir.join("metrics.jsonl")).ok()?;
        let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let read = |line: &Value, prefix: &str| {
            let of = |name: &str| {
                line[format!("{prefix}{name}_reward")].as_f64().filter(|value| value.is_finite())
            };
            Some((of("min")?, of("mean")?, of("max")?))
        };
        if let Some((low, mean, high)) = lines.iter().rev().find_map(|line| read(line, "eval_")) {
            let source = "metrics.jsonl, the last evaluation".to_owned();
            return Some(Self { low, mean: Some(mean), high, deviation: None, source });
        }
        let steps: Vec<_> = lines.iter().rev().filter_map(|line| read(line, "")).take(STEPS).collect();
        let low = steps.iter().map(|(low, ..)| *low).reduce(f64::min)?;
        let high = steps.iter().map(|(.., high)| *high).reduce(f64::max)?;
        let mean = steps.iter().map(|(_, mean, _)| mean).sum::<f64>() / steps.len() as f64;
        let source = format!("metrics.jsonl, the last {} steps", steps.len());
        Some(Self { low, mean: Some(mean), high, deviation: None, source })
    }

    /// Returns the center for measuring drift.
    pub fn middle(&self) -> f64 {
        self.mean.unwrap_or((self.low + self.high) / 2.0)
    }

    /// Returns the unit of drift: the standard deviation in training, or else half the width of the range.
    pub fn unit(&self) -> f64 {
        self.deviation.filter(|deviation| *deviation > 0.0).unwrap_or((self.high - self.low) / 2.0)
    }
}

/// The latest scores of a model.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<f32>>);

/// A summary of scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreSummary {
    pub count: usize,
    pub mean: f64,
    /// The standard deviation of the scores.
    pub deviation: f64,
    /// The share of scores outside the range of training, if that is known.
    pub outside: Option<f64>,
    /// The distance of the mean from the mean in training, in [units](Range::unit), if that is known.
    pub drift: Option<f64>,
}

impl Recent {
    /// The number of scores kept.
    const KEPT: usize = 4096;

    pub fn add(&self, scores: impl IntoIterator<Item = f32>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(scores);
        let surplus = kept.len().saturating_sub(Self::KEPT);
        kept.drain(..surplus);
    }

    /// Summarises the latest scores; returns `None` before the first.
    pub fn summary(&self, range: Option<&Range>) -> Option<ScoreSummary> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_empty() {
            return None;
        }
        let count = kept.len() as f64;
        let mean = kept.iter().map(|score| f64::from(*score)).sum::<f64>() / count;
        let square = kept.iter().map(|score| (f64::from(*score) - mean).powi(2)).sum::<f64>() / count;
        let is_outside = |range: &Range, score: f32| !(range.low..=range.high).contains(&f64::from(score));
        let outside =
            range.map(|range| kept.iter().filter(|score| is_outside(range, **score)).count() as f64 / count);
        let drift =
            range.filter(|range| range.unit() > 0.0).map(|range| (mean - range.middle()) / range.unit());
        Some(ScoreSummary { count: kept.len(), mean, deviation: square.sqrt(), outside, drift })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the range is that of the last evaluation, or else of the last steps; a folder without either
    /// has none.
    #[test]
    fn ranges_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Range::of_metrics(dir.path()), None);
        let step = |low: f64| format!("{{\"min_reward\":{low},\"mean_reward\":0.5,\"max_reward\":1}}\n");
        let steps = step(-1.0) + &step(-3.0) + "{\"loss\": 1}\nbroken\n";
        fs::write(dir.path().join("metrics.jsonl"), &steps).unwrap();
        let range = Range::of_metrics(dir.path()).unwrap();
        assert_eq!((range.low, range.mean, range.high), (-3.0, Some(0.5), 1.0));
        let evaluated =
            steps + "{\"eval_min_reward\":-2,\"eval_mean_reward\":0,\"eval_max_reward\":2}\n" + &step(-9.0);
        fs::write(dir.path().join("metrics.jsonl"), evaluated).unwrap();
        let range = Range::of_metrics(dir.path()).unwrap();
        assert_eq!((range.low, range.mean, range.high), (-2.0, Some(0.0), 2.0));
    }

    /// Protects: the summary forgets old scores and counts those outside the range.
    #[test]
    fn recent_scores_are_summarised() {
        let recent = Recent::default();
        assert_eq!(recent.summary(None), None);
        recent.add(std::iter::repeat_n(100.0, Recent::KEPT));
        recent.add(std::iter::repeat_n(1.0, Recent::KEPT / 2));
        recent.add(std::iter::repeat_n(3.0, Recent::KEPT / 2));
        let summary = recent.summary(Some(&Range::given(-2.0, 2.0))).unwrap();
        let expected =
            ScoreSummary { count: 4096, mean: 2.0, deviation: 1.0, outside: Some(0.5), drift: Some(1.0) };
        assert_eq!(summary, expected);
    }
}
