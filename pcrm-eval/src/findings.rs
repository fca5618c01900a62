//! Findings in sentences: the results that a report's intervals support.

use crate::accuracy::{LEVEL, Share};
use crate::compare::ModelComparison;
use crate::interval::Interval;
use crate::measure::Measure;
use crate::reward::RewardReport;
use crate::table::{Signed, p_value, percent, percents};

/// P-values below this count as significant.
const SIGNIFICANT: f64 = 0.05;
/// A report with fewer pairs warns about it.
const FEW: usize = 30;

impl RewardReport {
    /// Returns the findings about one model, the most important first; empty if there are none.
    pub fn findings(&self) -> Vec<String> {
        if self.scores.min == self.scores.max {
            return vec![format!(
                "All {} answers have the same score ({}): the model does not distinguish them. Every pair is \
                 a tie, which counts one half in the accuracy.",
                self.scores.count,
                crate::table::number(self.scores.min)
            )];
        }
        let found = [self.few(), self.against_guessing(), self.length_bias(), self.confidence()];
        found.into_iter().flatten().collect()
    }

    fn few(&self) -> Option<String> {
        match self.pairs {
            1 => Some("There is only 1 pair: it shows nothing about others.".to_owned()),
            2..FEW => Some(format!("There are only {} pairs: the figures are rough.", self.pairs)),
            _ => None,
        }
    }

    fn against_guessing(&self) -> Option<String> {
        let interval = self.accuracy_interval();
        if self.ties == self.pairs {
            return Some("Both answers of every pair have the same score: no pair is ordered.".to_owned());
        }
        if interval.contains(0.5) {
            return Some(format!(
                "The {} interval of the accuracy ({}) includes 50 %: no evidence that the model beats \
                 guessing on these pairs.",
                level(&interval),
                percents(&interval)
            ));
        }
        (interval.high() < 0.5).then(|| {
            format!(
                "The model orders fewer pairs as labelled than guessing does: {} ({}: {}). Check that chosen \
                 and rejected are not swapped.",
                percent(self.accuracy.value),
                level(&interval),
                percents(&interval)
            )
        })
    }

    fn length_bias(&self) -> Option<String> {
        let longer = self.longer_preferred?;
        let by_model = Share::wilson(longer.by_model * longer.pairs as f64, longer.pairs, LEVEL).ok()?;
        let direction = match (by_model.low() > longer.by_labels, by_model.high() < longer.by_labels) {
            (true, _) => "longer",
            (_, true) => "shorter",
            _ => return None,
        };
        let share = |longer: f64| percent(if direction == "longer" { longer } else { 1.0 - longer });
        Some(format!(
            "Length bias: the model prefers the {direction} answer in {} of the pairs, the labels in {}.",
            share(longer.by_model),
            share(longer.by_labels)
        ))
    }

    fn confidence(&self) -> Option<String> {
        let sure = self.mean_confidence();
        let interval = self.accuracy_interval();
        let verdict = match (sure > interval.high(), sure < interval.low()) {
            (true, _) => "overconfident",
            (_, true) => "underconfident",
            _ => return None,
        };
        Some(format!(
            "The model is {} confident on average and right in {}: {verdict}.",
            percent(sure),
            percent(self.accuracy.value)
        ))
    }

    /// Returns mean max(σ(Δ), σ(−Δ)): the share of pairs that the model expects to order as labelled.
    pub fn mean_confidence(&self) -> f64 {
        let sum: f64 = self.reliability.iter().map(|bin| bin.count as f64 * bin.confidence).sum();
        sum / self.pairs as f64
    }
}

