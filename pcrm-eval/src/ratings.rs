//! The report on rated answers that form no pairs, such as one answer to every prompt: scores against human scores.

use serde::{Deserialize, Serialize};

use crate::answers::{AnswerSet, Labels};
use crate::bias::{ScoreLength, score_length};
use crate::bootstrap::Bootstrap;
use crate::error::{Result, check_lengths};
use crate::evaluation::{Evaluation, LengthUnit};
use crate::human::{HumanAgreement, HumanDifference, human_agreement, human_difference};
use crate::quantiles::QuantileSummary;
use crate::table::number;

/// A report with fewer answers warns about it.
const FEW: usize = 30;

/// The measures of a model on rated answers that form no pairs: no two answers to one prompt have different human
/// scores. Fields have the names that [`RewardReport`](crate::RewardReport) gives them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RatingsReport {
    /// Number of pairs, always 0.
    pub pairs: usize,
    /// Number of prompts.
    pub prompts: usize,
    /// Scores against human scores. Within a prompt there is no correlation.
    pub human: HumanAgreement,
    /// Summary of the scores of all answers.
    pub scores: QuantileSummary,
    /// Correlation of score and length over all answers; absent if a length is unknown.
    pub length: Option<ScoreLength>,
    /// Unit of the lengths.
    pub length_unit: LengthUnit,
    /// Another model on the same answers, if one is compared.
    pub compared: Option<Box<ComparedRatings>>,
    /// Further models on the same answers, each compared with the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<ComparedRatings>,
}

/// Another model on the same answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparedRatings {
    /// Report of the other model.
    pub report: RatingsReport,
    /// The differences from the first model.
    pub comparison: RatingsComparison,
}

/// Differences between two models on rated answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RatingsComparison {
    /// Second − first of the rank correlation with human scores.
    pub human: Option<HumanDifference>,
}

impl RatingsReport {
    /// Builds the report on an evaluation; `None` if it has pairs, or no answer with a human score.
    ///
    /// # Errors
    /// Same as [`human_agreement`].
    pub fn of(evaluation: &Evaluation, bootstrap: &Bootstrap) -> Result<Option<Self>> {
        let agreement = match evaluation.pairs().is_empty() {
            true => human_agreement(evaluation.sets(), bootstrap)?,
            false => None,
        };
        let Some(human) = agreement else { return Ok(None) };
        let is_rated = |set: &&AnswerSet| matches!(set.labels, Labels::Human(_));
        let rated: Vec<&AnswerSet> = evaluation.sets().iter().filter(is_rated).collect();
        let scores: Vec<f64> = rated.iter().flat_map(|set| &set.scores).copied().collect();
        let lengths: Vec<usize> = rated.iter().flat_map(|set| &set.lengths).copied().collect();
        let all_known = lengths.len() == scores.len() && lengths.iter().all(|length| *length > 0);
        Ok(Some(Self {
            pairs: 0,
            prompts: human.prompts,
            human,
            scores: QuantileSummary::of("score of answer", &scores)?,
            length: if all_known { Some(score_length(&scores, &lengths)?) } else { None },
            length_unit: evaluation.unit,
            compared: None,
            others: Vec::new(),
        }))
    }

    /// Builds the report on an evaluation and compares it with other models on the same sets in the same order; `None`
    /// as in [`RatingsReport::of`].
    ///
    /// # Errors
    /// Same as [`human_agreement`], and if the numbers of sets differ.
    pub fn beside(first: &Evaluation, others: &[Evaluation], bootstrap: &Bootstrap) -> Result<Option<Self>> {
        let Some(report) = Self::of(first, bootstrap)? else { return Ok(None) };
        let mut all = Vec::new();
        for other in others {
            check_lengths("sets of both models", first.sets().len(), other.sets().len())?;
            let Some(report) = Self::of(other, bootstrap)? else { return Ok(None) };
            let human = human_difference(first.sets(), other.sets(), bootstrap)?;
            all.push(ComparedRatings { report, comparison: RatingsComparison { human } });
        }
        let mut all = all.into_iter();
        let compared = all.next().map(Box::new);
        Ok(Some(Self { compared, others: all.collect(), ..report }))
    }

    /// Returns the other models in the order given.
    pub fn comparisons(&self) -> impl Iterator<Item = &ComparedRatings> {
        self.compared.as_deref().into_iter().chain(&self.others)
    }

