//! Agreement with human scores: correlations within every prompt and over all answers.
//!
//! The correlation within prompts measures the order of the answers to choose from; the pooled one also
//! rewards a model for knowing which prompts are easy. Intervals come from the bootstrap over prompts.

use serde::{Deserialize, Serialize};

use crate::answers::{AnswerSet, Labels, by_prompt};
use crate::bootstrap::{Bootstrap, Clusters, Difference, Estimate};
use crate::correlation::{kendall, pearson, spearman};
use crate::error::Result;
use crate::quantiles::mean;

/// Three correlations with intervals; absent if one side is constant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Correlations {
    /// Pearson's r.
    pub pearson: Option<Estimate>,
    /// Spearman's ρ.
    pub spearman: Option<Estimate>,
    /// Kendall's τ-b.
    pub kendall: Option<Estimate>,
}

/// Correlations of a model's scores with human scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HumanAgreement {
    /// Number of prompts with human scores.
    pub prompts: usize,
    /// Number of answers to these prompts.
    pub answers: usize,
    /// Correlations over all answers at once.
    pub pooled: Correlations,
    /// Mean, over prompts, of the correlation among a prompt's answers.
    pub per_prompt: Correlations,
    /// Number of prompts in that mean: those with neither constant scores nor constant human scores.
    pub prompts_used: usize,
}

/// Difference of two models in rank correlation with human scores; absent if either correlation is undefined.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HumanDifference {
    /// Difference of Spearman's ρ over all answers.
    pub pooled_spearman: Option<Difference>,
    /// Difference of the mean of Spearman's ρ within prompts.
    pub per_prompt_spearman: Option<Difference>,
}

type Correlation = fn(&[f64], &[f64]) -> Result<Option<f64>>;

/// Correlates scores with human scores over the sets that have them; `None` if no set does.
///
/// # Errors
/// Same as [`AnswerSet::check`].
pub fn human_agreement(sets: &[AnswerSet], bootstrap: &Bootstrap) -> Result<Option<HumanAgreement>> {
    let rated = Rated::of(sets)?;
    if rated.sets.is_empty() {
        return Ok(None);
    }
    let used = rated.within(spearman)?.iter().flatten().count();
    let both = |correlation: Correlation| -> Result<(Option<Estimate>, Option<Estimate>)> {
        let within = rated.within(correlation)?;
        Ok((
            bootstrap.estimate(&rated.prompts(), |prompts| rated.pooled(prompts, correlation))?,
            rated.mean_within(&within, bootstrap)?,
        ))
    };
    let (pearson, spearman, kendall) = (both(pearson)?, both(spearman)?, both(kendall)?);
    Ok(Some(HumanAgreement {
        prompts: rated.sets.len(),
        answers: rated.sets.iter().map(|set| set.scores.len()).sum(),
        pooled: Correlations { pearson: pearson.0, spearman: spearman.0, kendall: kendall.0 },
        per_prompt: Correlations { pearson: pearson.1, spearman: spearman.1, kendall: kendall.1 },
        prompts_used: used,
    }))
}

/// Computes second − first of the rank correlations, over the same sets in the same order; `None` if no set
/// has human scores.
///
/// # Errors
/// Same as [`AnswerSet::check`].
pub fn human_difference(
    first: &[AnswerSet],
    second: &[AnswerSet],
    bootstrap: &Bootstrap,
) -> Result<Option<HumanDifference>> {
    let (first, second) = (Rated::of(first)?, Rated::of(second)?);
    if first.sets.is_empty() {
        return Ok(None);
    }
    let prompts = first.prompts();
    let (within_first, within_second) = (first.within(spearman)?, second.within(spearman)?);
    Ok(Some(HumanDifference {
        pooled_spearman: bootstrap.difference(
            &prompts,
            |prompts| first.pooled(prompts, spearman),
            |prompts| second.pooled(prompts, spearman),
        )?,
        per_prompt_spearman: first.difference_within(&within_first, &within_second, bootstrap)?,
    }))
}

struct Rated<'a> {
    sets: Vec<&'a AnswerSet>,
    human: Vec<&'a [f64]>,
}

impl<'a> Rated<'a> {
    fn of(sets: &'a [AnswerSet]) -> Result<Self> {
        let mut rated = Self { sets: Vec::new(), human: Vec::new() };
        for set in sets {
            set.check()?;
            if let Labels::Human(human) = &set.labels {
                rated.sets.push(set);
                rated.human.push(human);
            }
        }
        Ok(rated)
    }

    fn prompts(&self) -> Clusters {
        by_prompt(self.sets.iter().copied())
    }

    fn within(&self, correlation: Correlation) -> Result<Vec<Option<f64>>> {
        self.sets.iter().zip(&self.human).map(|(set, human)| correlation(&set.scores, human)).collect()
    }

