//! Messages about a fitted constraint and an estimated share of wrong labels.

use pcrm_eval::wrong_labels::WrongLabels;
use pcrm_rl::crossfit::Evidence;
use serde_json::Value;

use crate::plugins::calibrated::Calibration;
use crate::report::run::constraint;
use crate::report::{calibration, evidence as found};

/// Returns the line at the beginning of a run: the trained and all parameters, the pairs to train on and, if
/// any, to evaluate on, and the constraint.
pub fn beginning(
    (trained, all): (usize, usize),
    (pairs, held_out): (usize, Option<usize>),
    tagged: &Value,
) -> String {
    let trained = if trained == all { all.to_string() } else { format!("{trained} of {all}") };
    let plural = if pairs == 1 { "" } else { "s" };
    let held_out = held_out.map_or(String::new(), |pairs| format!(", evaluating on {pairs}"));
    let constraint = constraint(tagged);
    format!("training {trained} parameters on {pairs} pair{plural}{held_out}, constraint {constraint}")
}

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Protects: adapters are counted beside the frozen base.
    #[test]
    fn trained_parameters_are_counted() {
        let none = json!({"kind": "none"});
        for (parameters, pairs, want) in [
            ((20, 300), (1, None), "training 20 of 300 parameters on 1 pair, constraint none"),
            (
                (300, 300),
                (8, Some(2)),
                "training 300 parameters on 8 pairs, evaluating on 2, constraint none",
            ),
        ] {
            assert_eq!(beginning(parameters, pairs, &none), want);
        }
    }
}
