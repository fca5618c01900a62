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
    /// gets the positions of the values. Draws on which the statistic is undefined are skipped; there is no
    /// interval if they are more than [`Bootstrap::tolerates`].
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

    /// Returns the statistic of every draw on which it is defined; empty if draws would not support an
    /// interval.
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
mod tests {
    use super::*;
    use crate::interval::Method;
    use crate::quantiles::mean;

    fn mean_of(values: &[f64]) -> impl Fn(&[usize]) -> Result<Option<f64>> + Sync {
        move |positions| Ok(Some(mean(&positions.iter().map(|at| values[*at]).collect::<Vec<_>>())))
    }

    /// Protects: the interval of a mean is mean ± 1.96 σ/√n as in theory, within the error of 4000 draws.
    #[test]
    fn the_interval_of_a_mean_is_that_of_theory() {
        let values: Vec<f64> = (0..400).map(|at| f64::from(at % 20)).collect();
        let bootstrap = Bootstrap { resamples: 4000, ..Bootstrap::default() };
        let estimate = bootstrap.estimate(&Clusters::alone(400), mean_of(&values)).unwrap().unwrap();
        // The variance of 0..19 is (20² − 1) / 12 = 33.25, so σ/√n is 5.7663 / 20 = 0.2883.
        let half = 1.96 * 33.25_f64.sqrt() / 20.0;
        assert_eq!(estimate.value, 9.5);
        let interval = estimate.interval.unwrap();
        assert!((interval.low() - (9.5 - half)).abs() < 0.03, "{estimate:?}");
        assert!((interval.high() - (9.5 + half)).abs() < 0.03, "{estimate:?}");
        assert_eq!((interval.method(), interval.n()), (Method::Bootstrap, 4000));
    }

    /// Protects: values of one prompt are drawn together: ten copies of each add no information.
    #[test]
    fn prompts_are_drawn_whole() {
        let values: Vec<f64> = (0..400).map(|at| f64::from(at / 10 % 8)).collect();
        let prompts: Vec<usize> = (0..400).map(|at| at / 10).collect();
        let width = |clusters: &Clusters| {
            let estimate = Bootstrap::default().estimate(clusters, mean_of(&values)).unwrap().unwrap();
            let interval = estimate.interval.unwrap();
            interval.high() - interval.low()
        };
        let ratio = width(&Clusters::of(&prompts)) / width(&Clusters::alone(400));
        // The theoretical ratio is √10.
        assert!((2.7..3.7).contains(&ratio), "{ratio}");
        assert_eq!(Clusters::of(&[5, 3, 5]).members, [vec![0, 2], vec![1]]);
    }

