//! The combination of several sources' rewards into one number per answer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::weighted::SourceRewards;
use crate::error::{Error, Result};
use crate::score_range::ScoreRange;

/// The combination of several sources' rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Σ weight·reward, TRL's rule.
    #[default]
    Sum,
    /// The lowest of the standardised rewards (r − mean) / std: an answer is as good as the most doubtful model
    /// of an ensemble finds it (worst-case optimisation, arXiv 2310.02743). Mean and std are of each model's
    /// scores on its own data, since a ranking loss leaves the zero and the scale of scores open.
    Min,
}

impl Combine {
    /// Refuses sources whose rewards cannot be combined; `of` is the name, the weight and the range of each.
    ///
    /// # Errors
    /// Fails if `min` gets fewer than two sources, a weight other than 0 and 1, or a source without a range.
    pub(super) fn check(self, of: &[(&str, f64, Option<ScoreRange>)]) -> Result<()> {
        let refuse = |message: String| Err(Error::Invalid { field: "combine", message });
        let counted: Vec<_> = of.iter().filter(|(_, weight, _)| *weight != 0.0).collect();
        if self == Self::Sum {
            return Ok(());
        }
        if counted.len() < 2 {
            return refuse(format!(
                "min: found {} rewards with a weight; expected at least 2",
                counted.len()
            ));
        }
        for (name, weight, range) in counted {
            if *weight != 1.0 {
                return refuse(format!(
                    "min: {name} has the weight {weight}; expected 1, or 0 to watch only"
                ));
            }
            if range.is_none_or(|range| range.std <= 0.0) {
                return refuse(format!(
                    "min: {name} has no mean and deviation of its own to standardise rewards with; expected \
                     reward models whose config.json notes the scores of their training"
                ));
            }
        }
        Ok(())
    }

    /// Returns the combined reward of an answer; `None` if it is not scored. A source with weight 0, which is
    /// only watched, does not make an answer scored if other sources have a weight.
    pub(super) fn of(
        self,
        sources: &[SourceRewards],
        ranges: &[Option<ScoreRange>],
        row: usize,
    ) -> Option<f32> {
        let weighs = sources.iter().any(|source| source.weight != 0.0);
        let counted = sources.iter().zip(ranges).filter(|(source, _)| !weighs || source.weight != 0.0);
        match self {
            Self::Sum => {
                let part = |source: &SourceRewards| Some(source.weight * f64::from(source.rewards[row]?));
                let parts = counted.filter_map(|(source, _)| part(source));
                parts.fold(None, |sum: Option<f64>, part| Some(sum.unwrap_or(0.0) + part))
            }
            // A source that does not score the answer could have been the lowest.
            Self::Min => {
                let standard = |(source, range): (&SourceRewards, &Option<ScoreRange>)| {
                    Some((*range)?.standard(f64::from(source.rewards[row]?)))
                };
                counted.map(standard).collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::min)
            }
        }
        .map(|reward| reward as f32)
    }
}

impl FromStr for Combine {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "sum" => Ok(Self::Sum),
            "min" => Ok(Self::Min),
            _ => Err("expected sum or min".to_owned()),
        }
    }
}

impl fmt::Display for Combine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sum => "sum",
            Self::Min => "min",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(weight: f64, rewards: &[Option<f32>]) -> SourceRewards {
        SourceRewards { name: "x".to_owned(), weight, rewards: rewards.to_vec() }
    }

    /// Protects: the minimum is one of standardised rewards, watched sources do not count, and a missing reward
    /// leaves an answer without one.
    #[test]
    fn the_lowest_standardised_reward_counts() {
        let range = |scores: &[f64]| ScoreRange::of(scores, &[]);
        let (wide, narrow) = (range(&[-10.0, 10.0]), range(&[4.9, 5.1]));
        let sources = [
            source(1.0, &[Some(5.0), Some(20.0), Some(0.0)]),
            source(1.0, &[Some(5.1), Some(5.0), None]),
            source(0.0, &[Some(-9.0), None, Some(1.0)]),
        ];
        let of = |row| Combine::Min.of(&sources, &[wide, narrow, None], row);
        let close = |found: Option<f32>, expected: f32| found.is_some_and(|it| (it - expected).abs() < 1e-5);
        assert!(close(of(0), 0.5) && close(of(1), 0.0), "{:?} {:?}", of(0), of(1));
        assert_eq!(of(2), None);
        assert_eq!(Combine::Sum.of(&sources, &[None; 3], 1), Some(25.0));
        let check = |of: &[(&str, f64, Option<ScoreRange>)]| Combine::Min.check(of).unwrap_err().to_string();
        assert!(check(&[("a", 1.0, wide), ("b", 0.0, wide)]).contains("found 1 rewards"));
        assert!(check(&[("a", 1.0, wide), ("b", 0.5, wide)]).contains("b has the weight 0.5"));
        assert!(check(&[("a", 1.0, wide), ("length", 1.0, None)]).contains("length has no mean"));
        assert!(Combine::Min.check(&[("a", 1.0, wide), ("b", 1.0, narrow), ("c", 0.0, None)]).is_ok());
    }
}
