//! Randomly broken config files: a seeded run of a thousand, or of `PCRM_FUZZ_SECONDS`.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use clap::{ArgAction, Command};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::with_config;

/// Returns a valid config of the command: a value for each of its options.
fn whole(verb: &Command) -> String {
    let line = |arg: &clap::Arg| {
        let name = arg.get_long().filter(|name| !["config", "help", "version"].contains(name))?;
        let possible = arg.get_possible_values();
        let value = match (arg.get_action(), possible.first(), arg.get_default_values().first()) {
            (ArgAction::SetTrue, ..) => "true".to_owned(),
            (_, Some(value), _) => format!("{:?}", value.get_name()),
            (_, _, Some(default)) => default.to_string_lossy().parse::<f64>().map_or_else(
                |_| format!("{:?}", default.to_string_lossy()),
                |_| default.to_string_lossy().into_owned(),
            ),
            (ArgAction::Append, ..) => "[\"a\", \"b\"]".to_owned(),
            _ => "1".to_owned(),
        };
        Some(format!("{name} = {value}\n"))
    };
    verb.get_arguments().filter_map(line).collect()
}

/// Returns the text with some of its characters, lines and values changed.
fn broken(text: &str, random: &mut StdRng) -> Vec<u8> {
    const PIECES: [&str; 14] = [
        "\"",
        "[",
        "]",
        "[[a]]",
        "{",
        "}",
        "=",
        "\n",
        "-1",
        "1e999",
        "nan",
        "\"\"\"",
        "1979-05-27T07:32:00Z",
        "\u{202e}",
    ];
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..=bytes.len());
        let to = (at + random.random_range(0..40)).min(bytes.len());
        match random.random_range(0..4) {
            0 => drop(bytes.drain(at..to)),
            1 => drop(bytes.splice(at..at, PIECES[random.random_range(0..PIECES.len())].bytes())),
            2 => drop(bytes.splice(at..to, bytes[at..to].repeat(2))),
            _ if at < bytes.len() => bytes[at] = random.random_range(0..=255),
            _ => {}
        }
    }
    bytes
}

/// The number of files to try; more with `PCRM_FUZZ_SECONDS`.
const FEWEST: u64 = 1000;

/// Protects: no config file makes the command line panic; each file is accepted, or refused with a message of
/// a few lines that names the file or the option.
#[test]
fn no_config_breaks_the_command_line() {
    let seconds = std::env::var("PCRM_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let until = Instant::now() + Duration::from_secs(seconds);
    let command = crate::command();
    let verbs: Vec<&Command> = command
        .get_subcommands()
        .filter(|verb| verb.get_arguments().any(|arg| arg.get_long() == Some("config")))
        .collect();
    assert!(verbs.len() > 5);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let mut random = StdRng::seed_from_u64(seconds);
    let (mut tried, mut taken) = (0u64, 0u64);
    while tried < FEWEST || Instant::now() < until {
        let verb = verbs[random.random_range(0..verbs.len())];
        let text = whole(verb);
        // Only a few lines, so that some files are accepted.
        let lines: Vec<&str> = text.lines().filter(|_| random.random_range(0..6) == 0).collect();
        let bytes = broken(&(lines.join("\n") + "\n"), &mut random);
        std::fs::write(&path, &bytes).unwrap();
        let typed = ["pcrm", verb.get_name(), "--config"].map(OsString::from).into_iter();
        let typed: Vec<OsString> = typed.chain([path.clone().into_os_string()]).collect();
        tried += 1;
        match with_config(&command, typed) {
            Ok((all, _)) => {
                taken += 1;
                let _ = command.clone().try_get_matches_from(all);
            }
            Err(error) => {
                let said = format!("{error:#}");
                assert!(said.contains("config.toml") && said.len() < 8000, "{said}");
            }
        }
    }
    // A few in a hundred are taken.
    assert!(0 < taken && taken < tried, "{taken} of {tried} were taken");
}
