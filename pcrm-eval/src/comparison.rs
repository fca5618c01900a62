//! Comparison of the arms of an experiment over seeds: means, and paired differences seed by seed.
//!
//! An arm is a setting; a run is one seed of it. Runs with the same seed share their split, order and initial
//! weights, so differences between arms are paired.

use std::collections::{BTreeMap, BTreeSet};

use crate::bootstrap::Estimate;
use crate::error::{Error, Result};
use crate::interval::{FEWEST_REPLICATES, Interval};
use crate::replicates::Mean;
use crate::table::Signed;

/// The result of one run on its held-out pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldOutRun<'a> {
    /// Name of the arm.
    pub arm: &'a str,
    /// Setting of the arm in words; it may differ between seeds.
    pub setting: &'a str,
    /// Identity of the held-out data if all runs share them; `None` if each run holds out its own.
    pub held_out: Option<&'a str>,
    /// Number of held-out pairs.
    pub pairs: usize,
    /// Measures, by the names of [`MEASURES`].
    pub measures: &'a BTreeMap<String, f64>,
}

/// A measure with its direction and unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// Name in files.
    pub name: &'static str,
    /// Table heading.
    pub heading: &'static str,
    /// Direction that is better.
    pub better: Better,
    /// Unit of the values.
    pub unit: Unit,
}

/// The better direction of a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Higher is better.
    Higher,
    /// Lower is better.
    Lower,
    /// Neither: the measure describes the scores.
    Neither,
}

/// The unit of a measure; no measure is negative.
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
    /// Returns the largest possible value.
    fn most(self) -> f64 {
        if self == Self::Share { 1.0 } else { f64::INFINITY }
    }
}

/// All measures, the most informative first.
pub const MEASURES: [Measure; 13] = [
    measure("accuracy", "accuracy", Better::Higher, Unit::Share),
    measure("cross_entropy", "log loss, true p", Better::Lower, Unit::Loss),
    measure("log_loss", "log loss", Better::Lower, Unit::Loss),
    measure("brier", "Brier", Better::Lower, Unit::Loss),
    measure("ece", "ECE", Better::Lower, Unit::Loss),
    measure("log_loss_scaled", "log loss, scaled", Better::Lower, Unit::Loss),
    measure("brier_scaled", "Brier, scaled", Better::Lower, Unit::Loss),
    measure("ece_scaled", "ECE, scaled", Better::Lower, Unit::Loss),
    measure("temperature", "temperature", Better::Neither, Unit::Score),
    measure("score_range", "score range", Better::Neither, Unit::Score),
    measure("margin_std", "margin std", Better::Neither, Unit::Score),
    measure("mean_bound", "mean bound", Better::Neither, Unit::Score),
    measure("beyond_bound", "beyond bound", Better::Neither, Unit::Share),
];

const fn measure(name: &'static str, heading: &'static str, better: Better, unit: Unit) -> Measure {
    Measure { name, heading, better, unit }
}

/// The combined results of all arms.
#[derive(Debug)]
pub struct ComparisonOutcome {
    /// The arms, in order.
    pub arms: Vec<ArmOutcome>,
    /// Number of runs per arm.
    pub replicates: usize,
    /// Held-out pairs.
    pub held_out: HeldOut,
    /// Measures that at least one run has.
    pub measures: Vec<Measure>,
}

/// The pairs that the runs of an arm were evaluated on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldOut {
    /// Each run held out its own pairs; the total number over all runs.
    Own(usize),
    /// All runs were evaluated on the same pairs; the number of pairs.
    Same(usize),
}

/// The combined results of one arm.
#[derive(Debug)]
pub struct ArmOutcome {
    /// Name of the arm.
    pub label: String,
    /// Distinct settings of the runs.
    pub settings: Vec<String>,
    /// Values of every measure, run by run, in the order of [`ComparisonOutcome::measures`]; `None` if a run lacks the
    /// measure.
    pub values: Vec<Option<Vec<f64>>>,
    /// Mean of every measure; `None` if a run lacks the measure.
    pub means: Vec<Option<Mean>>,
    /// Mean paired difference from the first arm; `None` for the first arm itself.
    pub differences: Vec<Option<Mean>>,
}

