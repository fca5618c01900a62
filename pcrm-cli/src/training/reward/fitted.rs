//! A fitted constraint in words.

use pcrm_rl::crossfit::Evidence;
use serde_json::Value;

use crate::plugins::calibrated::Calibration;
use crate::report::run::constraint;
use crate::report::{calibration, evidence as found};

/// The evidence for a constraint and its numbers, a line each.
pub fn fitted_lines(tagged: &Value, evidence: &Evidence) -> Vec<String> {
    let Evidence { judges, pairs, accuracy, calibration } = evidence;
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    let mut lines = vec![format!(
        "{judges}: the preferred answer wins in {} % of {pairs} pairs (95 %: {} to {})",
        percent(accuracy.value),
        percent(accuracy.low()),
        percent(accuracy.high())
    )];
    let calibration = calibration.as_ref().and_then(calibration::read);
    lines.extend(calibration.as_ref().map(Calibration::sentence));
    lines.extend(found(tagged));
    lines.push(format!("fitted: {}", constraint(tagged)));
    lines
}