    /// Protects: results depend on the seed and not on threads.
    #[test]
    fn the_seed_decides() {
        let values: Vec<f64> = (0..50).map(|at| (f64::from(at) * 1.7).sin()).collect();
        let run = |seed, threads| {
            let bootstrap = Bootstrap { seed, ..Bootstrap::default() };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bootstrap.estimate(&Clusters::alone(50), mean_of(&values)).unwrap().unwrap())
        };
        assert_eq!(run(3, 1), run(3, 4));
        assert_ne!(run(3, 1), run(4, 1));
    }

    /// Protects: a paired difference cancels the variation that both models share. A constant difference has
    /// a p-value and no interval, since the draws have no spread.
    #[test]
    fn paired_draws_cancel_what_both_share() {
        let noise: Vec<f64> = (0..60).map(|at| 100.0 * (f64::from(at) * 2.3).sin()).collect();
        let better: Vec<f64> =
            noise.iter().enumerate().map(|(at, value)| value + 0.4 + 0.01 * (at % 21) as f64).collect();
        let between = |second: &[f64]| {
            let all = Clusters::alone(60);
            Bootstrap::default().difference(&all, mean_of(&noise), mean_of(second)).unwrap().unwrap()
        };
        let found = between(&better);
        let interval = found.difference.interval.unwrap();
        assert!(interval.low() > 0.45 && interval.high() < 0.55, "{found:?}");
        // No draw is at most 0: 2 (0 + 1) / 1001.
        assert_eq!(found.p, Some(2.0 / 1001.0));
        let constant = between(&noise.iter().map(|value| value + 0.5).collect::<Vec<_>>());
        assert_eq!((constant.difference.interval, constant.p), (None, Some(2.0 / 1001.0)));
        let same = between(&noise);
        assert_eq!((same.difference.interval, same.p), (None, Some(1.0)));
    }

    /// Protects: too few draws or prompts give neither an interval (not even one of width zero) nor a
    /// p-value, and p never falls below the limit for the number of prompts.
    #[test]
    fn too_few_draws_or_prompts_show_nothing() {
        let values: Vec<f64> = (0..60).map(|at| 1.0 + (f64::from(at) * 2.3).sin()).collect();
        let zeros = vec![0.0; 60];
        for resamples in [0, 1, 2, 38, 39, 1000] {
            for prompts in [1, 2, 5, 6, 7, 60] {
                let bootstrap = Bootstrap { resamples, ..Bootstrap::default() };
                let all = Clusters::alone(prompts);
                let found = bootstrap.difference(&all, mean_of(&zeros), mean_of(&values)).unwrap().unwrap();
                let estimate = bootstrap.estimate(&all, mean_of(&values)).unwrap().unwrap();
                assert_eq!(found.difference.value, estimate.value);
                let expected = resamples >= 39 && prompts >= 6;
                let what = format!("{resamples} draws of {prompts} prompts: {found:?}, {estimate:?}");
                assert_eq!(bootstrap.supports(prompts), expected, "{what}");
                assert_eq!(found.p.is_some(), expected, "{what}");
                for interval in [found.difference.interval, estimate.interval] {
                    assert_eq!(interval.is_some(), expected, "{what}");
                    assert!(interval.is_none_or(|interval| interval.low() < interval.high()), "{what}");
                }
                assert!(found.p.is_none_or(|p| p >= 0.5_f64.powi(prompts as i32 - 1)), "{what}");
            }
        }
    }

    /// Protects: an undefined statistic stays undefined, and the bootstrap refuses data without prompts.
    #[test]
    fn undefined_statistics_have_no_interval() {
        assert_eq!(Bootstrap::default().estimate(&Clusters::alone(3), |_| Ok(None)).unwrap(), None);
        assert!(Bootstrap::default().estimate(&Clusters::alone(0), |_| Ok(Some(1.0))).is_err());
    }

    /// Protects: a statistic that is undefined on more draws than lie beyond one end of its interval has
    /// neither an interval nor a p-value; a few such draws are skipped.
    #[test]
    fn statistics_undefined_on_many_draws_have_no_interval() {
        let values: Vec<f64> = (0..40).map(|at| 1.0 + (f64::from(at) * 2.3).sin()).collect();
        let (bootstrap, all) = (Bootstrap::default(), Clusters::alone(40));
        // A draw lacks all of the first `needed` prompts with probability (1 − needed / 40)^40.
        for (needed, is_shown) in [(2, false), (5, true)] {
            let lacks = |positions: &[usize]| !positions.iter().any(|at| *at < needed);
            let of = |positions: &[usize]| match lacks(positions) {
                true => Ok(None),
                false => mean_of(&values)(positions),
            };
            let undefined = bootstrap.count(&all, lacks);
            assert!(undefined > 0 || is_shown, "{needed}");
            assert_eq!(bootstrap.tolerates(undefined), is_shown, "{undefined}");
            let estimate = bootstrap.estimate(&all, of).unwrap().unwrap();
            assert_eq!(estimate.interval.is_some(), is_shown, "{estimate:?}");
            assert_eq!(estimate.interval.map(|found| found.n()), is_shown.then_some(1000 - undefined));
            let found = bootstrap.difference(&all, |_| Ok(Some(0.0)), of).unwrap().unwrap();
            assert_eq!((found.difference.interval.is_some(), found.p.is_some()), (is_shown, is_shown));
        }
        assert!(bootstrap.tolerates(25) && !bootstrap.tolerates(26));
    }
}
