//! The bootstrap over prompts: as many prompts as in the data are drawn with replacement, each with all its
//! pairs.
//!
//! (B. Efron and R. Tibshirani, *An Introduction to the Bootstrap*, 1993, ch. 13.) Draw number i uses stream
//! i of one seeded generator: results depend on the seed alone and not on threads.

use pcrm_core::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// An estimate with its percentile interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// The ends of the interval; absent if the draws determine none: all are equal, or there are too few
    /// prompts.
    #[serde(flatten)]
    pub ends: Option<Ends>,
}

/// The ends of an interval and their origin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ends {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The confidence level.
    pub level: f64,
    /// The method of computation.
    pub method: Method,
    /// The number of draws.
    pub n: usize,
}

/// A method of computing an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Quantiles of bootstrap draws of prompts.
    Bootstrap,
}

impl Interval {
    /// Returns whether the whole interval is above `value`; false without an interval.
    pub fn is_above(&self, value: f64) -> bool {
        self.ends.is_some_and(|ends| ends.low > value)
    }

    /// Returns whether the whole interval is below `value`; false without an interval.
    pub fn is_below(&self, value: f64) -> bool {
        self.ends.is_some_and(|ends| ends.high < value)
    }
}

/// The pairs of each prompt and the settings of the draws.
#[derive(Debug)]
pub struct Draws {
    members: Vec<Vec<usize>>,
    pairs: usize,
    number: usize,
    seed: u64,
    level: f64,
}

impl Draws {
    /// Prepares `number` draws of pairs, given each pair's prompt as a number from 0; `level` is the
    /// confidence level of intervals.
    pub fn new(prompts: &[usize], number: usize, seed: u64, level: f64) -> Self {
        let mut members = vec![Vec::new(); prompts.iter().max().map_or(0, |most| most + 1)];
        prompts.iter().enumerate().for_each(|(at, prompt)| members[*prompt].push(at));
        Self { members, pairs: prompts.len(), number, seed, level }
    }

    /// Returns the number of prompts.
    pub fn prompts(&self) -> usize {
        self.members.len()
    }

    /// Computes a statistic of every draw, given each pair's count in it.
    pub fn map<T: Send>(&self, statistic: impl Fn(&[f64]) -> T + Sync) -> Vec<T> {
        (0..self.number).into_par_iter().map(|number| statistic(&self.counts(number))).collect()
    }

    fn counts(&self, number: usize) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(number as u64);
        let mut counts = vec![0.0; self.pairs];
        for _ in 0..self.members.len() {
            for at in &self.members[rng.random_range(0..self.members.len())] {
                counts[*at] += 1.0;
            }
        }
        counts
    }

    /// Returns the interval between the two quantiles of these draws that leave out 1 − level (linear between
    /// order statistics). There is none with fewer than 2/(1 − level) − 1 draws, with so few prompts that all
    /// of them agree by chance more often than 1 − level, and if all draws are equal.
    ///
    /// # Errors
    /// Fails if a draw is NaN.
    pub fn interval(&self, value: f64, mut drawn: Vec<f64>) -> Result<Interval> {
        if let Some(other) = drawn.iter().find(|drawn| drawn.is_nan()) {
            return Err(Error::invalid("bootstrap", format!("a draw gave {other}, expected a number")));
        }
        drawn.sort_unstable_by(f64::total_cmp);
        let enough = drawn.len() + 1 >= (2.0 / (1.0 - self.level)).round() as usize
            && 0.5_f64.powi(self.prompts().clamp(1, 1000) as i32 - 1) <= 1.0 - self.level + 1e-12;
        let (Some(least), Some(most), true) = (drawn.first(), drawn.last(), enough) else {
            return Ok(Interval { value, ends: None });
        };
        // Equal sums in another order differ by rounding.
        if most - least <= 1e-12 * least.abs().max(most.abs()).max(1.0) {
            return Ok(Interval { value, ends: None });
        }
        let quantile = |q: f64| {
            let place = q * (drawn.len() - 1) as f64;
            let (below, above) = (drawn[place.floor() as usize], drawn[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        let tail = (1.0 - self.level) / 2.0;
        let ends = Ends {
            low: quantile(tail),
            high: quantile(1.0 - tail),
            level: self.level,
            method: Method::Bootstrap,
            n: drawn.len(),
        };
        Ok(Interval { value, ends: Some(ends) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: too few draws or prompts, and equal draws, give no interval rather than one of zero width.
    #[test]
    fn what_draws_cannot_show_has_no_interval() {
        let numbers = |count: usize| (0..count).map(|at| at as f64).collect::<Vec<_>>();
        for (prompts, drawn, expected) in [
            (20, numbers(1000), true),
            (6, numbers(39), true),
            (5, numbers(1000), false),
            (20, numbers(38), false),
            (20, Vec::new(), false),
            (20, vec![0.25; 1000], false),
        ] {
            let draws = Draws::new(&(0..prompts).collect::<Vec<_>>(), drawn.len(), 0, 0.95);
            let found = draws.interval(0.25, drawn).unwrap();
            assert_eq!(found.ends.is_some(), expected, "{prompts} prompts: {found:?}");
            assert!(expected || !found.is_above(0.0) && !found.is_below(1.0), "{found:?}");
        }
    }
}
