//! Comparison of two models on the same pairs, with tests of significance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF};

use crate::bootstrap::{Bootstrap, Clusters, Difference};
use crate::correlation::{kendall, pearson, spearman};
use crate::error::{Error, Result, check_lengths};
use crate::evaluation::Evaluation;
use crate::human::{HumanDifference, human_difference};
use crate::measure::Measure;
use crate::reward::PairScore;
use crate::temperature::cross_fitted;

/// Counts of how two models order the same pairs, with McNemar's test; a tie counts as wrong.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// Pairs that both models order as labelled.
    pub both: usize,
    /// Pairs that only the first model orders as labelled.
    pub only_first: usize,
    /// Pairs that only the second model orders as labelled.
    pub only_second: usize,
    /// Pairs that neither model orders as labelled.
    pub neither: usize,
    /// The exact two-sided p-value of no difference.
    pub p: f64,
}

/// Differences between two models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelComparison {
    /// Number of pairs that both models scored.
    pub pairs: usize,
    /// Number of prompts of these pairs; the bootstrap draws prompts.
    pub prompts: usize,
    /// McNemar's test of accuracy. It assumes independent pairs: if prompts have several pairs, use the
    /// bootstrap's p-value of `differences.accuracy` instead.
    pub mcnemar: McNemar,
    /// Second − first of every measure, by the paired bootstrap over prompts.
    pub differences: BTreeMap<Measure, Difference>,
    /// Second − first of log loss, Brier score and calibration error after each model's own cross-fitted
    /// temperature: differences of order, independent of scale. Empty if either model has no temperature.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scaled: BTreeMap<Measure, Difference>,
    /// Second − first of the rank correlation with human scores; absent if there are no human scores.
    pub human: Option<HumanDifference>,
    /// Pearson's r of both models' scores over all answers of the pairs; absent if one model's scores are
    /// constant.
    pub pearson: Option<f64>,
    /// Spearman's ρ of the same scores.
    pub spearman: Option<f64>,
    /// Kendall's τ-b of the same scores.
    pub kendall: Option<f64>,
}

impl McNemar {
    /// Computes McNemar's exact test (Q. McNemar, Psychometrika 1947): of b + c pairs that only one model
    /// orders as labelled, b ~ Binomial(b + c, ½) under no difference; p = min(1, 2·P(B ≤ min(b, c))).
    ///
    /// # Errors
    /// Fails if the numbers of margins differ.
    pub fn of(first: &[f64], second: &[f64]) -> Result<Self> {
        check_lengths("margins of both models", first.len(), second.len())?;
        let count = |a: bool, b: bool| {
            first.iter().zip(second).filter(|(x, y)| (**x > 0.0) == a && (**y > 0.0) == b).count()
        };
        let (only_first, only_second) = (count(true, false), count(false, true));
        let differing = (only_first + only_second) as u64;
        let p = match Binomial::new(0.5, differing) {
            Ok(binomial) if differing > 0 => {
                (2.0 * binomial.cdf(only_first.min(only_second) as u64)).min(1.0)
            }
            _ => 1.0,
        };
        Ok(Self { both: count(true, true), only_first, only_second, neither: count(false, false), p })
    }
}

