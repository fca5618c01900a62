//! Losses of margins after a temperature fitted on other prompts, which separates scale from order.
//!
//! A temperature T divides all margins by one number (C. Guo et al., *On Calibration of Modern Neural
//! Networks*, ICML 2017, §4.2): it changes a model's confidence, but no order. A difference between two
//! models that remains after each has its best temperature is a difference of order. The temperature of a
//! fold is fitted on the other folds, so that no pair is measured with a temperature fitted on its own
//! prompt.

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Clusters, Estimate};
use crate::error::{Result, check_finite, check_lengths};
use crate::measure::Measure;

/// The number of folds of prompts for cross-fitting.
pub const FOLDS: usize = 5;

/// Margins after cross-fitted temperatures.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossFitted {
    /// Temperature fitted on all pairs.
    pub temperature: f64,
    /// Margins, each divided by the temperature fitted on the other folds.
    pub margins: Vec<f64>,
}

/// The losses of margins after cross-fitted temperatures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scaled {
    /// Temperature fitted on all pairs; above 1 if the model is overconfident.
    pub temperature: f64,
    /// Log loss, in nats, with its bootstrap interval over prompts at the same temperatures.
    pub log_loss: Estimate,
    /// Brier score.
    pub brier: Estimate,
    /// Expected calibration error, 15 bins.
    pub ece: Estimate,
}

/// Returns the T > 0 that minimises mean −ln σ(Δ/T); `None` if there is no minimum: margins that favour every
/// chosen answer have no lower limit for T, and margins that do not favour the chosen answers have no upper
/// limit.
///
/// # Errors
/// Fails if there are no margins or a margin is not finite.
pub fn temperature(margins: &[f64]) -> Result<Option<f64>> {
    check_finite("margin of pair", margins)?;
    let sum: f64 = margins.iter().sum();
    if sum <= 0.0 || margins.iter().all(|margin| *margin >= 0.0) {
        return Ok(None);
    }
    // The slope of the loss in β = 1/T increases in β from a negative value to a positive one: bisect in ln
    // β.
    let slope =
        |beta: f64| -> f64 { margins.iter().map(|margin| -margin / (1.0 + (beta * margin).exp())).sum() };
    let (mut low, mut high) = (-700.0_f64, 700.0_f64);
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if slope(middle.exp()) < 0.0 { low = middle } else { high = middle }
    }
    Ok(Some((-f64::midpoint(low, high)).exp()))
}

/// Returns margins divided by temperatures fitted on other folds; `folds` has the fold of every pair. `None`
/// if one of these temperatures does not exist or all pairs are in one fold.
///
/// # Errors
/// Same as [`temperature`]; also fails if the numbers of folds and margins differ.
pub fn cross_fitted(margins: &[f64], folds: &[usize]) -> Result<Option<CrossFitted>> {
    check_lengths("margins and folds", margins.len(), folds.len())?;
    let Some(all) = temperature(margins)? else { return Ok(None) };
    let mut scaled = margins.to_vec();
    for fold in folds.iter().collect::<std::collections::BTreeSet<_>>() {
        let others: Vec<f64> =
            margins.iter().zip(folds).filter(|(_, of)| *of != fold).map(|(margin, _)| *margin).collect();
        if others.is_empty() {
            return Ok(None);
        }
        let Some(fitted) = temperature(&others)? else { return Ok(None) };
        for (margin, _) in scaled.iter_mut().zip(folds).filter(|(_, of)| *of == fold) {
            *margin /= fitted;
        }
    }
    Ok(Some(CrossFitted { temperature: all, margins: scaled }))
}

impl Scaled {
    /// Returns the losses after cross-fitted temperatures (see [`cross_fitted`]); `clusters` are the pairs by
    /// prompt.
    ///
    /// # Errors
    /// Same as [`cross_fitted`].
    pub fn of(
        margins: &[f64],
        folds: &[usize],
        clusters: &Clusters,
        bootstrap: &Bootstrap,
    ) -> Result<Option<Self>> {
        let Some(fitted) = cross_fitted(margins, folds)? else { return Ok(None) };
        let estimate = |measure: Measure| -> Result<Estimate> {
            let of = |positions: &[usize]| {
                measure.of(&positions.iter().map(|at| fitted.margins[*at]).collect::<Vec<_>>()).map(Some)
            };
            let drawn = bootstrap.estimate(clusters, of)?;
            Ok(drawn.unwrap_or(Estimate { value: measure.of(&fitted.margins)?, interval: None }))
        };
        Ok(Some(Self {
            temperature: fitted.temperature,
            log_loss: estimate(Measure::LogLoss)?,
            brier: estimate(Measure::Brier)?,
            ece: estimate(Measure::Ece)?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::golden::numbers;

    /// Protects: temperatures and the losses after them equal those of scipy's bounded minimiser, fold by
    /// fold (tests/golden/judging/make.py).
    #[test]
    fn temperatures_are_those_of_scipy() {
        let golden: Value =
            serde_json::from_str(include_str!("../../tests/golden/judging/expected.json")).unwrap();
        let cases = golden["temperature"].as_array().unwrap();
        assert_eq!(cases.len(), 2);
        for case in cases {
            let margins = numbers(&case["margins"]);
            let folds: Vec<usize> = numbers(&case["folds"]).into_iter().map(|fold| fold as usize).collect();
            let near = |ours: f64, name: &str, tolerance: f64| {
                let theirs = case[name].as_f64().unwrap();
                assert!((ours - theirs).abs() < tolerance, "{name}: {ours}, {theirs}");
            };
            let clusters = Clusters::alone(margins.len());
            let scaled = Scaled::of(&margins, &folds, &clusters, &Bootstrap::default()).unwrap().unwrap();
            near(scaled.temperature, "temperature", 1e-6);
            near(scaled.log_loss.value, "log_loss", 1e-9);
            near(scaled.brier.value, "brier", 1e-7);
            assert!(scaled.ece.interval.is_some());
            for (fold, theirs) in numbers(&case["temperatures"]).into_iter().enumerate() {
                let others: Vec<f64> = margins
                    .iter()
                    .zip(&folds)
                    .filter(|(_, of)| **of != fold)
                    .map(|(margin, _)| *margin)
                    .collect();
                assert!((temperature(&others).unwrap().unwrap() - theirs).abs() < 1e-6, "fold {fold}");
            }
        }
    }

    /// Protects: the scale of scores does not matter after a temperature, and margins without a temperature
    /// have no losses.
    #[test]
    fn scale_does_not_matter() {
        let margins: Vec<f64> = (0..60).map(|at| (f64::from(at) * 1.3).sin() + 0.3).collect();
        let folds: Vec<usize> = (0..60).map(|at| at % 5).collect();
        let large: Vec<f64> = margins.iter().map(|margin| margin * 40.0).collect();
        let [small, large] =
            [&margins, &large].map(|margins| cross_fitted(margins, &folds).unwrap().unwrap());
        assert!((large.temperature / small.temperature - 40.0).abs() < 1e-9);
        let apart = small.margins.iter().zip(&large.margins).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-9, "{apart}");
        assert_eq!(temperature(&[1.0, 2.0]).unwrap(), None);
        assert_eq!(temperature(&[-1.0, 0.5]).unwrap(), None);
        assert_eq!(cross_fitted(&margins, &[0; 60]).unwrap(), None);
        assert!(temperature(&[f64::NAN]).is_err() && cross_fitted(&margins, &[0]).is_err());
    }
}
