//! Ctrl-C and SIGTERM: the first asks to stop after the step at hand, the second ends at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, OnceLock};

use anyhow::{Result, bail};

use crate::progress::say;

/// What a shell expects of a command that SIGINT ended.
pub const EXIT_CODE: u8 = 130;

static STOP: LazyLock<AtomicBool> = LazyLock::new(|| AtomicBool::new(false));
static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();

/// A run that the user stopped.
#[derive(Debug)]
pub struct Interrupted {
    /// What was saved and how to go on.
    pub message: String,
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Interrupted {}

/// The flag that interrupts set.
///
/// # Errors
/// The handler cannot be installed.
pub fn flag() -> Result<&'static AtomicBool> {
    let installed = INSTALLED.get_or_init(|| {
        let handler = || {
            if STOP.swap(true, Ordering::Relaxed) {
                std::process::exit(i32::from(EXIT_CODE));
            }
            say("stopping after this step (once more to stop at once)");
        };
        ctrlc::set_handler(handler).map_err(|error| error.to_string())
    });
    match installed {
        Ok(()) => Ok(&STOP),
        Err(error) => bail!("cannot listen for interrupts: {error}"),
    }
}
