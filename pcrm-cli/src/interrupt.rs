//! Ctrl-C, SIGTERM and SIGHUP: the first signal stops after the current step; the second ends all processes that this
//! one has started and exits immediately.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use pcrm_rl::reward_source;

use crate::children;
use crate::progress::say;

/// The conventional exit code after SIGINT.
pub const EXIT_CODE: u8 = 130;

/// The environment variable that asks a child to stop when its input ends. Its value is the parent's process
/// id, for people who look for it.
pub const PARENT: &str = reward_source::STOPS_WITH_INPUT;
/// The time that a command has to stop after its input ended. The programs that it started share a shorter limit.
const GRACE: Duration = Duration::from_secs(15);

static STOP: LazyLock<AtomicBool> = LazyLock::new(|| AtomicBool::new(false));
static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();

/// A run stopped by the user.
#[derive(Debug)]
pub struct Interrupted {
    /// The saved files and how to continue.
    pub message: String,
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Interrupted {}

/// Returns the flag that signals set.
///
/// # Errors
/// Fails if the handler cannot be installed.
pub fn flag() -> Result<&'static AtomicBool> {
    match INSTALLED.get_or_init(listen) {
        Ok(()) => Ok(&STOP),
        Err(error) => bail!("cannot listen for interrupts: {error}"),
    }
}

/// Stops as an interrupt does when standard input ends, if the parent process asks for it ([`PARENT`]). The
/// input ends at the latest when the parent ends, for whatever reason, even before this call.
pub fn follow_parent() {
    if std::env::var_os(PARENT).is_none() {
        return;
    }
    let wait = || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        STOP.store(true, Ordering::Relaxed);
        thread::sleep(GRACE);
        exit();
    };
    let _ = thread::Builder::new().name("parent".into()).spawn(wait);
}

/// Ends the programs and processes that this process started, and exits.
fn exit() -> ! {
    // Until this process exits, no other thread starts a program or reports that one has ended.
    let _programs = reward_source::kill_programs();
    let _processes = children::end_all();
    std::process::exit(i32::from(EXIT_CODE));
}

/// Sets the flag on the first signal and exits on the second.
fn stop() {
    if STOP.swap(true, Ordering::Relaxed) {
        exit();
    }
    // Standard error may be a pipe that no one reads, so the signal thread must not wait for it.
    let _ = thread::Builder::new().spawn(|| say("stopping after this step (repeat to stop immediately)"));
}

#[cfg(unix)]
fn listen() -> Result<(), String> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let mut heard = vec![SIGINT, SIGTERM];
    // Under nohup, closing the terminal is no reason to stop.
    heard.extend((!is_ignored(SIGHUP)).then_some(SIGHUP));
    let mut signals = Signals::new(heard).map_err(|error| error.to_string())?;
    let listen = move || signals.forever().for_each(|_| stop());
    thread::Builder::new().name("signals".into()).spawn(listen).map(drop).map_err(|error| error.to_string())
}

/// Returns true if this process ignores a signal, as far as the system reports it (Linux).
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(not(unix))]
fn listen() -> Result<(), String> {
    ctrlc::set_handler(stop).map_err(|error| error.to_string())
}