    /// Returns the findings, the most important first.
    pub fn findings(&self) -> Vec<String> {
        let mut found = vec![
            "No prompt has two answers with different human scores, so there are no pairs: accuracy, calibration and \
             margins cannot be measured."
                .to_owned(),
        ];
        let answers = self.human.answers;
        if self.scores.min == self.scores.max {
            found.push(format!(
                "All {answers} answers have the same score ({}): the model does not distinguish them.",
                number(self.scores.min)
            ));
        } else if self.human.pooled.spearman.is_none() {
            found.push(format!("All {answers} answers have the same human score: there is no correlation."));
        } else if answers < FEW {
            found.push(format!("There are only {answers} answers: the figures are rough."));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::PairScore;

    fn evaluation(rows: &[(&str, &[f64], &[f64])]) -> Evaluation {
        let mut evaluation = Evaluation::new(LengthUnit::Tokens);
        for (prompt, scores, human) in rows {
            let set = AnswerSet {
                id: (*prompt).to_owned(),
                subset: None,
                prompt: Some((*prompt).to_owned()),
                scores: scores.to_vec(),
                lengths: vec![3; scores.len()],
                labels: Labels::Human(human.to_vec()),
            };
            evaluation.add_set(set).unwrap();
        }
        evaluation
    }

    /// Protects: answers without pairs give the correlations over all of them, by hand 1 − 6·4 / (6·35), and another
    /// model is compared by these.
    #[test]
    fn answers_without_pairs_are_correlated() {
        let none = Bootstrap { resamples: 0, ..Bootstrap::default() };
        let rows = |scores: [f64; 6]| {
            let human = [0.0, 2.0, 1.0, 3.0, 5.0, 4.0];
            let names = ["a", "b", "c", "d", "e", "f"];
            let mut evaluation = Evaluation::new(LengthUnit::Tokens);
            for (at, name) in names.into_iter().enumerate() {
                let one = self::evaluation(&[(name, &scores[at..=at], &human[at..=at])]);
                evaluation.add_set(one.sets()[0].clone()).unwrap();
            }
            evaluation
        };
        let (first, second) = (rows([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), rows([0.0, 2.0, 1.0, 3.0, 5.0, 4.0]));
        let report = RatingsReport::beside(&first, &[second], &none).unwrap().unwrap();
        let rho = report.human.pooled.spearman.unwrap().value;
        assert!((rho - (1.0 - 24.0 / 210.0)).abs() < 1e-12, "{rho}");
        assert_eq!((report.pairs, report.prompts, report.human.prompts_used), (0, 6, 0));
        assert_eq!(report.human.per_prompt.spearman, None);
        assert_eq!(report.length, Some(ScoreLength { pearson: None, spearman: None }));
        let difference = report.compared.as_ref().unwrap().comparison.human.unwrap().pooled_spearman.unwrap();
        assert!((difference.second - 1.0).abs() < 1e-12 && (difference.first - rho).abs() < 1e-12);
        let text = report.table(&["mine", "yours"]);
        assert!(
            text.contains("0.8857") && text.contains("+0.114") && text.contains("No prompt has two"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(serde_json::from_value::<RatingsReport>(json).unwrap(), report);
    }

    /// Protects: several answers with equal ratings form no pair either. Pairs, and answers that people did not rate,
    /// have another report. Constant scores and constant ratings are reported.
    #[test]
    fn what_has_pairs_has_another_report() {
        let none = Bootstrap { resamples: 0, ..Bootstrap::default() };
        let of = |evaluation: &Evaluation| RatingsReport::of(evaluation, &none).unwrap();
        let equal = of(&evaluation(&[("a", &[1.0, 2.0], &[3.0, 3.0]), ("b", &[0.5], &[3.0])])).unwrap();
        assert_eq!((equal.human.answers, equal.human.pooled.spearman), (3, None));
        assert!(equal.findings()[1].starts_with("All 3 answers have the same human score"));
        let flat = of(&evaluation(&[("a", &[1.0], &[3.0]), ("b", &[1.0], &[2.0])])).unwrap();
        assert!(
            flat.findings()[1].starts_with("All 2 answers have the same score (1.000)"),
            "{:?}",
            flat.findings()
        );
        assert_eq!(of(&evaluation(&[("a", &[1.0, 2.0], &[3.0, 1.0])])), None);
        assert_eq!(of(&Evaluation::of_pairs(vec![PairScore::default()])), None);
        assert_eq!(of(&Evaluation::default()), None);
    }
}
