//! What runs with several seeds say together.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use pcrm_eval::replicates::Mean;

use super::measured::Measured;

/// A measure and how it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// Its name in files.
    pub name: &'static str,
    /// Its heading.
    pub heading: &'static str,
    /// Which way is better.
    pub better: Better,
}

/// Which way a measure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    More,
    /// Less is better.
    Less,
    /// Neither.
    Neither,
}

/// All measures, the most telling first.
pub const MEASURES: [Measure; 9] = [
    Measure { name: "accuracy", heading: "accuracy", better: Better::More },
    Measure { name: "cross_entropy", heading: "log loss, true p", better: Better::Less },
    Measure { name: "log_loss", heading: "log loss", better: Better::Less },
    Measure { name: "brier", heading: "Brier", better: Better::Less },
    Measure { name: "ece", heading: "ECE", better: Better::Less },
    Measure { name: "score_range", heading: "score range", better: Better::Neither },
    Measure { name: "margin_std", heading: "margin std", better: Better::Neither },
    Measure { name: "mean_bound", heading: "mean bound", better: Better::Neither },
    Measure { name: "beyond_bound", heading: "beyond bound", better: Better::Less },
];

/// What the runs of all arms say.
#[derive(Debug)]
pub struct Outcome {
    /// The arms, in order.
    pub arms: Vec<ArmOutcome>,
    /// How many runs each has.
    pub replicates: usize,
    /// Held-out pairs, over all runs of an arm.
    pub pairs: usize,
    /// The measures that any run has.
    pub measures: Vec<Measure>,
}

/// What the runs of one arm say.
#[derive(Debug)]
pub struct ArmOutcome {
    /// Its name.
    pub label: String,
    /// The constraints of its runs, the different ones.
    pub constraints: Vec<String>,
    /// The mean of every measure, in the order of [`Outcome::measures`]; none where a run lacks it.
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
            let (mut means, mut differences) = (Vec::new(), Vec::new());
            for measure in &measures {
                let own = values(arm, measure);
                means.push(own.as_deref().map(Mean::of).transpose()?);
                let both = values(&first, measure).zip(own).filter(|_| *label != labels[0]);
                differences.push(both.map(|(first, own)| Mean::of_differences(&first, &own)).transpose()?);
            }
            let constraints: BTreeSet<String> = arm.iter().map(|run| run.constraint.to_string()).collect();
            let constraints = constraints.into_iter().collect();
            Ok(ArmOutcome { label: label.clone(), constraints, means, differences })
        };
        Ok(Self {
            arms: labels.iter().zip(&arms).map(outcome).collect::<Result<_>>()?,
            replicates,
            pairs: first.iter().map(|run| run.pairs).sum(),
            measures,
        })
    }

    /// What differs from the first arm by more than the seeds do, a sentence an arm.
    pub fn reading(&self) -> Vec<String> {
        let Some((first, others)) = self.arms.split_first() else { return Vec::new() };
        if self.replicates < 2 {
            return vec!["One seed tells nothing of chance: --seeds 3 or more gives intervals.".to_owned()];
        }
        let say = |arm: &ArmOutcome| {
            let told: Vec<String> = self
                .measures
                .iter()
                .zip(&arm.differences)
                .filter(|(measure, _)| measure.better != Better::Neither && measure.name != "beyond_bound")
                .filter_map(|(measure, difference)| {
                    let mean = (*difference)?;
                    let (low, high) = mean.interval.filter(|_| mean.excludes_zero())?;
                    let better = (mean.value > 0.0) == (measure.better == Better::More);
                    let verdict = if better { "better" } else { "worse" };
                    Some(format!(
                        "{} {verdict} ({:+.3}, {low:+.3} to {high:+.3})",
                        measure.heading, mean.value
                    ))
                })
                .collect();
            match told.is_empty() {
                true => format!("{}: nothing differs from {} beyond what seeds do.", arm.label, first.label),
                false => format!("{}, against {}: {}.", arm.label, first.label, told.join("; ")),
            }
        };
        others.iter().map(say).collect()
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

    /// Protects: differences are taken seed by seed, so that what seeds do alike to all arms does not hide them; and the
    /// sentence says which way.
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
            said.len() == 1 && said[0].starts_with("fixed, against none: log loss better (-0.290"),
            "{said:?}"
        );
    }

    /// Protects: arms that were not run as often cannot be compared by seed.
    #[test]
    fn missing_runs_are_named() {
        let runs = [run("none", 0, 0.5, 0.7), run("none", 1, 0.5, 0.7), run("fixed", 0, 0.5, 0.7)];
        let error = Outcome::of(&labels(), &runs).unwrap_err().to_string();
        assert_eq!(error, "fixed has 1 runs and none has 2; expected as many of all");
    }
}
