//! The report on a reward model, computed from its scores of preference pairs.

mod bounds;
mod true_reward;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::bounds::Bounds;
use self::bounds::bounds;
pub use self::true_reward::TrueReward;
use self::true_reward::true_reward;
use crate::accuracy::{LEVEL, Share, accuracy};
use crate::answers::{AnswerSet, BestOfN, Labels, best_of_n};
use crate::benchmarks::{RewardBench, RewardBench2, RmBench};
use crate::bias::{LongerPreferred, ScoreLength, longer_preferred, score_length};
use crate::bootstrap::{Bootstrap, Clusters, Estimate};
use crate::calibration::{BINS, Bin, brier, expected_calibration_error, log_loss, reliability};
use crate::compare::ModelComparison;
use crate::error::{Error, Result, check_finite};
use crate::evaluation::{Evaluation, LengthUnit};
use crate::histogram::Histogram;
use crate::human::{HumanAgreement, human_agreement};
use crate::interval::Interval;
use crate::measure::Measure;
use crate::quantiles::QuantileSummary;
use crate::scatter::{Bins, Point, thinned};
use crate::slices::{Decile, Subset, by_decile, by_subset};
use crate::temperature::Scaled;

/// One preference pair with a model's scores.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PairScore {
    /// Score of the chosen answer.
    pub chosen: f64,
    /// Score of the rejected answer.
    pub rejected: f64,
    /// Length of the chosen answer in tokens.
    pub chosen_tokens: usize,
    /// Length of the rejected answer in tokens.
    pub rejected_tokens: usize,
    /// Similarity of the answers, from 0 to 1, if known; `length_ratio` uses shorter / longer.
    pub similarity: Option<f64>,
    /// Δ* of the pair under the training constraint; `None` or infinity without a bound.
    pub bound: Option<f64>,
    /// True reward of the chosen answer, from the judge behind the labels, if known.
    pub true_chosen: Option<f64>,
    /// True reward of the rejected answer, from the same judge.
    pub true_rejected: Option<f64>,
}

impl PairScore {
    /// Returns Δ = score(chosen) − score(rejected).
    pub fn margin(&self) -> f64 {
        self.chosen - self.rejected
    }
}

/// The measures of a reward model on a set of preference pairs. Serialises to plain JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RewardReport {
    /// Number of pairs.
    pub pairs: usize,
    /// Number of prompts of these pairs.
    pub prompts: usize,
    /// Share of pairs ordered as labelled (ties one half), with its 95 % Wilson interval.
    pub accuracy: Share,
    /// Share of pairs ordered as labelled, ties counting as wrong.
    pub strict_accuracy: f64,
    /// Number of pairs with equal scores.
    pub ties: usize,
    /// Summary of the margins Δ = score(chosen) − score(rejected).
    pub margins: QuantileSummary,
    /// Distribution of the margins over a fixed range.
    pub histogram: Histogram,
    /// Summary of the scores of all answers.
    pub scores: QuantileSummary,
    /// Brier score of σ(Δ).
    pub brier: f64,
    /// Log loss of σ(Δ), in nats.
    pub log_loss: f64,
    /// Expected calibration error of σ(Δ), 15 bins.
    pub ece: f64,
    /// The same three losses after a temperature fitted on other prompts, which separates order from scale.
    /// Absent if no temperature exists: every pair is ordered as labelled, or the margins do not favour the
    /// labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled: Option<Scaled>,
    /// Reliability table behind `ece`.
    pub reliability: Vec<Bin>,
    /// Correlation of score and length over all answers.
    pub length: ScoreLength,
    /// How often the longer answer wins; absent if no pair's answers differ in length.
    pub longer_preferred: Option<LongerPreferred>,
    /// Margins against bounds; absent if no pair has a finite bound.
    pub bounds: Option<Bounds>,
    /// Scores against true rewards; absent if no pair has them.
    pub true_reward: Option<TrueReward>,
    /// Unit of the lengths.
    pub length_unit: LengthUnit,
    /// Accuracy, log loss, Brier score, ECE and mean margin with bootstrap intervals over prompts, if the
    /// draws support them; empty without draws.
    pub intervals: BTreeMap<Measure, Estimate>,
    /// The pairs by subset; empty if the data name no subsets.
    pub subsets: Vec<Subset>,
    /// The pairs by deciles of length(chosen) − length(rejected); empty if all are equal.
    pub by_length_gap: Vec<Decile>,
    /// The pairs by deciles of similarity; empty if it is unknown or all are equal.
    pub by_similarity: Vec<Decile>,
    /// Best-of-n accuracy; absent if the data have only pairs.
    pub best_of_n: Option<BestOfN>,
    /// Scores against human scores; absent if there are none.
    pub human: Option<HumanAgreement>,
    /// RewardBench 1; absent unless the benchmark has these subsets.
    pub reward_bench: Option<RewardBench>,
    /// RewardBench 2; absent unless the benchmark has these subsets.
    pub reward_bench_2: Option<RewardBench2>,
    /// RM-Bench; absent unless every prompt has three right and three wrong answers.
    pub rm_bench: Option<RmBench>,
    /// Data for plots.
    pub plots: Plots,
    /// Another model on the same data, if one is compared.
    pub compared: Option<Box<Compared>>,
    /// Further models on the same data, each compared with the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Compared>,
}

