//! `--config FILE.toml`: options of a command under their own names; options on the command line override
//! them.

use std::any::TypeId;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

use crate::suggest;

/// Inserts the options of the config file before the typed ones, except those that are also typed. Returns
/// the file too, if there was one.
///
/// # Errors
/// Fails if the file cannot be read or is not TOML, names an option that the command lacks, or has a value of
/// a wrong type.
pub fn with_config(command: &Command, typed: Vec<OsString>) -> Result<(Vec<OsString>, Option<PathBuf>)> {
    // Errors in typed options are reported later, with the complete command line.
    let Ok(matches) = command.clone().ignore_errors(true).try_get_matches_from(&typed) else {
        return Ok((typed, None));
    };
    let mut path = Vec::new();
    let (verb, matches) = innermost(command, &matches, &mut path);
    let Ok(Some(file)) = matches.try_get_one::<PathBuf>("config") else { return Ok((typed, None)) };
    let configs = typed.iter().filter_map(|word| word.to_str());
    let configs = configs.filter(|word| *word == "--config" || word.starts_with("--config="));
    ensure!(configs.count() < 2, "--config is given twice; expected one file");
    let text = text(file).with_context(|| format!("--config {}", file.display()))?;
    let table: Table = text.parse().with_context(|| format!("--config {}", file.display()))?;
    let from_file = flags(verb, matches, &table, &format!("--config {}", file.display()))?;
    // The subcommand's words come first, then its options.
    let at = position_after(&typed, &path);
    let mut all = typed[..at].to_vec();
    all.extend(from_file);
    all.extend_from_slice(&typed[at..]);
    Ok((all, Some(file.clone())))
}

/// Reads a config file, which may be a pipe, up to a size limit.
fn text(path: &Path) -> Result<String> {
    const MOST: u64 = 1 << 20;
    let mut text = String::new();
    fs::File::open(path)?.take(MOST + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= MOST, "has more than {MOST} bytes; expected options as TOML");
    Ok(text)
}

fn innermost<'a>(
    command: &'a Command,
    matches: &'a ArgMatches,
    path: &mut Vec<String>,
) -> (&'a Command, &'a ArgMatches) {
    match matches.subcommand() {
        Some((name, inner)) => match command.find_subcommand(name) {
            Some(verb) => {
                path.push(name.to_owned());
                innermost(verb, inner, path)
            }
            None => (command, matches),
        },
        None => (command, matches),
    }
}

fn position_after(typed: &[OsString], path: &[String]) -> usize {
    let mut at = 1;
    for word in path {
        at += typed[at..].iter().position(|typed| typed == word.as_str()).map_or(0, |found| found + 1);
    }
    at
}

/// Checks options as [`with_config`] would for this subcommand, without running it.
///
/// # Errors
/// Fails if the command lacks an option, an option does not accept its value, or options conflict.
pub fn check(command: &Command, verb: &[String], options: &Table) -> Result<()> {
    let mut typed: Vec<OsString> = vec![command.get_name().into()];
    typed.extend(verb.iter().map(OsString::from));
    let matches = command.clone().ignore_errors(true).try_get_matches_from(&typed)?;
    let (verb, matches) = innermost(command, &matches, &mut Vec::new());
    typed.extend(flags(verb, matches, options, "options")?);
    match command.clone().try_get_matches_from(&typed) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            bail!("{}", text.lines().next().unwrap_or_default().trim_start_matches("error: "))
        }
    }
}

