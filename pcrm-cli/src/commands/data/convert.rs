//! `pcrm data convert`: pairs in another schema, and what that loses.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::Args;
use pcrm_core::data::convert::{Loss, TARGETS, convert};
use pcrm_core::data::files::data_files;
use pcrm_core::data::output::{Form, write_records};
use pcrm_core::data::preference::{Ties, load_sources};
use pcrm_core::data::schema::Schema;
use serde_json::Value;

use crate::columns::ColumnArgs;
use crate::progress::say;

/// Options of `pcrm data convert`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ConvertArgs {
    /// Files and folders of preferences: JSONL, JSON or Parquet
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Schema to write: standard_explicit, standard_implicit, conversational_explicit,
    /// conversational_implicit, hh_dialogues, question, alpaca or sharegpt
    #[arg(long, value_name = "NAME")]
    to: Schema,
    /// File to write; its ending says how: .jsonl or .json, maybe with .gz or .zst, or .parquet
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    columns: ColumnArgs,
}

const EXAMPLES: &str = "\
Examples:
  pcrm data convert --data dpo_en_demo.json --to conversational_explicit --output pairs.parquet
  pcrm data convert --data 2023-04-12_oasst_ready.trees.jsonl.gz --to sharegpt --output oasst.json";

/// Converts.
///
/// # Errors
/// Everything that the user's files and options can cause; nothing is then written.
pub fn run(args: &ConvertArgs) -> Result<()> {
    let known = TARGETS.map(Schema::name).join(", ");
    ensure!(
        TARGETS.contains(&args.to),
        "--to {}: cannot be written; expected one of {known}",
        args.to.name()
    );
    Form::of(&args.output)?;
    ensure!(
        !args.columns.score_margins,
        "--score-margins has no effect here: scores are written as they are"
    );
    ensure!(
        !data_files(&args.data)?.contains(&args.output),
        "--output {}: is one of --data; name another file",
        args.output.display()
    );
    let options = args.columns.options(Ties::Keep)?;
    let (sources, report) = load_sources(&args.data, options.clone())?;
    say(&report.to_string());
    let mut records = Vec::with_capacity(report.kept);
    let mut losses: BTreeMap<Loss, usize> = BTreeMap::new();
    let mut refused: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let pairs = || sources.iter().flat_map(|source| source.set.pairs().map(move |pair| (source, pair)));
    for (source, pair) in pairs() {
        match convert(source, pair, args.to, &options.columns) {
            Ok((record, mut lost)) => {
                records.push(Value::Object(record));
                lost.sort();
                lost.dedup();
                lost.into_iter().for_each(|loss| *losses.entry(loss).or_default() += 1);
            }
            Err(message) if args.columns.strict => bail!("{}: {message}", pair.origin),
            Err(message) => {
                let first = || (0, pair.origin.to_string());
                refused.entry(message).or_insert_with(first).0 += 1;
            }
        }
    }
    let told: Vec<String> = refused
        .iter()
        .map(|(message, (count, first))| {
            format!("{count} of {} pairs left out: {message} (first: {first})", pairs().count())
        })
        .collect();
    ensure!(!records.is_empty(), "no pair can be written as {}\n{}", args.to.name(), told.join("\n"));
    write_records(&args.output, &records)?;
    told.iter().for_each(|line| say(line));
    for (loss, count) in &losses {
        say(&format!("lost in {count} of {} pairs: {loss}", records.len()));
    }
    if losses.is_empty() && refused.is_empty() {
        say("nothing is lost of these pairs");
    }
    say(&format!("{} pairs as {} are in {}", records.len(), args.to.name(), args.output.display()));
    Ok(())
}