/// Data for plots, besides `reliability` and `histogram`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plots {
    /// Histogram of the margins over their own range.
    pub margins: Bins,
    /// Histogram of the scores of chosen answers.
    pub chosen: Bins,
    /// Histogram of the scores of rejected answers.
    pub rejected: Bins,
    /// Length and score of answers; every k-th pair if there are many.
    pub scatter: Vec<Point>,
}

/// Another model on the same data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Report of the other model.
    pub report: RewardReport,
    /// The differences from the first model.
    pub comparison: ModelComparison,
}

impl RewardReport {
    /// Builds the report on these pairs, without subsets and without bootstrap intervals.
    ///
    /// # Errors
    /// Same as [`RewardReport::of`].
    pub fn new(pairs: &[PairScore]) -> Result<Self> {
        Self::of(&Evaluation::of_pairs(pairs.to_vec()), &Bootstrap { resamples: 0, ..Bootstrap::default() })
    }

    /// Builds the report on an evaluation; a bootstrap with no resamples leaves `intervals` empty.
    ///
    /// # Errors
    /// Fails if there are no pairs, if a score or true reward is not finite or a bound is not positive (the
    /// error has the position of the pair), or if a set of answers breaks the rules of its benchmark (the
    /// error has its id).
    pub fn of(evaluation: &Evaluation, bootstrap: &Bootstrap) -> Result<Self> {
        let pairs = evaluation.pairs();
        let column = |of: fn(&PairScore) -> f64| pairs.iter().map(of).collect::<Vec<_>>();
        let (chosen, rejected) = (column(|pair| pair.chosen), column(|pair| pair.rejected));
        if pairs.is_empty() {
            let is_rated = |set: &AnswerSet| matches!(set.labels, Labels::Human(_));
            let what = match evaluation.sets().iter().any(is_rated) {
                true => "pairs of answers to one prompt with different human scores",
                false => "preference pairs",
            };
            return Err(Error::Empty { what });
        }
        check_finite("score of the chosen answer of pair", &chosen)?;
        check_finite("score of the rejected answer of pair", &rejected)?;
        let margins = evaluation.margins();
        let chosen_tokens: Vec<usize> = pairs.iter().map(|pair| pair.chosen_tokens).collect();
        let rejected_tokens: Vec<usize> = pairs.iter().map(|pair| pair.rejected_tokens).collect();
        let gaps = column(|pair| pair.chosen_tokens as f64 - pair.rejected_tokens as f64);
        let plots = Plots::of(pairs, &margins, &chosen, &rejected);
        let scores = [chosen, rejected].concat();
        let reliability = reliability(&margins, BINS)?;
        let subsets = by_subset(&margins, evaluation.subsets())?;
        let clusters = Clusters::of(evaluation.prompts());
        Ok(Self {
            pairs: pairs.len(),
            prompts: clusters.len(),
            accuracy: accuracy(&margins, LEVEL)?,
            strict_accuracy: margins.iter().filter(|margin| **margin > 0.0).count() as f64
                / pairs.len() as f64,
            ties: margins.iter().filter(|margin| **margin == 0.0).count(),
            margins: QuantileSummary::of("margin of pair", &margins)?,
            histogram: Histogram::of(&margins),
            scores: QuantileSummary::of("score of answer", &scores)?,
            brier: brier(&margins)?,
            log_loss: log_loss(&margins)?,
            ece: expected_calibration_error(&reliability)?,
            scaled: Scaled::of(&margins, &evaluation.folds(), &clusters, bootstrap)?,
            reliability,
            length: score_length(&scores, &[chosen_tokens.as_slice(), &rejected_tokens].concat())?,
            longer_preferred: longer_preferred(&margins, &chosen_tokens, &rejected_tokens)?,
            bounds: bounds(pairs)?,
            true_reward: true_reward(pairs)?,
            length_unit: evaluation.unit,
            intervals: intervals(&margins, &clusters, bootstrap)?,
            by_length_gap: by_decile(&margins, &gaps)?,
            by_similarity: by_similarity(pairs)?,
            best_of_n: best_of_n(evaluation.sets())?,
            human: human_agreement(evaluation.sets(), bootstrap)?,
            reward_bench: RewardBench::of(&subsets),
            reward_bench_2: RewardBench2::of(evaluation.sets())?,
            rm_bench: RmBench::of(evaluation.sets())?,
            plots,
            subsets,
            compared: None,
            others: Vec::new(),
        })
    }

