//! Mistakes in options: exit code 2, as for what the parser of the command line refuses; every other error
//! exits 1.

use std::fmt;

use anyhow::{Error, Result};

use crate::chain::in_full;
use crate::interrupt::Interrupted;

/// An option, or a combination of options, that cannot be used.
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

/// Marks the errors of a check of options.
///
/// # Errors
/// Those of the check, as [`Usage`].
pub fn usage<T>(checked: Result<T>) -> Result<T> {
    checked.map_err(|error| Usage { message: in_full(&error) }.into())
}

/// An error of the trainer; one about an option names it as it is typed.
pub fn named(error: pcrm_rl::Error) -> Error {
    match error {
        pcrm_rl::Error::Invalid { field, message } => anyhow::anyhow!("--{field} {message}"),
        pcrm_rl::Error::Interrupted(message) => Interrupted { message }.into(),
        other => other.into(),
    }
}