impl ModelComparison {
    /// Returns the findings of the comparison, the second model against the first.
    pub fn findings(&self, first: &str, second: &str) -> Vec<String> {
        let mut found = vec![self.accuracies(first, second)];
        let others = [Measure::LogLoss, Measure::Brier, Measure::Ece];
        let better = |measure: &Measure| -> Option<String> {
            let difference = self.differences.get(measure)?;
            let p = difference.p.filter(|p| *p < SIGNIFICANT)?;
            let way = if difference.difference.value < 0.0 { "lower" } else { "higher" };
            let size = Signed::of(&difference.difference, 1.0, 3).value;
            let size = size.trim_start_matches(['+', '−']);
            Some(format!("{} {size} {way} (p {})", measure.name(), p_value(p)))
        };
        let differing: Vec<String> = others.iter().filter_map(better).collect();
        if !differing.is_empty() {
            found.push(format!("{second} against {first}: {}. Lower is better.", differing.join(", ")));
        }
        if self.differences.values().all(|difference| difference.p.is_none()) {
            found.push(format!(
                "No intervals and p-values for differences: they need at least {} bootstrap draws and {} \
                 prompts.",
                crate::interval::fewest_draws(LEVEL),
                crate::interval::fewest_prompts(LEVEL)
            ));
        }
        found
    }

    fn accuracies(&self, first: &str, second: &str) -> String {
        let test = &self.mcnemar;
        let (pairs, p) = (self.pairs, self.accuracy_p());
        let counts = format!(
            "{second} orders {} pairs as labelled that {first} does not, and {first} {} that {second} does \
             not",
            test.only_second, test.only_first
        );
        let Some(difference) = self.differences.get(&Measure::Accuracy) else { return format!("{counts}.") };
        let points = 100.0 * difference.difference.value;
        let verdict = match p {
            Some(p) if p < SIGNIFICANT => format!("significant (p {})", p_value(p)),
            Some(p) => format!("not significant (p {})", p_value(p)),
            None => "too little to test".to_owned(),
        };
        if points.abs() < 1e-9 {
            return format!("On {pairs} pairs both have the same accuracy: {counts}.");
        }
        let way = if points < 0.0 { "lower" } else { "higher" };
        format!(
            "On {pairs} pairs the accuracy of {second} is {:.1} points {way} than that of {first}: {counts}; \
             {verdict}.",
            points.abs()
        )
    }

    /// Returns the p-value of no difference in accuracy: the bootstrap's over prompts if it was drawn, else
    /// McNemar's if every pair has its own prompt, as that test assumes.
    pub fn accuracy_p(&self) -> Option<f64> {
        let drawn = self.differences.get(&Measure::Accuracy).and_then(|difference| difference.p);
        drawn.or_else(|| (self.prompts == self.pairs).then_some(self.mcnemar.p))
    }
}

