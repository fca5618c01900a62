//! Several scored answers to one prompt: the pairs they form, and best-of-n accuracy.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::accuracy::{LEVEL, Share};
use crate::bootstrap::Clusters;
use crate::error::{Error, Result, check_finite, check_lengths};
use crate::quantiles::mean;

/// Labels of the answers of a set.
#[derive(Debug, Clone, PartialEq)]
pub enum Labels {
    /// Right (`true`) or wrong, per answer.
    Correct(Vec<bool>),
    /// Human score per answer; higher is better.
    Human(Vec<f64>),
}

/// The answers to one prompt with a model's scores.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerSet {
    /// Name of the set in the data, shown in errors.
    pub id: String,
    /// Subset of the prompt, if any.
    pub subset: Option<String>,
    /// The prompt's text, if known. Sets with equal prompts are drawn together in the bootstrap.
    pub prompt: Option<String>,
    /// The model's scores.
    pub scores: Vec<f64>,
    /// Lengths of the answers; empty if unknown.
    pub lengths: Vec<usize>,
    /// Labels of the answers.
    pub labels: Labels,
}

/// Groups sets by their prompts; a set without a prompt is alone.
pub(crate) fn by_prompt<'a>(sets: impl IntoIterator<Item = &'a AnswerSet>) -> Clusters {
    let mut numbers = HashMap::new();
    let number = |(at, set): (usize, &'a AnswerSet)| match &set.prompt {
        Some(prompt) => *numbers.entry(prompt).or_insert(at),
        None => at,
    };
    Clusters::of(&sets.into_iter().enumerate().map(number).collect::<Vec<_>>())
}

impl AnswerSet {
    /// Refuses a set that cannot be measured.
    ///
    /// # Errors
    /// Fails if there are no scores, if a score or label is not finite, or if the numbers of scores, labels
    /// and lengths differ.
    pub fn check(&self) -> Result<()> {
        let at = |error: Error| Error::Set { id: self.id.clone(), cause: Box::new(error) };
        check_finite("score of answer", &self.scores).map_err(at)?;
        let labels = match &self.labels {
            Labels::Correct(correct) => correct.len(),
            Labels::Human(human) => {
                check_finite("human score of answer", human).map_err(at)?;
                human.len()
            }
        };
        check_lengths("answers and their labels", self.scores.len(), labels).map_err(at)?;
        if !self.lengths.is_empty() {
            check_lengths("answers and their lengths", self.scores.len(), self.lengths.len()).map_err(at)?;
        }
        Ok(())
    }

    /// Returns the value of each answer by its labels; higher is better.
    pub fn worth(&self) -> Vec<f64> {
        match &self.labels {
            Labels::Correct(correct) => correct.iter().map(|right| f64::from(u8::from(*right))).collect(),
            Labels::Human(human) => human.clone(),
        }
    }

    /// Returns (better, worse) for every two answers with different labels.
    pub fn pairs(&self) -> Vec<(usize, usize)> {
        let worth = self.worth();
        let places = 0..worth.len();
        let ordered = |a: usize, b: usize| match worth[a].partial_cmp(&worth[b]) {
            Some(std::cmp::Ordering::Greater) => Some((a, b)),
            Some(std::cmp::Ordering::Less) => Some((b, a)),
            _ => None,
        };
        places.clone().flat_map(|a| (a + 1..places.end).filter_map(move |b| ordered(a, b))).collect()
    }

    /// Returns 1 if the answer with the highest score is a best one, else 0; if several answers share the
    /// highest score, the fraction of them that are best.
    pub fn best_found(&self) -> f64 {
        let worth = self.worth();
        let best = largest(&worth);
        let highest = largest(&self.scores);
        let top: Vec<usize> = (0..worth.len()).filter(|at| self.scores[*at] == highest).collect();
        top.iter().filter(|at| worth[**at] == best).count() as f64 / top.len() as f64
    }

    fn share_of_best(&self) -> f64 {
        let worth = self.worth();
        let best = largest(&worth);
        worth.iter().filter(|value| **value == best).count() as f64 / worth.len() as f64
    }
}

/// Best-of-n accuracy of a model over several prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestOfN {
    /// Number of prompts whose answers have different labels.
    pub prompts: usize,
    /// Mean number of answers per prompt.
    pub answers: f64,
    /// Share of prompts whose highest-scored answer is a best one, with its Wilson interval. Answers tied for
    /// the highest score count by the fraction of them that are best.
    pub accuracy: Share,
    /// Accuracy of a random choice.
    pub chance: f64,
    /// Mean human scores; absent if answers are only labelled right or wrong.
    pub worth: Option<PickedWorth>,
}

