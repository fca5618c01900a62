//! `pcrm constraint bounds`: computes the bounds of pairs.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ColorChoice};
use pcrm_core::data::encode::{self, EncodedPair, Padding};
use pcrm_core::data::output::{Form, write_records};
use pcrm_core::data::preference::Ties;
use pcrm_core::data::survey::bounds::{Bounds, LOOSE, TIGHT, sureness};
use pcrm_core::model::ModelConfig;
use pcrm_core::text::Tokenizer;
use serde_json::{Value, json};

use super::explain::{LEAST, sure};
use crate::bound_summary::BoundSummary;
use crate::constraint;
use crate::dataset::{Reading, bounds, spare_inputs};
use crate::hub::{Hub, Weights};
use crate::machine::Machine;
use crate::page::Page;
use crate::priors::priors;
use crate::progress::say;
use crate::report::{number, percent, run::constraint as settings};
use crate::terminal;
use crate::usage::usage;

/// Options of `pcrm constraint bounds`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct BoundsArgs {
    /// Count tokens with the tokenizer of this Hugging Face folder or Hub repository (org/name): the model to
    /// be trained
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Compute the bounds of these preference files or folders (JSONL, JSON, Parquet) or Hub data sets
    /// (org/name, org/name:split)
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Bound margins by this prior constraint: a name, JSON such as '{"kind": "fixed", "bound": 3}', or a
    /// JSON file
    #[arg(long, value_name = "NAME|JSON|FILE")]
    constraint: String,
    /// Write s, Δ* and P = σ(Δ*/2) of every pair to this file; the extension sets the format: .jsonl or
    /// .json, optionally with .gz or .zst, or .parquet
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the deciles as JSON
    #[arg(long)]
    json: bool,
    /// Use colours; auto: on a terminal unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    hub: Hub,
    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "\
Examples:
  pcrm constraint bounds --model qwen2 --data train.jsonl --constraint length_ratio
  pcrm constraint bounds --model qwen2 --data train.jsonl --constraint bound.json --output bounds.jsonl

bounds.jsonl has one line per pair: file and line; for ranked answers, which two of the record's set are \
compared (set, chosen, rejected, counted from 0); s, Δ* (bound) and P = σ(Δ*/2) (probability). Absent \
values are null.";

/// Computes, writes and summarises bounds.
///
/// # Errors
/// Fails if an option or a file is invalid; nothing is written then.
pub fn run(args: &BoundsArgs) -> Result<()> {
    let mut constraint = usage(constraint::read(&args.constraint))?;
    usage(args.reading.check())?;
    let data = args.hub.data("--data", &args.data)?;
    if let Some(path) = &args.output {
        Form::of(path).context("--output")?;
        spare_inputs("--output", path, &data)?;
    }
    let at = || format!("--model {}", args.model.display());
    let dir = args.hub.model("--model", &args.model, Weights::Read)?;
    let (model, tokenizer) =
        (ModelConfig::from_dir(&dir).with_context(at)?, Tokenizer::from_dir(&dir).with_context(at)?);
    let priors = priors(&args.machine, Some(&dir))?;
    constraint.settle(&priors).context("--constraint")?;
    let tagged = constraint.to_tagged()?;
    let (rows, _) = args.reading.preferences(&data, Ties::Drop)?;
    let max_length = usage(args.reading.training_length(&model))?;
    let (sets, _) = args.reading.encode(&rows, &tokenizer, Padding::of(&model, &tokenizer).id, max_length)?;
    let bounds = bounds(constraint.as_ref(), &sets, &priors)?;
    let similarities =
        constraint.similarities(&pcrm_rl::train::bounds::views(&sets), &priors).context("--constraint")?;
    if let Some(path) = &args.output {
        let s = |at: usize| similarities.as_ref().map(|all| all[at]);
        let record = |(at, pair): (usize, EncodedPair<'_>)| record(pair, s(at), bounds[at]);
        write_records(path, &encode::pairs(&sets).enumerate().map(record).collect::<Vec<_>>())?;
        say(&format!("{} bounds written to {}", bounds.len(), path.display()));
    }
    let all = Bounds::of(&sets, &bounds, similarities.as_deref());
    let summary = BoundSummary::of(tagged, &all)?.context("no pairs are left")?;
    match args.json {
        true => terminal::result(&(serde_json::to_string_pretty(&summary)? + "\n")),
        false => {
            let mut page = Page::on(&terminal::output(), args.color);
            show(&summary, &mut page);
            terminal::page(&page)
        }
    }
}

fn record(pair: EncodedPair<'_>, s: Option<f32>, bound: f32) -> Value {
    let mut record = json!({"file": pair.origin.file.display().to_string(), "line": pair.origin.line});
    if let Some(place) = pair.in_set {
        (record["set"], record["chosen"], record["rejected"]) =
            (json!(place.set), json!(place.chosen), json!(place.rejected));
    }
    record["s"] = json!(s.and_then(shortest));
    record["bound"] = json!(Some(bound).filter(|bound| bound.is_finite()).and_then(shortest));
    record["probability"] = json!(sureness(bound.into()));
    record
}

/// Returns the number with the fewest digits that rounds to the same `f32`.
fn shortest(value: f32) -> Option<f64> {
    value.to_string().parse().ok()
}

fn show(summary: &BoundSummary, page: &mut Page) {
    page.labelled("", 0, &format!("{} on {} pairs", settings(&summary.constraint), summary.pairs));
    let Some(bounds) = &summary.bound_deciles else {
        page.labelled("", 0, "No margin is bounded: Bradley-Terry.");
        return;
    };
    page.line("");
    let mut heading = vec!["decile".to_owned()];
    heading.extend(summary.similarity_deciles.is_some().then(|| "s".to_owned()));
    heading.extend(["Δ*", "P = σ(Δ*/2)"].map(str::to_owned));
    let mut rows = vec![heading];
    for (at, bound) in bounds.iter().enumerate() {
        let mut row = vec![format!("{} %", 10 * at)];
        row.extend(summary.similarity_deciles.as_ref().map(|all| format!("{:.3}", all[at])));
        row.extend([number(*bound), sure(sureness(*bound))]);
        rows.push(row);
    }
    page.columns(&rows);
    page.line("");
    page.labelled("", 0, &format!("(Each column is sorted separately.) {LEAST}"));
    let share = |count: usize| percent(count as f64 / summary.pairs as f64);
    page.labelled(
        "",
        0,
        &format!(
            "{} of the pairs have a bound so loose that it rarely acts (P above {}), {} one so tight that \
             little is learned (P below {}), {} none.",
            share(summary.loose.count),
            percent(LOOSE),
            share(summary.tight.count),
            percent(TIGHT),
            share(summary.unbounded)
        ),
    );
}
