//! Messages about a fitted constraint and an estimated share of wrong labels.

use pcrm_eval::wrong_labels::WrongLabels;
use pcrm_rl::crossfit::Evidence;
use serde_json::Value;

use crate::plugins::calibrated::Calibration;
use crate::report::run::constraint;
use crate::report::{calibration, evidence as found};

/// Returns the evidence for a constraint and its numbers, a line each.
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

/// Describes the estimated share of wrong labels, and whether chance explains it.
pub fn wrong_labels_line(found: &WrongLabels) -> String {
    let chance = match found.likelihood_ratio > 2.71 {
        true => "more than chance",
        false => "consistent with none",
    };
    format!(
        "label-smoothing {:.4}: the share of wrong labels that best explains the margins of judges trained \
         on other prompts, {chance} (likelihood ratio {:.2}, {} pairs, temperature {:.3})",
        found.share, found.likelihood_ratio, found.pairs, found.temperature
    )
}
