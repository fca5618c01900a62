//! Calibration of bounds: finds the Δ*(s) that agrees with measured win rates at similarity s.
//!
//! The loss of a pair is smallest at Δ = Δ*/2 (arXiv 2404.00978, §4.1), so a bound states P(y_w ≻ y_l) =
//! σ(Δ*/2). Judges that were not trained on a pair measure how often its preferred answer wins;
//! [`Calibration::of`] finds the map Δ*(s) = β1/(s + β2) + β3 of the paper that maximises the likelihood of
//! those wins, and whether it is useful.
//!
//! [`logistic`] fits, [`draws`] resamples prompts, [`held_out`] evaluates on held-out prompts, [`bins`]
//! groups pairs for display.

pub mod bins;
pub mod draws;
pub mod held_out;
pub mod logistic;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::HashMap;

use pcrm_core::constraint::PairView;
use pcrm_core::data::prompt_id::PromptId;
use pcrm_core::folds::fold;
use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use self::bins::Bin;
use self::draws::{Draws, Interval};
use self::held_out::HeldOut;
use self::logistic::{LEAST, LinearBound, Sample, constant, sigmoid};
pub use self::verdict::Conclusion;

/// The number of points of the band over s in \[0, 1\], ends included.
const GRID: usize = 101;

/// A pair as evidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// The similarity of its answers.
    pub s: f64,
    /// The share of judges that prefer the preferred answer.
    pub win: f64,
    /// Δ* before calibration, for comparison.
    pub given: f64,
    /// The index of its prompt.
    pub prompt: usize,
    /// The fold of its prompt.
    pub fold: usize,
}

/// The source of β2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Beta2 {
    /// A given value.
    Given(f64),
    /// The value of [`BETA2`] with the greatest likelihood of the wins. Intervals of the other two numbers
    /// treat β2 as known; held-out folds take no part in the choice.
    Fitted,
}

/// The candidates for β2: from the paper's, with a steep rise near s = 0, to one that makes Δ* nearly linear.
pub const BETA2: [f64; 6] = [0.001, 0.01, 0.03, 0.1, 0.3, 1.0];

/// The settings of a calibration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The source of β2.
    pub beta2: Beta2,
    /// The number of bootstrap draws.
    pub bootstrap: usize,
    /// The confidence level of intervals.
    pub level: f64,
    /// The seed of the draws.
    pub seed: u64,
}

/// The evidence about Δ*(s).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The number of pairs.
    pub pairs: usize,
    /// The number of prompts.
    pub prompts: usize,
    /// β2, given or fitted.
    pub beta2: f64,
    /// The confidence level of intervals.
    pub level: f64,
    /// The share of pairs whose preferred answer wins.
    pub mean_win: Interval,
    /// β1 fitted with any sign.
    pub slope: Interval,
    /// β1 ≥ 0 of the curve.
    pub beta1: f64,
    /// Δ*(1) > 0 of the curve.
    pub end: f64,
    /// The single bound for all pairs.
    pub constant: f64,
    /// Log-likelihoods on held-out prompts.
    pub held_out: HeldOut,
    /// σ(Δ*(s)/2) of the curve with its interval, for s from 0 to 1.
    pub band: Vec<CurvePoint>,
    /// Pairs by similarity.
    pub bins: Vec<Bin>,
    /// The conclusion.
    pub verdict: Conclusion,
}

/// A probability at a similarity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The similarity.
    pub s: f64,
    /// The probability.
    #[serde(flatten)]
    pub p: Interval,
}

