//! Summaries of the bounds that a constraint gives pairs.

use anyhow::Result;
use pcrm_core::data::survey::Tally;
use pcrm_core::data::survey::bounds::{Bounds, sureness};
use pcrm_eval::quantiles::quantiles;
use serde::Serialize;
use serde_json::Value;

/// A summary of a constraint's bounds on pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoundSummary {
    /// The constraint.
    pub constraint: Value,
    /// The number of pairs, without ties.
    pub pairs: usize,
    /// The number of pairs without a bound.
    pub unbounded: usize,
    /// Pairs whose bound never acts.
    pub loose: Tally,
    /// Pairs whose bound leaves almost nothing to learn.
    pub tight: Tally,
    /// Deciles of s, from the smallest to the largest; absent where the constraint has no s.
    pub similarity_deciles: Option<Vec<f64>>,
    /// Deciles of Δ*, in the same order; absent if no pair has a bound.
    pub bound_deciles: Option<Vec<f64>>,
    /// The model's largest confidence at each decile of Δ*: σ(Δ*/2).
    pub sureness_deciles: Option<Vec<f64>>,
}

impl BoundSummary {
    /// Summarises bounds; returns `None` if there are no pairs.
    ///
    /// # Errors
    /// Fails if a similarity is not finite.
    pub fn of(constraint: Value, bounds: &Bounds) -> Result<Option<Self>> {
        if bounds.pairs == 0 {
            return Ok(None);
        }
        let tenths: Vec<f64> = (0..=10).map(|tenth| f64::from(tenth) / 10.0).collect();
        let deciles = |values: &Vec<f64>| quantiles(values, &tenths);
        let bound_deciles = (!bounds.bounds.is_empty()).then(|| deciles(&bounds.bounds)).transpose()?;
        Ok(Some(Self {
            constraint,
            pairs: bounds.pairs,
            unbounded: bounds.unbounded,
            loose: bounds.loose.clone(),
            tight: bounds.tight.clone(),
            similarity_deciles: bounds.similarities.as_ref().map(deciles).transpose()?,
            sureness_deciles: bound_deciles
                .as_ref()
                .map(|deciles| deciles.iter().map(|bound| sureness(*bound)).collect()),
            bound_deciles,
        }))
    }
}
