//! Runs with several seeds, put together.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use pcrm_eval::Interval;
use pcrm_eval::bootstrap::Estimate;
use pcrm_eval::interval::FEWEST_REPLICATES;
use pcrm_eval::replicates::Mean;
use pcrm_eval::table::Signed;
use serde_json::Value;

use super::measured::Measured;

/// A measure and how to read it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// Its name in files.
    pub name: &'static str,
    /// Its heading.
    pub heading: &'static str,
    /// The direction that is better.
    pub better: Better,
    /// Its unit.
    pub unit: Unit,
}

/// The direction in which a measure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Higher is better.
    Higher,
    /// Lower is better.
    Lower,
    /// Neither: it describes the scores.
    Neither,
}

/// The unit of a measure, none of which is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share from 0 to 1, shown in per cent.
    Share,
    /// A loss or error, shown with three decimals.
    Loss,
    /// A difference of scores, shown with two decimals.
    Score,
}

impl Unit {
    /// The largest possible value.
    fn most(self) -> f64 {
        if self == Self::Share { 1.0 } else { f64::INFINITY }
    }
}

/// All measures, the most telling first.
pub const MEASURES: [Measure; 9] = [
    measure("accuracy", "accuracy", Better::Higher, Unit::Share),
    measure("cross_entropy", "log loss, true p", Better::Lower, Unit::Loss),
    measure("log_loss", "log loss", Better::Lower, Unit::Loss),
    measure("brier", "Brier", Better::Lower, Unit::Loss),
    measure("ece", "ECE", Better::Lower, Unit::Loss),
    measure("score_range", "score range", Better::Neither, Unit::Score),
    measure("margin_std", "margin std", Better::Neither, Unit::Score),
    measure("mean_bound", "mean bound", Better::Neither, Unit::Score),
    measure("beyond_bound", "beyond bound", Better::Neither, Unit::Share),
];

const fn measure(name: &'static str, heading: &'static str, better: Better, unit: Unit) -> Measure {
    Measure { name, heading, better, unit }
}

/// The runs of all arms, put together.
#[derive(Debug)]
pub struct Outcome {
    /// The arms, in order.
    pub arms: Vec<ArmOutcome>,
    /// The number of runs of each.
    pub replicates: usize,
    /// The held-out pairs.
    pub held_out: HeldOut,
    /// The measures that any run has.
    pub measures: Vec<Measure>,
}

/// The pairs that the runs of an arm were evaluated on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldOut {
    /// Each run held out its own; their number over all runs.
    Own(usize),
    /// All runs were evaluated on the same pairs; their number.
    Same(usize),
}

/// The runs of one arm, put together.
#[derive(Debug)]
pub struct ArmOutcome {
    /// Its name.
    pub label: String,
    /// The constraints of its runs, the different ones.
    pub constraints: Vec<String>,
    /// The value of every measure, run by run, in the order of [`Outcome::measures`]; none where a run lacks it.
    pub values: Vec<Option<Vec<f64>>>,
    /// The mean of every measure; none where a run lacks it.
    pub means: Vec<Option<Mean>>,
    /// The mean difference to the first arm, run by run; none of the first.
    pub differences: Vec<Option<Mean>>,
}

impl Outcome {
    /// Puts the runs of these arms together.
    ///
    /// # Errors
    /// Arms with different numbers of runs.
    pub fn of(labels: &[String], runs: &[Measured]) -> Result<Self> {
        let of = |label: &String| runs.iter().filter(|run| run.label == *label).collect::<Vec<_>>();
        let arms: Vec<Vec<&Measured>> = labels.iter().map(of).collect();
        let replicates = arms.first().map_or(0, Vec::len);
        for (label, arm) in labels.iter().zip(&arms) {
            ensure!(
                arm.len() == replicates,
                "{label} has {} runs and {} has {replicates}; expected as many of all",
                arm.len(),
                labels[0]
            );
        }
        let has = |measure: &Measure| runs.iter().any(|run| run.measures.contains_key(measure.name));
        let measures: Vec<Measure> = MEASURES.into_iter().filter(has).collect();
        let values = |arm: &[&Measured], measure: &Measure| -> Option<Vec<f64>> {
            arm.iter().map(|run| run.measures.get(measure.name).copied()).collect()
        };
        let first = arms.first().cloned().unwrap_or_default();
        let outcome = |(label, arm): (&String, &Vec<&Measured>)| -> Result<ArmOutcome> {
            let own: Vec<Option<Vec<f64>>> = measures.iter().map(|measure| values(arm, measure)).collect();
            let (mut means, mut differences) = (Vec::new(), Vec::new());
            for (measure, own) in measures.iter().zip(&own) {
                let mean = own.as_deref().map(Mean::of).transpose()?;
                let possible = |interval: Interval| interval.within(0.0, measure.unit.most());
                means.push(mean.map(|mean| Mean { interval: mean.interval.map(possible), ..mean }));
                let both = values(&first, measure).zip(own.as_ref()).filter(|_| *label != labels[0]);
                differences.push(both.map(|(first, own)| Mean::of_differences(&first, own)).transpose()?);
            }
            let constraints: BTreeSet<String> = arm.iter().map(|run| run.constraint.to_string()).collect();
            let constraints = constraints.into_iter().collect();
            Ok(ArmOutcome { label: label.clone(), constraints, values: own, means, differences })
        };
        Ok(Self {
            arms: labels.iter().zip(&arms).map(outcome).collect::<Result<_>>()?,
            replicates,
            held_out: HeldOut::of(&first),
            measures,
        })
    }