/// Builds the evidence of pairs; `similarities`, `wins` and `given` bounds have one number per pair.
///
/// # Errors
/// Fails with the pair's position if a similarity or a share of wins is outside \[0, 1\].
pub fn observations(
    pairs: &[PairView<'_>],
    similarities: &[f32],
    wins: &[f32],
    given: &[f32],
    folds: usize,
) -> Result<Vec<Observation>> {
    let share = |what: &str, at: usize, value: f32| {
        let value = f64::from(value);
        match (0.0..=1.0).contains(&value) {
            true => Ok(value),
            false => Err(Error::invalid(what, format!("pair {at}: found {value}, expected 0 to 1"))),
        }
    };
    for (what, numbers) in
        [("wins", wins.len()), ("similarities", similarities.len()), ("bounds", given.len())]
    {
        if numbers != pairs.len() {
            return Err(Error::invalid(what, format!("found {numbers} for {} pairs", pairs.len())));
        }
    }
    let mut prompts: HashMap<PromptId, usize> = HashMap::new();
    let mut observations = Vec::with_capacity(pairs.len());
    for (at, pair) in pairs.iter().enumerate() {
        let next = prompts.len();
        observations.push(Observation {
            s: share("similarity", at, similarities[at])?,
            win: share("wins", at, wins[at])?,
            given: f64::from(given[at]),
            prompt: *prompts.entry(pair.prompt_id).or_insert(next),
            fold: fold(pair.prompt_id, folds),
        });
    }
    Ok(observations)
}

impl Calibration {
    /// Calibrates the map against these observations.
    ///
    /// # Errors
    /// Fails without observations, and if all prompts fall into one fold.
    pub fn of(observations: &[Observation], settings: &Settings) -> Result<Self> {
        if observations.is_empty() {
            return Err(Error::invalid("calibrated", "there are no pairs to fit to"));
        }
        let wins: Vec<f64> = observations.iter().map(|seen| seen.win).collect();
        let prompts: Vec<usize> = observations.iter().map(|seen| seen.prompt).collect();
        let draws = Draws::new(&prompts, settings.bootstrap, settings.seed, settings.level);
        let once = vec![1.0; observations.len()];
        let candidates = Candidates::new(observations, settings.beta2);
        let (best, _) = candidates.best(&wins, &once);
        let (beta2, v) = (candidates.beta2[best], &candidates.v[best]);
        let fitted = |counts: &[f64]| {
            let sample = Sample { v, wins: &wins, counts };
            let free = LinearBound::free(&sample);
            (free, LinearBound::bounded(&sample, free), sample.mean_win())
        };
        let (free, curve, mean) = fitted(&once);
        let drawn = draws.map(fitted);
        let slopes = drawn.iter().map(|(free, ..)| free.slope).collect();
        let means = drawn.iter().map(|(.., mean)| *mean).collect();
        let (slope, mean_win) = (draws.interval(free.slope, slopes)?, draws.interval(mean, means)?);
        let held_out = held_out::measure(observations, &candidates, &draws)?;
        let band = |at: usize| {
            let s = at as f64 / (GRID - 1) as f64;
            let p = |line: &LinearBound| sigmoid(line.at(abscissa(s, beta2)) / 2.0);
            let drawn = drawn.iter().map(|(_, curve, _)| p(curve)).collect();
            Ok(CurvePoint { s, p: draws.interval(p(&curve), drawn)? })
        };
        let band = (0..GRID).map(band).collect::<Result<_>>()?;
        let verdict = match (slope, &held_out) {
            _ if mean <= 0.5 => Conclusion::Chance,
            (slope, _) if slope.is_below(0.0) => Conclusion::Reversed,
            (slope, _) if !slope.is_above(0.0) => Conclusion::Flat,
            (_, held_out) if held_out.curve <= held_out.constant => Conclusion::NoGain,
            _ => Conclusion::Informative,
        };
        let constant = constant(&Sample { v, wins: &wins, counts: &once }).max(LEAST);
        let bound = |s: f64| match verdict {
            Conclusion::Informative => curve.at(abscissa(s, beta2)),
            _ => constant,
        };
        Ok(Self {
            pairs: observations.len(),
            prompts: draws.prompts(),
            beta2,
            level: settings.level,
            mean_win,
            slope,
            beta1: curve.slope,
            end: curve.end,
            constant,
            held_out,
            band,
            bins: bins::bins(observations, bound),
            verdict,
        })
    }

    /// Returns β3 of the curve: Δ*(1) − β1/(1 + β2).
    pub fn beta3(&self) -> f64 {
        self.end - self.beta1 / (1.0 + self.beta2)
    }
}

/// The candidates for β2, and v of every pair under each.
#[derive(Debug)]
struct Candidates {
    beta2: Vec<f64>,
    v: Vec<Vec<f64>>,
}

impl Candidates {
    fn new(observations: &[Observation], beta2: Beta2) -> Self {
        let beta2 = match beta2 {
            Beta2::Given(beta2) => vec![beta2],
            Beta2::Fitted => BETA2.to_vec(),
        };
        let v = |beta2: &f64| observations.iter().map(|seen| abscissa(seen.s, *beta2)).collect();
        Self { v: beta2.iter().map(v).collect(), beta2 }
    }

    /// Returns the index of the β2 with the greatest likelihood, and its curve; the first if several are
    /// equal.
    fn best(&self, wins: &[f64], counts: &[f64]) -> (usize, LinearBound) {
        let curve = |v: &Vec<f64>| {
            let sample = Sample { v, wins, counts };
            let line = LinearBound::bounded(&sample, LinearBound::free(&sample));
            (line, line.likelihood(&sample))
        };
        let mut best = (0, curve(&self.v[0]));
        for (at, v) in self.v.iter().enumerate().skip(1) {
            let other = curve(v);
            if other.1 > best.1.1 {
                best = (at, other);
            }
        }
        (best.0, best.1.0)
    }
}

/// Computes σ(Δ*/2), the confidence in a pair that a bound states.
pub fn bound_probability(bound: f64) -> f64 {
    sigmoid(bound / 2.0)
}

/// Computes v(s) = 1/(s + β2) − 1/(1 + β2), so that Δ*(s) = β1·v + Δ*(1).
fn abscissa(s: f64, beta2: f64) -> f64 {
    1.0 / (s + beta2) - 1.0 / (1.0 + beta2)
}
