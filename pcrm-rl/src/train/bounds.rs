//! The bounds of pairs under a constraint, with errors by file and line.

use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::data::encode::{self, EncodedPair, EncodedSet};

use crate::error::Result;

/// Computes Δ* of every pair of these sets.
///
/// # Errors
/// Fails with the constraint's error, naming file and line of the pair, or if a bound is not positive.
pub fn bounds(constraint: &dyn Constraint, sets: &[EncodedSet], priors: &Priors) -> Result<Vec<f32>> {
    let bounds = constraint.checked_bounds(&views(sets), priors);
    Ok(bounds.map_err(|error| placed(error, encode::pairs(sets)))?)
}

/// Returns the pairs of these sets in the form for constraints.
pub fn views(sets: &[EncodedSet]) -> Vec<PairView<'_>> {
    encode::pairs(sets).map(|pair| pair.view()).collect()
}

/// Replaces the number of a pair in an error by its file and line.
pub(crate) fn placed<'a>(
    error: pcrm_core::Error,
    mut pairs: impl Iterator<Item = EncodedPair<'a>>,
) -> pcrm_core::Error {
    match error {
        pcrm_core::Error::Pair { what, name, at, message } => {
            let place = |pair: EncodedPair<'_>| format!("{} ", pair.origin);
            let placed = pairs.nth(at).map(|pair| message.replacen(&format!("pair {at} "), &place(pair), 1));
            pcrm_core::Error::Pair { what, name, at, message: placed.unwrap_or(message) }
        }
        error => error,
    }
}
