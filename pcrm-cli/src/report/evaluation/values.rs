//! The values of an evaluation as text, for its tables and plots.

use pcrm_eval::bootstrap::Estimate;
use pcrm_eval::measure::Measure;
use pcrm_eval::table::{Signed, percents};
use pcrm_eval::{Interval, LengthUnit, RewardReport};

use crate::report::number::{number, percent};

/// A measure's value.
pub fn value_of(measure: Measure, value: f64) -> String {
    if measure == Measure::Accuracy { percent(value) } else { number(value) }
}

/// The ends of a measure's interval.
pub fn ends_of(measure: Measure, interval: &Interval) -> String {
    match measure {
        Measure::Accuracy => percents(interval),
        _ => format!("{} to {}", number(interval.low()), number(interval.high())),
    }
}

/// A difference with its sign and its interval: in points of per cent for shares.
pub fn difference_of(measure: Measure, estimate: &Estimate) -> Signed {
    match measure {
        Measure::Accuracy => Signed::of(estimate, 0.01, 1),
        _ => Signed::of(estimate, 1.0, 3),
    }
}

/// A correlation, or a dash where it is undefined.
pub fn correlation(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}").replace('-', "−"))
}

/// The unit of lengths.
pub fn unit(report: &RewardReport) -> &'static str {
    match report.length_unit {
        LengthUnit::Tokens => "tokens",
        LengthUnit::Words => "words",
    }
}

/// The beginning of a name that has more characters than there is room for.
pub fn beginning(name: &str, most: usize) -> String {
    match name.chars().count() > most {
        true => name.chars().take(most - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

/// The end of a path or name, where models of one folder differ.
pub fn end(name: &str, most: usize) -> String {
    let length = name.chars().count();
    match length > most {
        true => ['…'].into_iter().chain(name.chars().skip(length + 1 - most)).collect(),
        false => name.to_owned(),
    }
}
