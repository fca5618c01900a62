//! The bounds of pairs under a constraint, and its errors by file and line.

use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::data::encode::EncodedPair;

use crate::error::Result;

/// Δ* of every pair.
///
/// # Errors
/// The constraint's, by the file and line of the pair; a bound that is not positive.
pub fn bounds(constraint: &dyn Constraint, pairs: &[EncodedPair], priors: &Priors) -> Result<Vec<f32>> {
    let views: Vec<PairView<'_>> = pairs.iter().map(EncodedPair::view).collect();
    Ok(constraint.checked_bounds(&views, priors).map_err(|error| placed(error, pairs.iter()))?)
}

/// An error about a pair, with the pair's file and line in place of its number.
pub(crate) fn placed<'a>(
    error: pcrm_core::Error,
    mut pairs: impl Iterator<Item = &'a EncodedPair>,
) -> pcrm_core::Error {
    match error {
        pcrm_core::Error::Pair { what, name, at, message } => {
            let place = |pair: &EncodedPair| format!("{} ", pair.origin);
            let placed = pairs.nth(at).map(|pair| message.replacen(&format!("pair {at} "), &place(pair), 1));
            pcrm_core::Error::Pair { what, name, at, message: placed.unwrap_or(message) }
        }
        error => error,
    }
}
