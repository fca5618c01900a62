//! The arguments of this process: as typed, and with the options of the config file.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::error::ContextKind;
use clap::{ArgMatches, Command};

use crate::{config, suggest, terminal};

/// Parsed arguments.
#[derive(Debug)]
pub struct Arguments {
    /// The parser's result.
    pub matches: ArgMatches,
    typed: Vec<OsString>,
    /// The typed arguments, with the options of the config file before the typed options.
    all: Vec<OsString>,
    config: Option<PathBuf>,
}

impl Arguments {
    /// Parses the arguments of this process.
    ///
    /// # Errors
    /// Fails with a [`clap::Error`] for help, versions and mistakes in arguments, and as [`config::with_config`] does.
    pub fn of_process(command: &Command) -> Result<Self> {
        Self::parse(command, std::env::args_os().collect())
    }

    /// Parses arguments, which begin with the program's name.
    ///
    /// # Errors
    /// Fails as [`Arguments::of_process`] does.
    pub fn parse(command: &Command, typed: Vec<OsString>) -> Result<Self> {
        let (all, config) = config::with_config(command, typed.clone())?;
        let matches = command.clone().try_get_matches_from(&all).map_err(|error| {
            let mut error = suggest::improved(error, command, &all);
            if let (Some(file), true) = (&config, error.use_stderr()) {
                terminal::message(&format!("with the options of {}:", file.display()));
                // The usage would list every option of the file.
                error.remove(ContextKind::Usage);
            }
            error
        })?;
        Ok(Self { matches, typed, all, config })
    }

    /// Returns the arguments for another process to parse: the typed ones, unless the config file was a pipe, which
    /// cannot be read twice. Its options are then passed as arguments.
    pub fn again(&self) -> Vec<OsString> {
        if self.config.as_deref().is_none_or(|config| config.is_file()) {
            return self.typed.clone();
        }
        let (mut again, mut words) = (Vec::new(), self.all.iter());
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--config") => {
                    words.next();
                }
                Some(word) if word.starts_with("--config=") => {}
                _ => again.push(word.clone()),
            }
        }
        again
    }
}
