//! How well bounds predict wins on held-out prompts.

use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::draws::{Draws, Interval};
use super::logistic::{Sample, constant, log_likelihood};
use super::{Candidates, Observation};

/// Mean log-likelihoods of wins under σ(Δ*/2), in nats per pair; greater is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Under the curve fitted to the other folds.
    pub curve: f64,
    /// Under the constant fitted to the other folds.
    pub constant: f64,
    /// Under the bounds before calibration, without fitting.
    pub given: f64,
    /// Under ½ for every pair: −ln 2.
    pub coin: f64,
    /// Curve − constant.
    pub gain: Interval,
}

/// Fits to all folds but one and evaluates on that fold, for each fold.
///
/// # Errors
/// Fails if all prompts fall into one fold.
pub(super) fn measure(
    observations: &[Observation],
    candidates: &Candidates,
    draws: &Draws,
) -> Result<HeldOut> {
    let wins: Vec<f64> = observations.iter().map(|seen| seen.win).collect();
    let mut folds: Vec<usize> = observations.iter().map(|seen| seen.fold).collect();
    folds.sort_unstable();
    folds.dedup();
    if folds.len() < 2 {
        let message = "all pairs fall into one fold by their prompt; expected pairs of several prompts";
        return Err(Error::invalid("calibrated", message));
    }
    let mut likelihoods = vec![[0.0; 2]; observations.len()];
    for held_out in folds {
        let counts: Vec<f64> =
            observations.iter().map(|seen| f64::from(u8::from(seen.fold != held_out))).collect();
        let (best, curve) = candidates.best(&wins, &counts);
        let v = &candidates.v[best];
        let flat = constant(&Sample { v, wins: &wins, counts: &counts });
        for (at, seen) in observations.iter().enumerate().filter(|(_, seen)| seen.fold == held_out) {
            let of = |bound: f64| log_likelihood(bound / 2.0, seen.win);
            likelihoods[at] = [of(curve.at(v[at])), of(flat)];
        }
    }
    let pairs = observations.len() as f64;
    let mean = |of: &dyn Fn(usize) -> f64| (0..observations.len()).map(of).sum::<f64>() / pairs;
    let (curve, flat) = (mean(&|at| likelihoods[at][0]), mean(&|at| likelihoods[at][1]));
    let gains = draws.map(|counts| {
        let gain = |(k, [curve, flat]): (&f64, &[f64; 2])| k * (curve - flat);
        counts.iter().zip(&likelihoods).map(gain).sum::<f64>() / counts.iter().sum::<f64>()
    });
    Ok(HeldOut {
        curve,
        constant: flat,
        given: mean(&|at| log_likelihood(observations[at].given / 2.0, observations[at].win)),
        coin: -std::f64::consts::LN_2,
        gain: draws.interval(curve - flat, gains)?,
    })
}