    /// The differences from the first arm that exceed those between seeds, a sentence an arm.
    pub fn reading(&self) -> Vec<String> {
        let Some((first, others)) = self.arms.split_first() else { return Vec::new() };
        if self.replicates < FEWEST_REPLICATES {
            return vec![format!(
                "{} cannot show what is chance: intervals take at least {FEWEST_REPLICATES} seeds (--seeds).",
                if self.replicates == 1 { "One seed" } else { "Two seeds" }
            )];
        }
        let mut said: Vec<String> = others.iter().map(|arm| self.sentence(arm, &first.label)).collect();
        if let HeldOut::Same(_) = self.held_out {
            said.push(
                "All seeds are evaluated on the same pairs: the intervals cover other seeds, not other pairs.".to_owned(),
            );
        }
        said
    }

    /// The significant differences of an arm: those of quality first, then those that only describe the scores.
    fn sentence(&self, arm: &ArmOutcome, first: &str) -> String {
        let (mut quality, mut other) = (Vec::new(), Vec::new());
        for (measure, difference) in self.measures.iter().zip(&arm.differences) {
            let Some(mean) = difference.filter(Mean::excludes_zero) else { continue };
            let higher = mean.value > 0.0;
            let verdict = match (measure.better, higher) {
                (Better::Higher, true) | (Better::Lower, false) => "better",
                (Better::Higher, false) | (Better::Lower, true) => "worse",
                (Better::Neither, true) => "higher",
                (Better::Neither, false) => "lower",
            };
            let Signed { value, interval } = measure.signed(&mean);
            let points = if measure.unit == Unit::Share { " points" } else { "" };
            let text = format!(
                "{} {verdict} ({value}{points}, 95 %: {})",
                measure.heading,
                interval.unwrap_or_default()
            );
            if measure.better == Better::Neither { &mut other } else { &mut quality }.push(text);
        }
        let label = &arm.label;
        match (quality.is_empty(), other.is_empty()) {
            (true, true) => format!("{label}: no significant difference from {first}."),
            (true, false) => format!(
                "{label}: no measure of quality differs significantly from {first}; {}.",
                other.join("; ")
            ),
            (false, true) => format!("{label}, against {first}: {}.", quality.join("; ")),
            (false, false) => {
                format!("{label}, against {first}: {}; also {}.", quality.join("; "), other.join("; "))
            }
        }
    }
}

impl Measure {
    /// A difference of this measure with its interval, shares in points of per cent.
    pub fn signed(&self, mean: &Mean) -> Signed {
        let estimate = Estimate { value: mean.value, interval: mean.interval };
        match self.unit {
            Unit::Share => Signed::of(&estimate, 0.01, 1),
            Unit::Loss => Signed::of(&estimate, 1.0, 3),
            Unit::Score => Signed::of(&estimate, 1.0, 2),
        }
    }
}

