//! Usage errors: mistakes in options have exit code 2, like errors of the command line parser; all other
//! errors have exit code 1.

use std::fmt;

use anyhow::{Error, Result};

use crate::chain::in_full;
use crate::interrupt::Interrupted;

/// An invalid option or combination of options.
#[derive(Debug)]
pub struct Usage {
    message: String,
}

/// The exit code of a [`Usage`] error.
pub const EXIT_CODE: u8 = 2;

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Usage {}

/// Marks the errors of an options check as usage errors.
///
/// # Errors
/// Fails with the error of the check, as [`Usage`].
pub fn usage<T>(checked: Result<T>) -> Result<T> {
    checked.map_err(|error| Usage { message: in_full(&error) }.into())
}

/// Converts an error of the trainer; an error about an option names the option as it is typed.
pub fn named(error: pcrm_rl::Error) -> Error {
    match error {
        pcrm_rl::Error::Invalid { field, message } => anyhow::anyhow!("--{field} {message}"),
        pcrm_rl::Error::Interrupted(message) => Interrupted { message }.into(),
        other => other.into(),
    }
}
