//! Margins compared with the bounds of training.

use serde::{Deserialize, Serialize};

use super::PairScore;
use crate::error::{Error, Result};
use crate::quantiles::mean;

/// Margins compared with the training bounds, over the pairs with a finite bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// Number of pairs with a bound.
    pub pairs: usize,
    /// Mean bound Δ*. A pair's loss is smallest at half its bound.
    pub mean: f64,
    /// Share of pairs whose margin exceeds its bound.
    pub beyond: f64,
}

/// Compares the margins of the pairs that have a bound.
///
/// # Errors
/// Fails if a bound is not positive.
pub(super) fn bounds(pairs: &[PairScore]) -> Result<Option<Bounds>> {
    let mut bounds = Vec::new();
    let mut beyond = 0_usize;
    for (at, pair) in pairs.iter().enumerate() {
        match pair.bound {
            None | Some(f64::INFINITY) => {}
            Some(bound) if bound > 0.0 => {
                bounds.push(bound);
                beyond += usize::from(pair.margin() > bound);
            }
            Some(value) => {
                let expected = "a positive number, or none for no bound";
                return Err(Error::Range { what: format!("bound of pair {at}"), value, expected });
            }
        }
    }
    Ok((!bounds.is_empty()).then(|| Bounds {
        pairs: bounds.len(),
        mean: mean(&bounds),
        beyond: beyond as f64 / bounds.len() as f64,
    }))
}
