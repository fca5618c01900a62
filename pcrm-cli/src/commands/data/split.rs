//! `pcrm data split`: splits preference files in two, with no prompt on both sides.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use pcrm_core::data::output::{Form, write_records};
use pcrm_core::data::overlap::repeated;
use pcrm_core::data::preference::{SourceSet, Ties, load_sources};
use pcrm_core::data::schema::Schema;
use pcrm_core::data::split::split_by_prompt;
use serde_json::Value;

use crate::columns::ColumnArgs;
use crate::dataset::sliced;
use crate::numbers::share;
use crate::progress::say;
use crate::revision::DataRevisionArgs;
use crate::usage::usage;

/// Options of `pcrm data split`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct SplitArgs {
    /// Read these preference files, folders or Hub data sets (org/name, org/name:split); - reads standard input
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Hold out this share of the prompts
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    fraction: f64,
    /// Set the seed of the split; another seed holds out other prompts
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write train and held_out to this folder; data of several schemas get a file for each, train-SCHEMA and
    /// held_out-SCHEMA
    #[arg(long, value_name = "DIR")]
    output_dir: PathBuf,
    /// Set the format of the files: jsonl or json, optionally with .gz or .zst, or parquet
    #[arg(long, value_name = "ENDING", default_value = "jsonl")]
    format: String,
    /// Read options from this TOML file, under the same names; typed options override it
    #[arg(long, value_name = "FILE", help_heading = "Reproducing")]
    config: Option<PathBuf>,
    #[command(flatten)]
    columns: ColumnArgs,
    #[command(flatten)]
    revision: DataRevisionArgs,
}

const EXAMPLES: &str = "\
Examples:
  pcrm data split --data pairs.jsonl --fraction 0.1 --output-dir split
  pcrm data split --data hh/ more.parquet --fraction 0.05 --seed 1 --format jsonl.zst --output-dir split";

/// Splits the files.
///
/// # Errors
/// Fails if an option or a file is invalid; nothing is written then.
pub fn run(args: &SplitArgs) -> Result<()> {
    usage(args.check())?;
    let name = |side: &str| args.name(side);
    refuse_sides(&args.output_dir)?;
    let data = args.revision.hub().data("--data", &args.data)?;
    let (sources, report) = load_sources(&data, args.columns.options(Ties::Keep)?)?;
    say(&report.to_string());
    let split = split_by_prompt(&sources, args.fraction, args.seed)?;
    let schemas = schemas(&sources);
    for schema in &schemas {
        for (side, places) in [("train", &split.train), ("held_out", &split.held_out)] {
            let of_schema = places.iter().filter(|at| schema.admits(sources[**at].schema));
            let records = records(&sources, of_schema.copied());
            if records.is_empty() {
                say(&format!("{side} has no records of schema {schema}"));
                continue;
            }
            let path = args.output_dir.join(match schemas.len() {
                1 => name(side),
                _ => name(&format!("{side}-{}", schema.name())),
            });
            write_records(&path, &records)?;
            say(&format!("{} records written to {}", records.len(), path.display()));
        }
    }
    if schemas.len() > 1 {
        let all = |side: &str| args.output_dir.join(name(&format!("{side}-*"))).display().to_string();
        say(&format!(
            "the data have {} schemas, so each side has {} files; --data {} reads all of one side",
            schemas.len(),
            schemas.len(),
            all("train")
        ));
    }
    let (again, turned) = repeated(sources.iter().map(|source| &source.set));
    if again + turned > 0 {
        say(&format!(
            "{again} pairs appear more than once, {turned} also with answers swapped; each is on one side \
             only"
        ));
    }
    say(&format!("{} of {} prompts are held out", split.held_out_prompts, split.prompts));
    Ok(())
}

impl SplitArgs {
    /// Checks the options that can be checked without data.
    fn check(&self) -> Result<()> {
        Form::of(Path::new(&self.name("train"))).with_context(|| format!("--format {}", self.format))?;
        ensure!(
            !self.columns.score_margins,
            "--score-margins has no effect here: records are written as they are"
        );
        sliced("--data", &self.data)?;
        self.columns.columns().map(drop)
    }

    /// Returns the name of one side's file.
    fn name(&self, side: &str) -> String {
        format!("{side}.{}", self.format)
    }
}

/// Refuses a folder that already holds a split, in any format: two splits would be read as one.
fn refuse_sides(folder: &Path) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_side = ["train", "held_out"].iter().any(|side| {
            name.strip_prefix(side).is_some_and(|rest| rest.starts_with(['.', '-']))
                && Form::of(&path).is_ok()
        });
        if is_side {
            bail!("{} exists already; name another --output-dir", path.display());
        }
    }
    Ok(())
}

/// Returns the schemas of some sets, in file order; schemas that may share a file count as one.
fn schemas(sources: &[SourceSet]) -> Vec<Schema> {
    let mut schemas: Vec<Schema> = Vec::new();
    for source in sources {
        if !schemas.iter().any(|known| known.admits(source.schema)) {
            schemas.push(source.schema);
        }
    }
    schemas
}

/// Returns each record of some sets once, as it is in its file.
fn records(sources: &[SourceSet], places: impl Iterator<Item = usize>) -> Vec<Value> {
    let mut before = None;
    let mut records = Vec::new();
    for source in places.map(|at| &sources[at]) {
        if before.replace(source.record_number) != Some(source.record_number) {
            records.push(Value::Object(source.record.clone()));
        }
    }
    records
}