impl ModelComparison {
    /// Compares two evaluations of the same pairs and sets in the same order.
    ///
    /// # Errors
    /// Fails if the numbers of pairs or sets differ, if there are no pairs, or if a score is not finite.
    pub fn new(first: &Evaluation, second: &Evaluation, bootstrap: &Bootstrap) -> Result<Self> {
        check_lengths("pairs of both models", first.pairs().len(), second.pairs().len())?;
        check_lengths("sets of both models", first.sets().len(), second.sets().len())?;
        if first.pairs().is_empty() {
            return Err(Error::Empty { what: "pairs that both models scored" });
        }
        let (ours, theirs) = (first.margins(), second.margins());
        let clusters = Clusters::of(first.prompts());
        let differences = |measures: &[Measure], ours: &[f64], theirs: &[f64]| {
            let mut all = BTreeMap::new();
            for measure in measures {
                let of = |margins: &[f64], positions: &[usize]| {
                    measure.of(&positions.iter().map(|at| margins[*at]).collect::<Vec<_>>()).map(Some)
                };
                let difference = bootstrap.difference(&clusters, |at| of(ours, at), |at| of(theirs, at))?;
                all.extend(difference.map(|difference| (*measure, difference)));
            }
            Ok::<_, Error>(all)
        };
        let folds = first.folds();
        let scaled = match (cross_fitted(&ours, &folds)?, cross_fitted(&theirs, &folds)?) {
            (Some(ours), Some(theirs)) => differences(&Measure::SCALED, &ours.margins, &theirs.margins)?,
            _ => BTreeMap::new(),
        };
        let scores = |pairs: &[PairScore]| -> Vec<f64> {
            pairs.iter().flat_map(|pair| [pair.chosen, pair.rejected]).collect()
        };
        let (x, y) = (scores(first.pairs()), scores(second.pairs()));
        Ok(Self {
            pairs: ours.len(),
            prompts: clusters.len(),
            mcnemar: McNemar::of(&ours, &theirs)?,
            differences: differences(&Measure::ALL, &ours, &theirs)?,
            scaled,
            human: human_difference(first.sets(), second.sets(), bootstrap)?,
            pearson: pearson(&x, &y)?,
            spearman: spearman(&x, &y)?,
            kendall: kendall(&x, &y)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{close, golden};

    /// Protects: the test equals scipy's `binomtest(b, b + c).pvalue`, from zero to hundreds of differing
    /// pairs.
    #[test]
    fn mcnemar_equals_scipy() {
        for case in golden()["mcnemar"].as_array().unwrap() {
            let count = |name: &str| case[name].as_u64().unwrap() as usize;
            let (b, c) = (count("only_first"), count("only_second"));
            let side =
                |one: usize, other: usize| [vec![1.0; one], vec![-1.0; other], vec![1.0, 0.0]].concat();
            let test =
                McNemar::of(&side(b, c), &[vec![-1.0; b], vec![1.0; c], vec![1.0, 0.0]].concat()).unwrap();
            assert_eq!((test.both, test.only_first, test.only_second, test.neither), (1, b, c, 1));
            close(test.p, case["p"].as_f64().unwrap(), &format!("{b} and {c}"));
        }
    }

    /// Protects: differences are second − first, by prompt; a model does not differ from itself.
    #[test]
    fn differences_are_second_minus_first() {
        let pair = |margin: f64| PairScore { chosen: margin, ..PairScore::default() };
        let margins: Vec<f64> = (0..80).map(|at| (f64::from(at) * 1.3).sin() + 0.2).collect();
        let first = Evaluation::of_pairs(margins.iter().map(|m| pair(*m)).collect());
        let second = Evaluation::of_pairs(margins.iter().map(|m| pair(m + 0.3)).collect());
        let bootstrap = Bootstrap { resamples: 200, ..Bootstrap::default() };
        let comparison = ModelComparison::new(&first, &second, &bootstrap).unwrap();
        let margin = comparison.differences[&Measure::MeanMargin];
        assert!((margin.difference.value - 0.3).abs() < 1e-12 && margin.p < Some(0.02), "{margin:?}");
        assert!(comparison.differences[&Measure::Accuracy].difference.value > 0.0);
        assert_eq!((comparison.mcnemar.only_first, comparison.human), (0, None));
        let same = ModelComparison::new(&first, &first, &bootstrap).unwrap();
        assert!((same.pearson.unwrap() - 1.0).abs() < 1e-12 && same.mcnemar.p == 1.0);
        assert!(same.differences.values().all(|d| d.p == Some(1.0) && d.difference.interval.is_none()));
        let fewer = Evaluation::of_pairs(vec![pair(1.0)]);
        assert!(
            ModelComparison::new(&first, &fewer, &bootstrap)
                .unwrap_err()
                .to_string()
                .contains("80 values against 1")
        );
    }
}
