//! `pcrm data convert`: writes pairs in another schema and reports the losses.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Error, Result, anyhow, ensure};
use clap::Args;
use pcrm_core::data::convert::{Loss, TARGETS, convert};
use pcrm_core::data::output::{Form, RecordLines};
use pcrm_core::data::preference::{SourceSet, Ties, each_source};
use pcrm_core::data::schema::Schema;

use crate::columns::ColumnArgs;
use crate::dataset::{sliced, spare_inputs};
use crate::output::Output;
use crate::progress::say;
use crate::revision::DataRevisionArgs;
use crate::terminal;
use crate::usage::usage;

/// Options of `pcrm data convert`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ConvertArgs {
    /// Read these preference files, folders or Hub data sets (org/name, org/name:split); - reads standard input
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Write this schema: standard_explicit, standard_implicit, conversational_explicit,
    /// conversational_implicit, hh_dialogues, question, alpaca or sharegpt
    #[arg(long, value_name = "NAME")]
    to: Schema,
    /// Write this file; the extension sets the format: .jsonl or .json, optionally with .gz or .zst, or
    /// .parquet; - writes JSON lines to standard output
    #[arg(long, value_name = "FILE")]
    output: Output,
    #[command(flatten)]
    columns: ColumnArgs,
    #[command(flatten)]
    revision: DataRevisionArgs,
}

const EXAMPLES: &str = "\
Examples:
  pcrm data convert --data dpo_en_demo.json --to conversational_explicit --output pairs.parquet
  pcrm data convert --data 2023-04-12_oasst_ready.trees.jsonl.gz --to sharegpt --output oasst.json";

/// Converts the pairs.
///
/// # Errors
/// Fails if an option or a file is invalid; nothing is written then.
pub fn run(args: &ConvertArgs) -> Result<()> {
    usage(args.check())?;
    let data = args.revision.hub().data("--data", &args.data)?;
    let output = args.output.file();
    if let Some(path) = output {
        spare_inputs("--output", path, &data)?;
    }
    let options = args.columns.options(Ties::Keep)?;
    let mut lines = RecordLines::default();
    let mut losses: BTreeMap<Loss, usize> = BTreeMap::new();
    let mut refused: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut failed = None;
    let mut take = |source: SourceSet| {
        for pair in source.set.pairs() {
            match convert(&source, pair, args.to, &options.columns) {
                Ok((record, mut lost)) => {
                    failed = failed.take().or_else(|| lines.push(&record).err().map(Error::from));
                    lost.sort();
                    lost.dedup();
                    lost.into_iter().for_each(|loss| *losses.entry(loss).or_default() += 1);
                }
                Err(message) if args.columns.strict => {
                    failed = failed.take().or_else(|| Some(anyhow!("{}: {message}", pair.origin)));
                }
                Err(message) => {
                    let first = || (0, pair.origin.to_string());
                    refused.entry(message).or_insert_with(first).0 += 1;
                }
            }
        }
    };
    let report = each_source(&data, options.clone(), &mut take)?;
    say(&report.to_string());
    failed.map_or(Ok(()), Err)?;
    let pairs = lines.len() + refused.values().map(|(count, _)| count).sum::<usize>();
    let messages: Vec<String> = refused
        .iter()
        .map(|(message, (count, first))| {
            format!("{count} of {pairs} pairs left out: {message} (first: {first})")
        })
        .collect();
    ensure!(!lines.is_empty(), "no pair can be written as {}\n{}", args.to.name(), messages.join("\n"));
    match output {
        Some(path) => lines.write(path)?,
        None => terminal::result(&String::from_utf8_lossy(lines.as_bytes()))?,
    }
    messages.iter().for_each(|line| say(line));
    for (loss, count) in &losses {
        say(&format!("lost in {count} of {} pairs: {loss}", lines.len()));
    }
    if losses.is_empty() && refused.is_empty() {
        say("nothing was lost");
    }
    let place = output.map_or("standard output".to_owned(), |path| path.display().to_string());
    say(&format!("{} pairs written as {} to {place}", lines.len(), args.to.name()));
    Ok(())
}

impl ConvertArgs {
    /// Checks the options that can be checked without data.
    fn check(&self) -> Result<()> {
        let known = TARGETS.map(Schema::name).join(", ");
        ensure!(
            TARGETS.contains(&self.to),
            "--to {}: cannot be written; expected one of {known}",
            self.to.name()
        );
        if let Some(path) = self.output.file() {
            Form::of(path).context("--output")?;
        }
        ensure!(
            !self.columns.score_margins,
            "--score-margins has no effect here: scores are written as they are"
        );
        sliced("--data", &self.data)?;
        self.columns.columns().map(drop)
    }
}
