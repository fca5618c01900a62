//! `--output`: a path, or `-` for standard output where a command writes JSON lines.

use std::any::TypeId;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{ArgMatches, Command};

/// The name of standard output in options.
const STDOUT: &str = "-";

/// The place that JSON lines are written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl From<OsString> for Output {
    fn from(text: OsString) -> Self {
        if text == STDOUT { Self::Stdout } else { Self::File(text.into()) }
    }
}

impl Output {
    /// Returns the file, or `None` for standard output.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Stdout => None,
            Self::File(path) => Some(path),
        }
    }
}

/// Refuses `--output -` of commands whose output is a path and not an [`Output`].
///
/// # Errors
/// Fails if the option is `-`.
pub fn check(command: &Command, matches: &ArgMatches) -> Result<()> {
    let (mut verb, mut matches) = (command, matches);
    while let Some((name, inner)) = matches.subcommand() {
        let Some(found) = verb.find_subcommand(name) else { return Ok(()) };
        (verb, matches) = (found, inner);
    }
    let option = |name: &str| verb.get_arguments().find(|arg| arg.get_long() == Some(name));
    let Some(output) = option("output") else { return Ok(()) };
    let is_path = output.get_value_parser().type_id() == TypeId::of::<PathBuf>();
    let given = matches.try_get_raw(output.get_id().as_str()).ok().flatten();
    let is_folder = output.get_value_names().is_some_and(|names| names.iter().any(|name| name == "DIR"));
    ensure!(
        !is_path || !given.into_iter().flatten().any(|text| text == STDOUT),
        "--output -: cannot be standard output; expected a {}{}",
        if is_folder { "folder" } else { "file" },
        if option("json").is_some() { " (--json prints JSON on standard output)" } else { "" }
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command;

    use super::*;

    fn checked(line: &str) -> Result<(), String> {
        let command = command();
        let matches = command.clone().try_get_matches_from(line.split_whitespace()).unwrap();
        check(&command, &matches).map_err(|error| error.to_string())
    }

    /// Protects: every command with `--output` either writes JSON lines to standard output for `-` or refuses it, so
    /// that none writes a file or a folder of that name.
    #[test]
    fn standard_output_takes_json_lines_alone() {
        assert_eq!(checked("pcrm score --model m --data d --output -"), Ok(()));
        assert_eq!(checked("pcrm generate --model m --data d --output -"), Ok(()));
        assert_eq!(checked("pcrm data convert --data d --to question --output -"), Ok(()));
        assert_eq!(checked("pcrm reward --model m --data d --output rm"), Ok(()));
        let refused = |rest: &str| format!("--output -: cannot be standard output; expected a {rest}");
        let json = " (--json prints JSON on standard output)";
        for (line, rest) in [
            ("reward --model m --data d", "folder".to_owned()),
            ("merge adapter", "folder".to_owned()),
            ("data world", "folder".to_owned()),
            ("report run", "file".to_owned()),
            ("eval reward --model m --data d", format!("file{json}")),
            ("calibrate --model m --data d", format!("file{json}")),
            ("constraint bounds --model m --data d --constraint fixed", format!("file{json}")),
        ] {
            assert_eq!(checked(&format!("pcrm {line} --output -")), Err(refused(&rest)), "{line}");
        }
    }
}
