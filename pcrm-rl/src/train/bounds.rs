//! The bounds of pairs under a constraint, and its errors by file and line.

use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::data::encode::{self, EncodedPair, EncodedSet};

use crate::error::Result;

/// Δ* of every pair of these sets.
///
/// # Errors
/// The constraint's, by the file and line of the pair; a bound that is not positive.
pub fn bounds(constraint: &dyn Constraint, sets: &[EncodedSet], priors: &Priors) -> Result<Vec<f32>> {
    let bounds = constraint.checked_bounds(&views(sets), priors);
    Ok(bounds.map_err(|error| placed(error, encode::pairs(sets)))?)
}

/// The pairs of these sets as constraints see them.
pub fn views(sets: &[EncodedSet]) -> Vec<PairView<'_>> {
    encode::pairs(sets).map(|pair| pair.view()).collect()
}

/// An error about a pair, with the pair's file and line in place of its number.
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
