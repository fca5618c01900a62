//! The bootstrap over prompts: the variation of a statistic from one sample of prompts to the next.
//!
//! Answers to one prompt are not independent, so a draw takes whole prompts with all their values: as many
//! prompts as the data have, with replacement (B. Efron and R. Tibshirani, *An Introduction to the
//! Bootstrap*, 1993, ch. 13 and 15; A. C. Davison and D. V. Hinkley, 1997, §3.8 for clusters). Draw i uses
//! stream i of one seeded generator, so results depend on the seed alone and not on the number of threads.
//!
//! Too few draws ([`fewest_draws`]) or prompts ([`fewest_prompts`]) support neither an interval nor a
//! p-value: both are then absent. So are they if a statistic is undefined on a larger share of the draws than
//! lies beyond one end of the interval, (1 − level) / 2: the other draws alone would give too narrow an
//! interval.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::interval::{Interval, LEVEL, fewest_draws, fewest_prompts};

/// A statistic with its bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Value on the data.
    pub value: f64,
    /// Bootstrap interval; absent if the data do not support one, see [`Bootstrap::supports`], or if too many
    /// draws leave the statistic undefined.
    #[serde(flatten)]
    pub interval: Option<Interval>,
}

/// The difference of two models in one statistic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The first model's value.
    pub first: f64,
    /// The second model's value.
    pub second: f64,
    /// Second minus first, with its bootstrap interval.
    pub difference: Estimate,
    /// Two-sided bootstrap p-value of no difference; absent if the data do not support one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
}

/// The number of draws, their seed and the level of intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// The number of draws; 0 for no intervals and no p-values.
    pub resamples: usize,
    /// The seed of all draws.
    pub seed: u64,
    /// The confidence level of intervals.
    pub level: f64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 1000, seed: 0, level: LEVEL }
    }
}

/// The positions of values grouped by prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    members: Vec<Vec<usize>>,
}

impl Clusters {
    /// Groups values by the number of their prompt, in order of first appearance.
    pub fn of(prompts: &[usize]) -> Self {
        let mut places = std::collections::HashMap::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        for (at, prompt) in prompts.iter().enumerate() {
            let place = *places.entry(prompt).or_insert(members.len());
            if place == members.len() {
                members.push(Vec::new());
            }
            members[place].push(at);
        }
        Self { members }
    }

    /// Puts every value into a cluster of its own.
    pub fn alone(values: usize) -> Self {
        Self { members: (0..values).map(|at| vec![at]).collect() }
    }

    /// Returns the number of prompts.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns true if there are no prompts.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn draw(&self, seed: u64, number: usize) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number as u64);
        let mut drawn = Vec::with_capacity(self.members.len());
        for _ in 0..self.members.len() {
            drawn.extend_from_slice(&self.members[rng.random_range(0..self.members.len())]);
        }
        drawn
    }
}

impl Bootstrap {
    /// Returns true if `prompts` prompts and this number of draws are enough for intervals and p-values.
    pub fn supports(&self, prompts: usize) -> bool {
        self.resamples >= fewest_draws(self.level) && prompts >= fewest_prompts(self.level)
    }

    /// Computes a statistic with its percentile interval; `None` if it is undefined on the data. The closure
    /// gets the positions of the values. Draws whose statistic is undefined are skipped; there is no interval
    /// if they are more than [`Bootstrap::tolerates`].
    ///
    /// # Errors
    /// Fails if there are no prompts, or with the statistic's own error.
    pub fn estimate(
        &self,
        clusters: &Clusters,
        statistic: impl Fn(&[usize]) -> Result<Option<f64>> + Sync,
    ) -> Result<Option<Estimate>> {
        let Some(value) = statistic(&all(clusters)?)? else { return Ok(None) };
        let interval = Interval::of_draws(&self.draws(clusters, statistic)?, self.level)?;
        Ok(Some(Estimate { value, interval }))
    }

    /// Computes second − first of a statistic under paired draws: both models see the same prompts in every
    /// draw. The p-value is 2·min(#{d ≤ 0} + 1, #{d ≥ 0} + 1) / (draws + 1), limited to the range from 2^(1 −
    /// k) to 1: with k prompts, all differences have the same sign by chance with probability 2^(1 − k).
    ///
    /// # Errors
    /// Same as [`Bootstrap::estimate`].
    pub fn difference(
        &self,
        clusters: &Clusters,
        first: impl Fn(&[usize]) -> Result<Option<f64>> + Sync,
        second: impl Fn(&[usize]) -> Result<Option<f64>> + Sync,
    ) -> Result<Option<Difference>> {
        let all = all(clusters)?;
        let (Some(a), Some(b)) = (first(&all)?, second(&all)?) else { return Ok(None) };
        let draws = self.draws(clusters, |positions| {
            Ok(first(positions)?.zip(second(positions)?).map(|(first, second)| second - first))
        })?;
        // Two equal models can differ by rounding if their sums are formed in another order.
        let rounding = 1e-12 * a.abs().max(b.abs()).max(1.0);
        let count = |sign: f64| draws.iter().filter(|draw| sign * **draw <= rounding).count() + 1;
        let least = count(1.0).min(count(-1.0));
        let floor = 0.5_f64.powi(clusters.len().min(1000) as i32 - 1);
        let p = (2.0 * least as f64 / (draws.len() + 1) as f64).max(floor).min(1.0);
        Ok(Some(Difference {
            first: a,
            second: b,
            difference: Estimate { value: b - a, interval: Interval::of_draws(&draws, self.level)? },
            p: (draws.len() >= fewest_draws(self.level)).then_some(p),
        }))
    }

    /// Returns true if an interval is possible although its statistic is undefined on this many draws: if
    /// they are at most the share beyond one end of the interval, (1 − level) / 2.
    pub fn tolerates(&self, undefined: usize) -> bool {
        undefined as f64 <= (1.0 - self.level) / 2.0 * self.resamples as f64
    }

    /// Returns the number of draws that have a property; 0 if draws would not support an interval. The
    /// closure gets the positions of the values.
    pub fn count(&self, clusters: &Clusters, has: impl Fn(&[usize]) -> bool + Sync) -> usize {
        match self.supports(clusters.len()) {
            true => {
                let numbers = (0..self.resamples).into_par_iter();
                numbers.filter(|number| has(&clusters.draw(self.seed, *number))).count()
            }
            false => 0,
        }
    }

    /// Returns the statistic of every draw, if defined; empty if draws would not support an interval.
    fn draws(
        &self,
        clusters: &Clusters,
        statistic: impl Fn(&[usize]) -> Result<Option<f64>> + Sync,
    ) -> Result<Vec<f64>> {
        if !self.supports(clusters.len()) {
            return Ok(Vec::new());
        }
        let draws: Result<Vec<Option<f64>>> = (0..self.resamples)
            .into_par_iter()
            .map(|number| statistic(&clusters.draw(self.seed, number)))
            .collect();
        let draws = draws?;
        let defined: Vec<f64> = draws.iter().flatten().copied().collect();
        Ok(if self.tolerates(draws.len() - defined.len()) { defined } else { Vec::new() })
    }
}

/// Returns the positions of all values, prompt by prompt.
fn all(clusters: &Clusters) -> Result<Vec<usize>> {
    let all: Vec<usize> = clusters.members.iter().flatten().copied().collect();
    if all.is_empty() { Err(Error::Empty { what: "prompts of the bootstrap" }) } else { Ok(all) }
}

#[cfg(test)]
mod tests;
