//! Bounds that are looser at the beginning of a run.

use pcrm_core::constraint::Constraint;

use super::Pass;
use crate::error::{Error, Result};

/// Returns the factor that loosens a constraint's bounds in this pass ([`Constraint::factor`] of the
/// completed share of all steps). Evaluations use the bounds in the data.
pub(super) fn factor(schedule: Option<&dyn Constraint>, pass: &Pass<'_>) -> Result<Option<f64>> {
    let Some(progress) = pass.progress else { return Ok(None) };
    let factor = schedule.and_then(|constraint| constraint.factor(progress));
    match factor {
        Some(factor) if !((factor as f32).is_finite() && factor as f32 > 0.0) => {
            let message = format!("is {factor} after {progress} of the steps, expected a positive number");
            Err(Error::Invalid { field: "factor of the bounds", message })
        }
        factor => Ok(factor),
    }
}

/// Returns the reason why a step's loss depends on the total number of steps, if bounds change.
pub(super) fn depends_on_length(schedule: Option<&dyn Constraint>) -> Option<&'static str> {
    let changes = schedule.is_some_and(|constraint| constraint.factor(0.0).is_some());
    changes.then_some("the constraint's bounds change over the length of the run")
}