fn flags(verb: &Command, matches: &ArgMatches, table: &Table, place: &str) -> Result<Vec<OsString>> {
    let mut flags = Vec::new();
    for (name, value) in table {
        let arg = verb.get_arguments().find(|arg| arg.get_long() == Some(name) && name != "config");
        let Some(arg) = arg else {
            let mut known: Vec<&str> = verb.get_arguments().filter_map(|arg| arg.get_long()).collect();
            known.retain(|known| !["config", "help", "version"].contains(known));
            let meant = suggest::option(name, &known);
            let meant = meant.map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default();
            let known = suggest::sorted(name, &known).join(", ");
            bail!("{place}: unknown option {name:?}{meant}; known: {known}");
        };
        let typed = matches.try_contains_id(arg.get_id().as_str()).unwrap_or(false)
            && matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        if typed {
            continue;
        }
        let wrong = |expected: &str| format!("{place}: {name} = {value}: expected {expected}");
        let flag = OsString::from(format!("--{name}"));
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            let on = value.as_bool().with_context(|| wrong("true or false"))?;
            flags.extend(on.then_some(flag));
            continue;
        }
        let many = matches!(arg.get_action(), ArgAction::Append);
        match value {
            Value::Array(values) => {
                ensure!(many, wrong("one value"));
                // An option with a fixed number of values receives them all at once.
                let together = arg.get_num_args().is_some_and(|count| count.min_values() > 1);
                for (at, value) in values.iter().enumerate() {
                    if at == 0 || !together {
                        flags.push(flag.clone());
                    }
                    flags.push(text_of(value).with_context(|| wrong("strings or numbers"))?.into());
                }
            }
            // A constraint may also be a table.
            Value::Table(table) => {
                flags.push(flag);
                flags.push(serde_json::to_string(table)?.into());
            }
            value => {
                flags.push(flag);
                flags.push(text_of(value).with_context(|| wrong("a string, number or boolean"))?.into());
            }
        }
    }
    Ok(flags)
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(on) => Some(on.to_string()),
        _ => None,
    }
}

/// Returns all resolved options of a command, as a file for `--config`.
pub fn resolved(verb: &Command, matches: &ArgMatches) -> String {
    let mut table = Table::new();
    for arg in verb.get_arguments() {
        let (Some(name), id) = (arg.get_long(), arg.get_id().as_str()) else { continue };
        if ["config", "help", "version", "resume"].contains(&name) {
            continue;
        }
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            table.insert(
                name.to_owned(),
                Value::Boolean(matches.try_get_one(id).ok().flatten() == Some(&true)),
            );
            continue;
        }
        let Ok(Some(values)) = matches.try_get_raw(id) else { continue };
        let values: Vec<Value> = values.map(|value| value_of(arg, &value.to_string_lossy())).collect();
        let many = matches!(arg.get_action(), ArgAction::Append);
        match values.as_slice() {
            [only] if !many => table.insert(name.to_owned(), only.clone()),
            _ => table.insert(name.to_owned(), Value::Array(values)),
        };
    }
    table.to_string()
}

/// Returns a resolved config with another value for one option.
///
/// # Errors
/// Fails if the text is not TOML.
pub fn with_option(resolved: &str, name: &str, value: impl Into<Value>) -> Result<String> {
    let mut table: Table = resolved.parse()?;
    table.insert(name.to_owned(), value.into());
    Ok(table.to_string())
}

/// Adds the number of lanes to a resolved config, because its default depends on the number of processes. The
/// config of a run with one lane does not mention lanes.
///
/// # Errors
/// Fails if the text is not TOML.
pub fn with_lanes(resolved: &str, lanes: usize) -> Result<String> {
    if lanes == 1 { Ok(resolved.to_owned()) } else { with_option(resolved, "lanes", lanes as i64) }
}

/// Returns a resolved config without this option.
///
/// # Errors
/// Fails if the text is not TOML.
pub fn without_option(resolved: &str, name: &str) -> Result<String> {
    let mut table: Table = resolved.parse()?;
    table.remove(name);
    Ok(table.to_string())
}

/// Returns a number where the option takes one: a path such as `01` stays text, and so does a whole number that
/// TOML cannot hold.
fn value_of(arg: &Arg, text: &str) -> Value {
    let parser = arg.get_value_parser().type_id();
    let takes_text = [TypeId::of::<String>(), TypeId::of::<PathBuf>()].iter().any(|text| parser == *text);
    let is_whole = text.bytes().all(|byte| byte.is_ascii_digit());
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(number), _) if !takes_text => Value::Integer(number),
        (Err(_), Ok(number)) if !takes_text && !is_whole && number.is_finite() => Value::Float(number),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod fuzzing;