    fn pooled(&self, prompts: &[usize], correlation: Correlation) -> Result<Option<f64>> {
        let scores: Vec<f64> = prompts.iter().flat_map(|at| &self.sets[*at].scores).copied().collect();
        let human: Vec<f64> = prompts.iter().flat_map(|at| self.human[*at]).copied().collect();
        correlation(&scores, &human)
    }

    /// Returns the mean over the sets with a defined correlation; the bootstrap draws their prompts.
    fn mean_within(&self, within: &[Option<f64>], bootstrap: &Bootstrap) -> Result<Option<Estimate>> {
        let defined = self.sets.iter().zip(within).filter_map(|(set, value)| Some((*set, (*value)?)));
        let (sets, values): (Vec<&AnswerSet>, Vec<f64>) = defined.unzip();
        match values.is_empty() {
            true => Ok(None),
            false => bootstrap.estimate(&by_prompt(sets), mean_of(&values)),
        }
    }

    /// Returns the difference of the means over the sets where both models' correlations are defined.
    fn difference_within(
        &self,
        first: &[Option<f64>],
        second: &[Option<f64>],
        bootstrap: &Bootstrap,
    ) -> Result<Option<Difference>> {
        let both = first.iter().zip(second).map(|(first, second)| first.zip(*second));
        let both = self.sets.iter().zip(both).filter_map(|(set, both)| Some((*set, both?)));
        let (sets, both): (Vec<&AnswerSet>, Vec<(f64, f64)>) = both.unzip();
        let (first, second): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
        match first.is_empty() {
            true => Ok(None),
            false => bootstrap.difference(&by_prompt(sets), mean_of(&first), mean_of(&second)),
        }
    }
}

fn mean_of(values: &[f64]) -> impl Fn(&[usize]) -> Result<Option<f64>> + Sync {
    move |positions| Ok(Some(mean(&positions.iter().map(|at| values[*at]).collect::<Vec<_>>())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{close, golden, numbers};

    fn golden_sets() -> Vec<AnswerSet> {
        let set = |(at, set): (usize, &serde_json::Value)| AnswerSet {
            id: at.to_string(),
            subset: None,
            prompt: None,
            scores: numbers(&set["scores"]),
            lengths: Vec::new(),
            labels: Labels::Human(numbers(&set["human"])),
        };
        golden()["human"]["sets"].as_array().unwrap().iter().enumerate().map(set).collect()
    }

    /// Protects: pooled and mean correlations equal scipy's, and prompts with a constant side are excluded
    /// from the mean.
    #[test]
    fn agreement_equals_scipy() {
        let agreement = human_agreement(&golden_sets(), &Bootstrap::default()).unwrap().unwrap();
        let ours = serde_json::to_value(agreement).unwrap();
        for (pointer, expected) in golden()["human"]["expected"].as_object().unwrap() {
            let value = ours.pointer(pointer).and_then(serde_json::Value::as_f64).unwrap_or(f64::NAN);
            close(value, expected.as_f64().unwrap(), pointer);
        }
        let rho = agreement.pooled.spearman.unwrap();
        let interval = rho.interval.unwrap();
        assert!(interval.low() < rho.value && rho.value < interval.high(), "{rho:?}");
    }

    /// Protects: sets of one prompt are drawn together: repeating each adds no evidence.
    #[test]
    fn repeated_prompts_narrow_no_interval() {
        let named = |(at, set): (usize, AnswerSet)| AnswerSet { prompt: Some(at.to_string()), ..set };
        let once: Vec<AnswerSet> = golden_sets().into_iter().enumerate().map(named).collect();
        let twice: Vec<AnswerSet> = once.iter().flat_map(|set| [set.clone(), set.clone()]).collect();
        let interval = |sets: &[AnswerSet]| {
            let agreement = human_agreement(sets, &Bootstrap::default()).unwrap().unwrap();
            let within = agreement.per_prompt.spearman.unwrap().interval.unwrap();
            (within.low(), within.high())
        };
        let (one, two) = (interval(&once), interval(&twice));
        close(two.0, one.0, "low");
        close(two.1, one.1, "high");
    }

    /// Protects: the sign of a difference; right/wrong labels do not count as human scores.
    #[test]
    fn the_better_second_model_is_above_zero() {
        let first = golden_sets();
        let mut second = first.clone();
        for set in &mut second {
            set.scores = set.worth();
        }
        let difference = human_difference(&first, &second, &Bootstrap::default()).unwrap().unwrap();
        let pooled = difference.pooled_spearman.unwrap();
        let interval = pooled.difference.interval.unwrap();
        assert!(interval.low() > 0.0 && pooled.second > 0.999 && pooled.p < Some(0.05), "{pooled:?}");
        let correct =
            AnswerSet { labels: Labels::Correct(vec![true; first[0].scores.len()]), ..first[0].clone() };
        assert_eq!(human_agreement(&[correct], &Bootstrap::default()).unwrap(), None);
    }
}