/// Mean human scores over prompts, for three ways to pick an answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PickedWorth {
    /// Score of the answer with the highest model score (the mean over ties).
    pub picked: f64,
    /// Score of a random answer.
    pub random: f64,
    /// Score of the best answer.
    pub best: f64,
}

/// Returns the best-of-n accuracy over the sets whose answers have different labels; `None` if there are
/// none.
///
/// # Errors
/// Same as [`AnswerSet::check`].
pub fn best_of_n(sets: &[AnswerSet]) -> Result<Option<BestOfN>> {
    sets.iter().try_for_each(AnswerSet::check)?;
    let decided: Vec<&AnswerSet> = sets.iter().filter(|set| set.share_of_best() < 1.0).collect();
    if decided.is_empty() {
        return Ok(None);
    }
    let over = |of: fn(&AnswerSet) -> f64| decided.iter().map(|set| of(set)).collect::<Vec<f64>>();
    let human = decided.iter().all(|set| matches!(set.labels, Labels::Human(_)));
    Ok(Some(BestOfN {
        prompts: decided.len(),
        answers: mean(&over(|set| set.scores.len() as f64)),
        accuracy: Share::wilson(over(AnswerSet::best_found).iter().sum(), decided.len(), LEVEL)?,
        chance: mean(&over(AnswerSet::share_of_best)),
        worth: human.then(|| PickedWorth {
            picked: mean(&over(picked_worth)),
            random: mean(&over(|set| mean(&set.worth()))),
            best: mean(&over(|set| largest(&set.worth()))),
        }),
    }))
}

fn picked_worth(set: &AnswerSet) -> f64 {
    let highest = largest(&set.scores);
    let scored = set.scores.iter().zip(set.worth());
    mean(&scored.filter(|(score, _)| **score == highest).map(|(_, worth)| worth).collect::<Vec<_>>())
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(scores: &[f64], human: &[f64]) -> AnswerSet {
        AnswerSet {
            id: "p".to_owned(),
            subset: None,
            prompt: None,
            scores: scores.to_vec(),
            lengths: Vec::new(),
            labels: Labels::Human(human.to_vec()),
        }
    }

    /// Protects: answers with different labels form a pair, the better one first.
    #[test]
    fn pairs_are_those_that_labels_tell_apart() {
        assert_eq!(set(&[0.0; 4], &[2.0, 3.0, 2.0, 1.0]).pairs(), [(1, 0), (0, 3), (1, 2), (1, 3), (2, 3)]);
        let correct = AnswerSet { labels: Labels::Correct(vec![true, false, false]), ..set(&[0.0; 3], &[]) };
        assert_eq!(correct.pairs(), [(0, 1), (0, 2)]);
    }

    /// Protects: three prompts computed by hand; a prompt with equal labels is left out.
    #[test]
    fn best_of_n_by_hand() {
        let sets = [
            set(&[2.0, 1.0, 0.0], &[5.0, 4.0, 1.0]), // found: 1; picked 5, mean 10/3, best 5; chance 1/3
            set(&[2.0, 2.0, 0.0], &[5.0, 4.0, 1.0]), // one of two is best: 1/2; picked 4.5
            set(&[0.0, 1.0], &[3.0, 3.0]),           // equal labels: left out
            set(&[0.0, 1.0], &[3.0, 1.0]),           // not found: 0; picked 1, mean 2, best 3; chance 1/2
        ];
        let best = best_of_n(&sets).unwrap().unwrap();
        assert_eq!((best.prompts, best.accuracy.value, best.answers), (3, 0.5, 8.0 / 3.0));
        assert!((best.chance - (1.0 / 3.0 + 1.0 / 3.0 + 0.5) / 3.0).abs() < 1e-15);
        let worth = best.worth.unwrap();
        assert_eq!((worth.picked, worth.best), (10.5 / 3.0, 13.0 / 3.0));
        assert!((worth.random - (10.0 / 3.0 + 10.0 / 3.0 + 2.0) / 3.0).abs() < 1e-15);
        assert_eq!(best_of_n(&sets[2..3]).unwrap(), None);
    }

    /// Protects: errors name the invalid set.
    #[test]
    fn bad_sets_are_named() {
        let error = set(&[1.0, f64::NAN], &[1.0, 2.0]).check().unwrap_err().to_string();
        assert_eq!(error, "p: score of answer 1: found NaN, expected a finite number");
        let error = set(&[1.0], &[1.0, 2.0]).check().unwrap_err().to_string();
        assert_eq!(error, "p: answers and their labels: 1 values against 2; expected equal numbers");
    }
}
