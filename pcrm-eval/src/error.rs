//! The error of this crate: it names the input and the position, what was found and what was expected.

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of measures and of report pages.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No values at all.
    #[error("{what}: nothing to measure; at least one value is needed")]
    Empty {
        /// The input.
        what: &'static str,
    },
    /// Two inputs that go together differ in length.
    #[error("{what}: {left} values against {right}; there must be as many of both")]
    Lengths {
        /// The inputs.
        what: &'static str,
        /// How many the first has.
        left: usize,
        /// How many the second has.
        right: usize,
    },
    /// A value that is NaN or infinite.
    #[error("{what} {at}: found {value}, expected a finite number")]
    NotFinite {
        /// The input: `score of the chosen answer of pair`.
        what: &'static str,
        /// The value's position, from 0.
        at: usize,
        /// The value.
        value: f64,
    },
    /// Something wrong with one set of answers.
    #[error("{id}: {cause}")]
    Set {
        /// The set's name in the data.
        id: String,
        /// The fault.
        #[source]
        cause: Box<Error>,
    },
    /// A set that a benchmark's rules do not provide for.
    #[error("{id}: {message}")]
    Rule {
        /// The set's name in the data.
        id: String,
        /// What was found and what was expected.
        message: String,
    },
    /// Arms of a comparison with different numbers of runs.
    #[error("{arm} has {runs} runs and {first} has {expected}; expected as many of all")]
    Runs {
        /// The arm.
        arm: String,
        /// Its number of runs.
        runs: usize,
        /// The first arm.
        first: String,
        /// The number of runs of the first arm.
        expected: usize,
    },
    /// A part of a report page that cannot be drawn.
    #[error("{part}: {message}")]
    Page {
        /// The part: `plot "scores"`.
        part: String,
        /// The fault.
        message: String,
    },
    /// A value outside of what is possible.
    #[error("{what}: found {value}, expected {expected}")]
    Range {
        /// The option or input.
        what: String,
        /// The value.
        value: f64,
        /// What serves.
        expected: &'static str,
    },
}

/// Refuses an empty slice and values that are NaN or infinite.
pub(crate) fn check_finite(what: &'static str, values: &[f64]) -> Result<()> {
    if values.is_empty() {
        return Err(Error::Empty { what });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(Error::NotFinite { what, at, value: values[at] }),
        None => Ok(()),
    }
}

/// Refuses two inputs of different length.
pub(crate) fn check_lengths(what: &'static str, left: usize, right: usize) -> Result<()> {
    if left == right { Ok(()) } else { Err(Error::Lengths { what, left, right }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the error about a set keeps the fault as a value.
    #[test]
    fn the_fault_of_a_set_is_its_source() {
        use std::error::Error as _;
        let error = Error::Set { id: "q7".to_owned(), cause: Box::new(Error::Empty { what: "scores" }) };
        assert_eq!(error.source().unwrap().to_string(), Error::Empty { what: "scores" }.to_string());
        assert!(error.to_string().starts_with("q7: scores: nothing to measure"));
    }

    /// Protects: a user finds the bad value from the message alone.
    #[test]
    fn messages_name_input_position_and_value() {
        let error = check_finite("margin of pair", &[1.0, f64::NAN]).unwrap_err();
        assert_eq!(error.to_string(), "margin of pair 1: found NaN, expected a finite number");
        let error = check_finite("margin of pair", &[]).unwrap_err();
        assert_eq!(error.to_string(), "margin of pair: nothing to measure; at least one value is needed");
        let error = check_lengths("scores and tokens", 2, 3).unwrap_err();
        assert_eq!(error.to_string(), "scores and tokens: 2 values against 3; there must be as many of both");
    }
}