    /// Builds the report on an evaluation and compares it with other models on the same pairs and sets in the
    /// same order.
    ///
    /// # Errors
    /// Same as [`RewardReport::of`] and [`ModelComparison::new`].
    pub fn beside(first: &Evaluation, others: &[Evaluation], bootstrap: &Bootstrap) -> Result<Self> {
        let compare = |other: &Evaluation| {
            let comparison = ModelComparison::new(first, other, bootstrap)?;
            Ok(Compared { report: Self::of(other, bootstrap)?, comparison })
        };
        let mut others = others.iter().map(compare).collect::<Result<Vec<_>>>()?.into_iter();
        let compared = others.next().map(Box::new);
        Ok(Self { compared, others: others.collect(), ..Self::of(first, bootstrap)? })
    }

    /// Returns the other models in the order given.
    pub fn comparisons(&self) -> impl Iterator<Item = &Compared> {
        self.compared.as_deref().into_iter().chain(&self.others)
    }

    /// Returns the interval of the accuracy: the bootstrap's if pairs share prompts, since Wilson's assumes
    /// independent pairs; Wilson's otherwise, and if the bootstrap gives none.
    pub fn accuracy_interval(&self) -> Interval {
        let drawn = self.intervals.get(&Measure::Accuracy).and_then(|estimate| estimate.interval);
        drawn.filter(|_| self.prompts < self.pairs).unwrap_or(self.accuracy.interval)
    }
}

impl Plots {
    fn of(pairs: &[PairScore], margins: &[f64], chosen: &[f64], rejected: &[f64]) -> Self {
        let points: Vec<[Point; 2]> = pairs
            .iter()
            .map(|pair| {
                let (length, score) = (pair.chosen_tokens, pair.chosen);
                let better = Point { length, score, chosen: true };
                [better, Point { length: pair.rejected_tokens, score: pair.rejected, chosen: false }]
            })
            .collect();
        Self {
            margins: Bins::of(margins, Bins::USUAL),
            chosen: Bins::of(chosen, Bins::USUAL),
            rejected: Bins::of(rejected, Bins::USUAL),
            scatter: thinned(&points).concat(),
        }
    }
}

fn intervals(
    margins: &[f64],
    clusters: &Clusters,
    bootstrap: &Bootstrap,
) -> Result<BTreeMap<Measure, Estimate>> {
    let mut intervals = BTreeMap::new();
    if !bootstrap.supports(clusters.len()) {
        return Ok(intervals);
    }
    for measure in Measure::ALL {
        let estimate = bootstrap.estimate(clusters, |positions| {
            measure.of(&positions.iter().map(|at| margins[*at]).collect::<Vec<_>>()).map(Some)
        })?;
        intervals.extend(
            estimate.filter(|estimate| estimate.interval.is_some()).map(|estimate| (measure, estimate)),
        );
    }
    Ok(intervals)
}

fn by_similarity(pairs: &[PairScore]) -> Result<Vec<Decile>> {
    let known: Vec<(f64, f64)> =
        pairs.iter().filter_map(|pair| Some((pair.margin(), pair.similarity?))).collect();
    let (margins, similarities): (Vec<f64>, Vec<f64>) = known.into_iter().unzip();
    if margins.is_empty() { Ok(Vec::new()) } else { by_decile(&margins, &similarities) }
}

#[cfg(test)]
mod tests;
