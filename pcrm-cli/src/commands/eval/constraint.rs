//! The constraint whose bounds the margins of a model are compared with.

use anyhow::Result;
use pcrm_core::constraint::{self, Constraint, Priors};
use pcrm_core::data::encode::{self, EncodedSet};
use pcrm_core::model::{Scores, ScoringModel};

use crate::dataset::bounds;

/// The origin of a constraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The user requested it: without its bounds the evaluation fails.
    Users,
    /// The model was trained with it: if it can no longer be computed, scores are reported without bounds.
    Models,
}

/// Returns the requested constraint, else the one the model was trained with, else none.
///
/// # Errors
/// Fails if the requested constraint is unknown or its parameters are invalid.
pub fn constraint_of(model: &ScoringModel, named: Option<&str>) -> Result<(Box<dyn Constraint>, Whose)> {
    let tagged = model.outline().raw.get("pcrm").and_then(|notes| notes.get("constraint"));
    match (named, tagged) {
        (Some(text), _) => Ok((crate::constraint::read(text)?, Whose::Users)),
        (None, Some(tagged)) => match constraint::from_tagged(tagged.clone()) {
            Ok(constraint) => Ok((constraint, Whose::Models)),
            Err(error) => {
                tracing::warn!("config.json: pcrm.constraint: {error}; evaluated without bounds");
                Ok((constraint::parse("none")?, Whose::Models))
            }
        },
        (None, None) => Ok((constraint::parse("none")?, Whose::Models)),
    }
}

/// Returns Δ* of every pair, or no bounds if the model's own constraint cannot be computed.
pub fn bounds_of(
    constraint: &dyn Constraint,
    whose: Whose,
    sets: &[EncodedSet],
    priors: &Priors,
) -> Result<Vec<f32>> {
    match (bounds(constraint, sets, priors), whose) {
        (Err(error), Whose::Models) => {
            let error = error.root_cause();
            tracing::warn!(
                "the bounds of the model's training constraint cannot be computed: {error}; evaluated \
                 without bounds"
            );
            Ok(vec![f32::INFINITY; encode::pairs(sets).count()])
        }
        (bounds, _) => bounds,
    }
}