impl HeldOut {
    /// The pairs of the runs of one arm. Runs on the same files of `--eval-data` have the same pairs.
    fn of(runs: &[&Measured]) -> Self {
        let held_out = |files: &&Value| files.as_array().is_some_and(|files| !files.is_empty());
        let data = |run: &Measured| run.question.get("eval-data").filter(held_out).cloned();
        match runs.split_first() {
            Some((first, others))
                if data(first).is_some() && others.iter().all(|run| data(run) == data(first)) =>
            {
                Self::Same(first.pairs)
            }
            _ => Self::Own(runs.iter().map(|run| run.pairs).sum()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn run(label: &str, seed: u64, accuracy: f64, log_loss: f64) -> Measured {
        Measured {
            label: label.to_owned(),
            seed,
            constraint: json!({"kind": label}),
            question: BTreeMap::new(),
            pairs: 100,
            measures: BTreeMap::from([("accuracy".to_owned(), accuracy), ("log_loss".to_owned(), log_loss)]),
        }
    }

    fn labels() -> [String; 2] {
        ["none", "fixed"].map(str::to_owned)
    }

    /// Protects: differences are taken seed by seed, so that an effect of the seed on all arms does not hide them; and the
    /// sentence has their direction.
    #[test]
    fn differences_are_paired() {
        let seeds = [0.5, 0.6, 0.7];
        let both = |(at, accuracy): (usize, &f64)| {
            let seed = at as u64;
            [
                run("none", seed, *accuracy, 0.9),
                run("fixed", seed, accuracy + 0.001 * at as f64, 0.6 + 0.01 * at as f64),
            ]
        };
        let runs: Vec<Measured> = seeds.iter().enumerate().flat_map(both).collect();
        let outcome = Outcome::of(&labels(), &runs).unwrap();
        let [accuracy, log_loss] = outcome.arms[1].differences[..] else { panic!("{outcome:?}") };
        assert!(!accuracy.unwrap().excludes_zero() && log_loss.unwrap().excludes_zero());
        assert!((log_loss.unwrap().value + 0.29).abs() < 1e-12);
        let said = outcome.reading();
        assert!(
            said.len() == 1
                && said[0].starts_with("fixed, against none: log loss better (−0.290, 95 %: −0.315"),
            "{said:?}"
        );
    }

    /// Protects: a star and its sentence agree: every significant difference is in the sentence, also of measures that are
    /// neither better nor worse.
    #[test]
    fn every_star_is_in_a_sentence() {
        let with = |label: &str, seed: u64, std: f64, accuracy: f64| {
            let mut run = run(label, seed, accuracy, 0.6);
            run.measures.insert("margin_std".to_owned(), std);
            run
        };
        let arms = |accuracy: f64, std: f64| -> Vec<Measured> {
            let both = |seed: u64| {
                let wobble = 0.001 * seed as f64;
                [
                    with("none", seed, 0.56, 0.6),
                    with("fixed", seed, 0.56 + std + wobble, 0.6 + accuracy + wobble),
                ]
            };
            (0..3).flat_map(both).collect()
        };
        for (accuracy, std, expected) in [
            (
                -0.001,
                -0.17,
                "fixed: no measure of quality differs significantly from none; margin std lower (−0.169",
            ),
            (-0.001, -0.001, "fixed: no significant difference from none."),
            (0.05, -0.001, "fixed, against none: accuracy better (+5.10 points"),
            (0.05, 0.2, "fixed, against none: accuracy better (+5.10 points"),
            (-0.05, -0.001, "fixed, against none: accuracy worse (−4.90 points"),
        ] {
            let outcome = Outcome::of(&labels(), &arms(accuracy, std)).unwrap();
            let said = outcome.reading();
            assert!(said[0].starts_with(expected), "{said:?}");
            let stars =
                outcome.arms[1].differences.iter().flatten().filter(|mean| mean.excludes_zero()).count();
            assert_eq!(said[0].matches("95 %").count(), stars, "{said:?}");
        }
    }

    /// Protects: fewer than three seeds give no intervals and say so; shares stay within 0 and 100 %; pairs that all seeds
    /// share are counted once.
    #[test]
    fn few_seeds_and_shared_pairs_are_said() {
        let seeds = |count: u64, eval_data: &[&str]| -> Outcome {
            let one = |label: &str, seed: u64| {
                let mut run = run(label, seed, if seed.is_multiple_of(2) { 0.99 } else { 0.6 }, 0.6);
                run.question.insert("eval-data".to_owned(), json!(eval_data));
                run
            };
            let runs: Vec<Measured> =
                (0..count).flat_map(|seed| [one("none", seed), one("fixed", seed)]).collect();
            Outcome::of(&labels(), &runs).unwrap()
        };
        for count in 1..5 {
            let outcome = seeds(count, &[]);
            let mean = outcome.arms[0].means[0].unwrap();
            assert_eq!(mean.interval.is_some(), count >= 3, "{count}: {mean:?}");
            assert!(mean.interval.is_none_or(|interval| interval.low() >= 0.0 && interval.high() <= 1.0));
            assert_eq!(
                outcome.reading()[0].contains("at least 3 seeds"),
                count < 3,
                "{:?}",
                outcome.reading()
            );
            assert_eq!(outcome.held_out, HeldOut::Own(100 * count as usize));
        }
        let same = seeds(3, &["sha256"]);
        assert_eq!(same.held_out, HeldOut::Same(100));
        assert!(same.reading()[1].contains("the same pairs"), "{:?}", same.reading());
    }

    /// Protects: arms that were not run as often cannot be compared by seed.
    #[test]
    fn missing_runs_are_named() {
        let runs = [run("none", 0, 0.5, 0.7), run("none", 1, 0.5, 0.7), run("fixed", 0, 0.5, 0.7)];
        let error = Outcome::of(&labels(), &runs).unwrap_err().to_string();
        assert_eq!(error, "fixed has 1 runs and none has 2; expected as many of all");
    }
}