impl ComparisonOutcome {
    /// Compares the arms with these labels against the first of them. Fails if arms have different numbers of
    /// runs, or a measure is not finite.
    pub fn of(labels: &[String], runs: &[HeldOutRun<'_>]) -> Result<Self> {
        let of = |label: &String| runs.iter().filter(|run| run.arm == *label).collect::<Vec<_>>();
        let arms: Vec<Vec<&HeldOutRun<'_>>> = labels.iter().map(of).collect();
        let replicates = arms.first().map_or(0, Vec::len);
        for (label, arm) in labels.iter().zip(&arms) {
            if arm.len() != replicates {
                return Err(Error::Runs {
                    arm: label.clone(),
                    runs: arm.len(),
                    first: labels[0].clone(),
                    expected: replicates,
                });
            }
        }
        let has = |measure: &Measure| runs.iter().any(|run| run.measures.contains_key(measure.name));
        let measures: Vec<Measure> = MEASURES.into_iter().filter(has).collect();
        let values = |arm: &[&HeldOutRun<'_>], measure: &Measure| -> Option<Vec<f64>> {
            arm.iter().map(|run| run.measures.get(measure.name).copied()).collect()
        };
        let first = arms.first().cloned().unwrap_or_default();
        let outcome = |(label, arm): (&String, &Vec<&HeldOutRun<'_>>)| -> Result<ArmOutcome> {
            let own: Vec<Option<Vec<f64>>> = measures.iter().map(|measure| values(arm, measure)).collect();
            let (mut means, mut differences) = (Vec::new(), Vec::new());
            for (measure, own) in measures.iter().zip(&own) {
                let mean = own.as_deref().map(Mean::of).transpose()?;
                let possible = |interval: Interval| interval.within(0.0, measure.unit.most());
                means.push(mean.map(|mean| Mean { interval: mean.interval.map(possible), ..mean }));
                let both = values(&first, measure).zip(own.as_ref()).filter(|_| *label != labels[0]);
                differences.push(both.map(|(first, own)| Mean::of_differences(&first, own)).transpose()?);
            }
            let settings: BTreeSet<&str> = arm.iter().map(|run| run.setting).collect();
            let settings = settings.into_iter().map(str::to_owned).collect();
            Ok(ArmOutcome { label: label.clone(), settings, values: own, means, differences })
        };
        Ok(Self {
            arms: labels.iter().zip(&arms).map(outcome).collect::<Result<_>>()?,
            replicates,
            held_out: HeldOut::of(&first),
            measures,
        })
    }

    /// Returns one sentence per arm: the differences from the first arm that exceed the variation between
    /// seeds.
    pub fn reading(&self) -> Vec<String> {
        let Some((first, others)) = self.arms.split_first() else { return Vec::new() };
        if self.replicates < FEWEST_REPLICATES {
            return vec![format!(
                "{} cannot separate an effect from chance: intervals need at least {FEWEST_REPLICATES} \
                 seeds (--seeds).",
                if self.replicates == 1 { "One seed" } else { "Two seeds" }
            )];
        }
        let mut said: Vec<String> = others.iter().map(|arm| self.sentence(arm, &first.label)).collect();
        if let HeldOut::Same(_) = self.held_out {
            said.push(
                "All seeds are evaluated on the same pairs: the intervals cover other seeds, not other pairs."
                    .to_owned(),
            );
        }
        said
    }

    /// Returns the significant differences of an arm: first those of quality, then those that only describe
    /// the scores.
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
    /// Formats a difference of this measure with its interval; shares are in percentage points.
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
    /// Returns the held-out pairs of the runs of one arm.
    fn of(runs: &[&HeldOutRun<'_>]) -> Self {
        match runs.split_first() {
            Some((first, others))
                if first.held_out.is_some() && others.iter().all(|run| run.held_out == first.held_out) =>
            {
                Self::Same(first.pairs)
            }
            _ => Self::Own(runs.iter().map(|run| run.pairs).sum()),
        }
    }
}

#[cfg(test)]
mod tests;
