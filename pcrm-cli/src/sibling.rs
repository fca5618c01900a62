//! A second program, beside this one, with backends that this one does not link to.
//!
//! `pcrm` leaves libtorch to `pcrm-tch`: the loader relocates a linked libtorch (440 MB, 0.2 s) before `main`, even for
//! `--help`. A command that needs the sibling is replaced by it, with the same arguments, before it does anything. The
//! parsed arguments decide:
//!
//! * a command with `--backend` (typed, from the config file or by default) needs the sibling if this program does not
//!   link that backend;
//! * `merge` computes on the default backend and needs the sibling if this program does not link it;
//! * `plugins` lists what the sibling has.
//!
//! Both programs must be of one version: the sibling refuses to take over from another one.
//!
//! No other command opens a backend. Those that start processes of this program (`study`, `launch`) leave the
//! decision to each process.

use std::env::consts::EXE_SUFFIX;
#[cfg(unix)]
use std::ffi::{OsStr, OsString};
use std::io;
#[cfg(unix)]
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::ArgMatches;
use pcrm_core::registry::{self, BackendPlugin};

use crate::arguments::Arguments;
use crate::plugins::DEFAULT_BACKEND;

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The variable with the version and the process id of the program that a sibling takes over from.
const STARTED_BY: &str = "PCRM_STARTED_BY";

/// A program in this program's folder that has the same commands and further backends.
#[derive(Debug, Clone, Copy)]
pub struct Sibling {
    /// Its file name, without the ending of executables.
    pub name: &'static str,
    /// The command that builds both programs, for the error if the sibling is missing.
    pub built_by: &'static str,
}

impl Sibling {
    /// Replaces this process by the sibling if the command needs it; returns if it does not.
    ///
    /// # Errors
    /// Fails if the sibling is missing, cannot be started or is this program.
    pub(crate) fn take_over(self, arguments: &Arguments) -> Result<()> {
        let Some(need) = need(&arguments.matches) else { return Ok(()) };
        let path = self.path().context(need.clone())?;
        let words = arguments.again();
        let mut command = Command::new(&path);
        command.args(words.iter().skip(1));
        command.env(STARTED_BY, format!("{VERSION} {}", std::process::id()));
        // Messages name the program that the user called.
        #[cfg(unix)]
        command.arg0(words.first().map_or(OsStr::new(self.name), OsString::as_os_str));
        Err(replaced(&mut command)).with_context(|| format!("{need}: starting {}", path.display()))
    }

    /// Returns the path of the sibling.
    fn path(self) -> Result<PathBuf> {
        let own = std::env::current_exe().and_then(|own| own.canonicalize());
        let own = own.context("the path of this program")?;
        let path = own.with_file_name(format!("{}{EXE_SUFFIX}", self.name));
        let at = path.display();
        match path.canonicalize() {
            // A copy or a link of this program would start itself forever.
            Ok(found) => {
                ensure!(found != own, "{at} is this program; expected the one that {} builds", self.built_by);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
                "{at} is missing; it has what this program does not link to, and belongs beside it ({} builds both)",
                self.built_by
            ),
            Err(error) => return Err(error).with_context(|| at.to_string()),
        }
        Ok(path)
    }
}

/// Refuses to take over from a program of another version, for example if an older build left this sibling there.
///
/// # Errors
/// Fails with both versions.
pub(crate) fn check_version() -> Result<()> {
    fits(std::env::var(STARTED_BY).ok().as_deref(), std::process::id())
}

fn fits(started_by: Option<&str>, process: u32) -> Result<()> {
    let Some((version, starter)) = started_by.and_then(|text| text.split_once(' ')) else { return Ok(()) };
    // Programs that the sibling starts inherit the variable, but not the process.
    if version == VERSION || (cfg!(unix) && starter != process.to_string()) {
        return Ok(());
    }
    let own =
        std::env::current_exe().map_or_else(|_| "this program".to_owned(), |own| own.display().to_string());
    bail!(
        "{own} is of version {VERSION}, and the program beside it that started it of version {version}; expected both \
         of one build"
    );
}

/// Returns what a command needs that this program does not link to, in the words of an error.
fn need(matches: &ArgMatches) -> Option<String> {
    let (mut verb, mut matches) = ("", matches);
    while let Some((name, inner)) = matches.subcommand() {
        (verb, matches) = (name, inner);
    }
    let (backend, what) = match (matches.try_get_one::<String>("backend"), verb) {
        (Ok(Some(backend)), _) => (backend.as_str(), format!("--backend {backend}")),
        (_, "merge") => (DEFAULT_BACKEND, format!("the backend {DEFAULT_BACKEND}")),
        (_, "plugins") => return Some("pcrm plugins".to_owned()),
        _ => return None,
    };
    let is_linked = registry::all::<BackendPlugin>().iter().any(|plugin| plugin.name == backend);
    (!is_linked).then_some(what)
}

/// Replaces this process by the command, and returns only if it cannot be started.
#[cfg(unix)]
fn replaced(command: &mut Command) -> io::Error {
    command.exec()
}

/// Runs the command and exits with its exit code; returns only if it cannot be started.
#[cfg(not(unix))]
fn replaced(command: &mut Command) -> io::Error {
    // Ctrl-C reaches both programs. The command stops and says so; this program waits for it.
    let _ = crate::interrupt::flag();
    crate::progress::set_quiet(true);
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests;
