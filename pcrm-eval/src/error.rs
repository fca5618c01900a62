//! The error type of this crate. Every message names the input, the position, the value found and the one
//! expected.

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of measures and of report pages.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There are no values.
    #[error("{what}: nothing to measure; at least one value is needed")]
    Empty {
        /// Name of the input.
        what: &'static str,
    },
    /// Two inputs that belong together differ in length.
    #[error("{what}: {left} values against {right}; expected equal numbers")]
    Lengths {
        /// Names of the inputs.
        what: &'static str,
        /// Length of the first.
        left: usize,
        /// Length of the second.
        right: usize,
    },
    /// A value is NaN or infinite.
    #[error("{what} {at}: found {value}, expected a finite number")]
    NotFinite {
        /// Name of the input, such as `score of the chosen answer of pair`.
        what: &'static str,
        /// Position of the value, from 0.
        at: usize,
        /// The value.
        value: f64,
    },
    /// A set of answers is invalid.
    #[error("{id}: {cause}")]
    Set {
        /// Name of the set in the data.
        id: String,
        /// Cause of the error.
        #[source]
        cause: Box<Error>,
    },
    /// A set breaks the rules of a benchmark.
    #[error("{id}: {message}")]
    Rule {
        /// Name of the set in the data.
        id: String,
        /// Value found and value expected.
        message: String,
    },
    /// Two arms of a comparison have different numbers of runs.
    #[error("{arm} has {runs} runs and {first} has {expected}; expected equal numbers")]
    Runs {
        /// Name of the arm.
        arm: String,
        /// Number of runs of the arm.
        runs: usize,
        /// Name of the first arm.
        first: String,
        /// Number of runs of the first arm.
        expected: usize,
    },
    /// A part of a report page cannot be drawn.
    #[error("{part}: {message}")]
    Page {
        /// Name of the part, such as `plot "scores"`.
        part: String,
        /// Description of the error.
        message: String,
    },
    /// A value is out of range.
    #[error("{what}: found {value}, expected {expected}")]
    Range {
        /// Name of the option or input.
        what: String,
        /// The value.
        value: f64,
        /// Description of valid values.
        expected: &'static str,
    },
}

/// Returns an error if the slice is empty or holds NaN or infinite values.
pub(crate) fn check_finite(what: &'static str, values: &[f64]) -> Result<()> {
    if values.is_empty() {
        return Err(Error::Empty { what });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(Error::NotFinite { what, at, value: values[at] }),
        None => Ok(()),
    }
}

/// Returns an error if two inputs differ in length.
pub(crate) fn check_lengths(what: &'static str, left: usize, right: usize) -> Result<()> {
    if left == right { Ok(()) } else { Err(Error::Lengths { what, left, right }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the error about a set keeps its cause as a source.
    #[test]
    fn the_fault_of_a_set_is_its_source() {
        use std::error::Error as _;
        let error = Error::Set { id: "q7".to_owned(), cause: Box::new(Error::Empty { what: "scores" }) };
        assert_eq!(error.source().unwrap().to_string(), Error::Empty { what: "scores" }.to_string());
        assert!(error.to_string().starts_with("q7: scores: nothing to measure"));
    }

    /// Protects: the message alone identifies the invalid value.
    #[test]
    fn messages_name_input_position_and_value() {
        let error = check_finite("margin of pair", &[1.0, f64::NAN]).unwrap_err();
        assert_eq!(error.to_string(), "margin of pair 1: found NaN, expected a finite number");
        let error = check_finite("margin of pair", &[]).unwrap_err();
        assert_eq!(error.to_string(), "margin of pair: nothing to measure; at least one value is needed");
        let error = check_lengths("scores and tokens", 2, 3).unwrap_err();
        assert_eq!(error.to_string(), "scores and tokens: 2 values against 3; expected equal numbers");
    }
}