fn level(interval: &Interval) -> String {
    format!("{} %", (1000.0 * interval.level()).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::Bootstrap;
    use crate::evaluation::Evaluation;
    use crate::reward::PairScore;

    fn pair(margin: f64) -> PairScore {
        PairScore { chosen: margin, ..PairScore::default() }
    }

    fn report(margins: &[f64]) -> RewardReport {
        RewardReport::new(&margins.iter().map(|margin| pair(*margin)).collect::<Vec<_>>()).unwrap()
    }

    /// Protects: findings report a collapsed model, few pairs, guessing, and worse than guessing; a good
    /// model has none.
    #[test]
    fn what_stands_out_is_said() {
        let said = |margins: &[f64]| report(margins).findings().join(" ");
        assert!(
            said(&[0.0; 50]).starts_with("All 100 answers have the same score (0)"),
            "{}",
            said(&[0.0; 50])
        );
        assert!(said(&[2.0]).starts_with("There is only 1 pair"), "{}", said(&[2.0]));
        assert!(said(&[2.0; 5]).starts_with("There are only 5 pairs"), "{}", said(&[2.0; 5]));
        let tied: Vec<PairScore> =
            (0..40).map(|at| PairScore { chosen: at.into(), rejected: at.into(), ..pair(0.0) }).collect();
        let tied = RewardReport::new(&tied).unwrap().findings().join(" ");
        assert!(tied.contains("same score: no pair is ordered"), "{tied}");
        let half: Vec<f64> = (0..100).map(|at| if at % 2 == 0 { 0.1 } else { -0.1 }).collect();
        assert_eq!(
            said(&half),
            "The 95 % interval of the accuracy (40.4 to 59.6 %) includes 50 %: no evidence that the model \
             beats guessing on these pairs."
        );
        assert!(said(&[-0.1; 100]).contains("swapped"), "{}", said(&[-0.1; 100]));
        let right: Vec<f64> = (0..100).map(|at| if at % 5 == 0 { -1.4 } else { 1.4 }).collect();
        assert_eq!(said(&right), "");
        let sure: Vec<f64> = right.iter().map(|margin| 5.0 * margin).collect();
        assert_eq!(
            said(&sure),
            "The model is 99.9 % confident on average and right in 80.0 %: overconfident."
        );
    }

    /// Protects: length bias is measured against the labels and reported in either direction.
    #[test]
    fn length_bias_is_told_in_its_direction() {
        let biased = |longer_wins: bool| {
            let pairs: Vec<PairScore> = (0..100)
                .map(|at| {
                    let chosen_longer = at % 2 == 0;
                    let (chosen_tokens, rejected_tokens) = if chosen_longer { (9, 5) } else { (5, 9) };
                    let sign = if chosen_longer == longer_wins { 1.0 } else { -1.0 };
                    PairScore { chosen_tokens, rejected_tokens, ..pair(sign) }
                })
                .collect();
            RewardReport::new(&pairs).unwrap().findings().join(" ")
        };
        let said = biased(true);
        assert!(
            said.contains("prefers the longer answer in 100.0 % of the pairs, the labels in 50.0 %"),
            "{said}"
        );
        let said = biased(false);
        assert!(
            said.contains("prefers the shorter answer in 100.0 % of the pairs, the labels in 50.0 %"),
            "{said}"
        );
    }

    /// Protects: accuracy is judged by draws of prompts if pairs share them: a hundred copies of one prompt's
    /// pair are no evidence.
    #[test]
    fn shared_prompts_widen_the_interval() {
        let mut evaluation = Evaluation::default();
        for at in 0..200_u32 {
            let prompt = (at % 8).to_string();
            evaluation.add_pair(pair(if at % 8 < 3 { -1.0 } else { 1.0 }), None, Some(&prompt));
        }
        let report = RewardReport::of(&evaluation, &Bootstrap::default()).unwrap();
        assert!(!report.accuracy.interval.contains(0.5) && report.accuracy_interval().contains(0.5));
        assert!(report.findings()[0].contains("includes 50 %"), "{:?}", report.findings());
    }

    /// Protects: a difference is significant by its p-value alone; without draws, McNemar's test is used for
    /// independent pairs only.
    #[test]
    fn differences_are_judged_by_their_p_value() {
        let of = |margins: &[f64], per_prompt: usize| {
            let mut evaluation = Evaluation::default();
            for (at, margin) in margins.iter().enumerate() {
                evaluation.add_pair(pair(*margin), None, Some(&(at / per_prompt).to_string()));
            }
            evaluation
        };
        let worse: Vec<f64> = (0..100).map(|at| if at % 3 == 0 { 0.5 } else { -0.5 }).collect();
        let better: Vec<f64> = (0..100).map(|at| if at % 3 < 2 { 0.6 } else { -0.6 }).collect();
        let said = |resamples, per_prompt| {
            let bootstrap = Bootstrap { resamples, ..Bootstrap::default() };
            let (worse, better) = (of(&worse, per_prompt), of(&better, per_prompt));
            ModelComparison::new(&worse, &better, &bootstrap).unwrap().findings("bt", "pcrm").join(" ")
        };
        let drawn = said(1000, 1);
        assert!(drawn.contains("pcrm is 33.0 points higher than that of bt"), "{drawn}");
        assert!(drawn.contains("; significant (p 0.002)"), "{drawn}");
        assert!(drawn.contains("log loss") && !drawn.contains("No intervals"), "{drawn}");
        let none = said(0, 1);
        assert!(
            none.contains("; significant (p < 0.001)") && none.contains("No intervals and p-values"),
            "{none}"
        );
        assert!(!none.contains("log loss"), "{none}");
        assert!(said(0, 2).contains("too little to test"), "{}", said(0, 2));
    }
}
