//! What a constraint does with pairs, summed up.

use anyhow::Result;
use pcrm_core::data::survey::Tally;
use pcrm_core::data::survey::bounds::{Bounds, sureness};
use pcrm_eval::quantiles::quantiles;
use serde::Serialize;
use serde_json::Value;

/// What a constraint does with pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoundSummary {
    /// The constraint.
    pub constraint: Value,
    /// Pairs, ties not counted.
    pub pairs: usize,
    /// Those without a bound.
    pub unbounded: usize,
    /// Those whose bound never acts.
    pub loose: Tally,
    /// Those whose bound leaves next to nothing to learn.
    pub tight: Tally,
    /// Deciles of s, from the smallest to the largest; absent where the constraint has no s.
    pub similarity_deciles: Option<Vec<f64>>,
    /// Deciles of Δ*, likewise; absent where nothing is bounded.
    pub bound_deciles: Option<Vec<f64>>,
    /// How sure the model may be at each decile of Δ*: σ(Δ*/2).
    pub sureness_deciles: Option<Vec<f64>>,
}

impl BoundSummary {
    /// Sums up; nothing of no pairs.
    ///
    /// # Errors
    /// A similarity that is not finite.
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
