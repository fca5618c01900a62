//! The bootstrap over prompts: draws of as many prompts as there are, with replacement, all pairs of a prompt together.
//!
//! (B. Efron and R. Tibshirani, *An Introduction to the Bootstrap*, 1993, ch. 13.) Draw number i is made by stream i of
//! one seeded generator: results depend on the seed alone and not on threads.

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
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Which pairs belong to which prompt, and how draws are made.
#[derive(Debug)]
pub struct Draws {
    members: Vec<Vec<usize>>,
    pairs: usize,
    number: usize,
    seed: u64,
    level: f64,
}

impl Draws {
    /// `number` draws of pairs whose prompts have these numbers, from 0 on; `level` is the intervals'.
    pub fn new(prompts: &[usize], number: usize, seed: u64, level: f64) -> Self {
        let mut members = vec![Vec::new(); prompts.iter().max().map_or(0, |most| most + 1)];
        prompts.iter().enumerate().for_each(|(at, prompt)| members[*prompt].push(at));
        Self { members, pairs: prompts.len(), number, seed, level }
    }

    /// How many prompts.
    pub fn prompts(&self) -> usize {
        self.members.len()
    }

    /// A statistic of every draw, given how often each pair counts in it.
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

    /// The interval between the two quantiles of these draws that leave out 1 − level (linear between order
    /// statistics).
    ///
    /// # Errors
    /// A statistic that is not a number.
    pub fn interval(&self, value: f64, mut drawn: Vec<f64>) -> Result<Interval> {
        if let Some(other) = drawn.iter().find(|drawn| drawn.is_nan()) {
            return Err(Error::invalid("bootstrap", format!("a draw gave {other}, expected a number")));
        }
        drawn.sort_unstable_by(f64::total_cmp);
        let quantile = |q: f64| match drawn.len() {
            0 => value,
            count => {
                let place = q * (count - 1) as f64;
                let (below, above) = (drawn[place.floor() as usize], drawn[place.ceil() as usize]);
                below + (above - below) * place.fract()
            }
        };
        let tail = (1.0 - self.level) / 2.0;
        Ok(Interval { value, low: quantile(tail), high: quantile(1.0 - tail) })
    }
}
