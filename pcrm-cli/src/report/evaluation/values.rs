//! Values of an evaluation as text, for tables and plots.

use pcrm_eval::bootstrap::Estimate;
use pcrm_eval::measure::Measure;
use pcrm_eval::table::{Signed, percents};
use pcrm_eval::{Interval, LengthUnit, RewardReport};

use crate::report::number::{number, percent};

/// Formats a measure's value.
pub fn value_of(measure: Measure, value: f64) -> String {
    if measure == Measure::Accuracy { percent(value) } else { number(value) }
}

/// Formats the ends of a measure's interval.
pub fn ends_of(measure: Measure, interval: &Interval) -> String {
    match measure {
        Measure::Accuracy => percents(interval),
        _ => format!("{} to {}", number(interval.low()), number(interval.high())),
    }
}

/// Formats a difference with its sign and interval, in percentage points for shares.
pub fn difference_of(measure: Measure, estimate: &Estimate) -> Signed {
    match measure {
        Measure::Accuracy => Signed::of(estimate, 0.01, 1),
        _ => Signed::of(estimate, 1.0, 3),
    }
}

/// Formats a correlation, or a dash if it is undefined.
pub fn correlation(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}").replace('-', "−"))
}

/// Returns the unit of lengths.
pub fn unit(report: &RewardReport) -> &'static str {
    match report.length_unit {
        LengthUnit::Tokens => "tokens",
        LengthUnit::Words => "words",
    }
}

/// Shortens a name to its beginning.
pub fn beginning(name: &str, most: usize) -> String {
    match name.chars().count() > most {
        true => name.chars().take(most - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

/// Shortens a path or name to its end, where models of one folder differ.
pub fn end(name: &str, most: usize) -> String {
    let length = name.chars().count();
    match length > most {
        true => ['…'].into_iter().chain(name.chars().skip(length + 1 - most)).collect(),
        false => name.to_owned(),
    }
}
