//! `pcrm inspect`: checks data against a model before training.

mod bars;
mod cost;
mod examples;
mod gather;
mod report;
mod show;
mod summaries;
mod tokens;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ColorChoice};
use pcrm_core::data::survey::Severity;

use crate::columns::of_both_sets;
use crate::dataset::Reading;
use crate::hub::Hub;
use crate::machine::Machine;
use crate::numbers::{positive, whole};
use crate::page::Page;
use crate::progress;
use crate::terminal::{self, ReaderGone};
use report::Inspection;

/// Options of `pcrm inspect`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, mut_arg("limit", of_both_sets))]
pub struct InspectArgs {
    /// Inspect for the model in this Hugging Face folder or Hub repository (org/name), the one to be trained
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Inspect these preference files or folders (JSONL, JSON, Parquet) or Hub data sets (org/name,
    /// org/name:split)
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Look for the prompts and pairs of these evaluation files in --data
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    eval_data: Vec<PathBuf>,
    /// Show the bounds of this prior constraint: a name, JSON such as '{"kind": "fixed", "bound": 3}', or a
    /// JSON file
    #[arg(long, value_name = "NAME|JSON|FILE", default_value = "none")]
    constraint: String,
    /// Show N pairs as tokens, evenly spread over the data
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = whole::<usize>)]
    examples: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Use colours; auto: on a terminal unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
    #[command(flatten)]
    steps: StepArgs,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    hub: Hub,
    #[command(flatten)]
    machine: Machine,
}

/// Options for the measured steps.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cost")]
struct StepArgs {
    /// Skip the time and memory measurement
    #[arg(long)]
    no_measure: bool,
    /// Measure with random weights: --model needs only config.json and a tokenizer
    #[arg(long)]
    random_init: bool,
    /// Pairs per step, or prompts for ranked answers
    #[arg(long, value_name = "PAIRS", default_value_t = 16, value_parser = positive::<usize>)]
    batch: usize,
    /// Compute at most N tokens at once
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = positive::<usize>)]
    micro_tokens: usize,
}

const EXAMPLES: &str = "\
Examples:
  pcrm inspect --model qwen2 --data train.jsonl --constraint length_ratio
  pcrm inspect --model qwen2 --data train.jsonl --eval-data test.jsonl --max-length 512 --batch 8
  pcrm inspect --model qwen2 --data train.jsonl --examples 10 --no-measure --color always | less -R
  pcrm inspect --model qwen2 --data train.jsonl --json --no-measure | jq '.findings[] | select(.severity != \"note\")'

Exit codes: 0 for at most notes; 1 for warnings; 2 for errors, including the case that nothing could be inspected \
(a file that cannot be read, invalid options: then the message is on standard error and standard output is \
empty).";

/// Inspects the data and prints the inspection; the exit code is the gravest severity of the findings.
pub fn run(args: &InspectArgs) -> ExitCode {
    let inspected = gather::gather(args).and_then(|inspection| {
        print(args, &inspection)?;
        Ok(inspection.severity)
    });
    match inspected {
        Ok(None | Some(Severity::Note)) => ExitCode::SUCCESS,
        Ok(Some(Severity::Warning)) => ExitCode::from(1),
        Ok(Some(Severity::Error)) => ExitCode::from(2),
        Err(error) => {
            progress::fail(&error);
            ExitCode::from(2)
        }
    }
}

fn print(args: &InspectArgs, inspection: &Inspection) -> Result<()> {
    let printed = match args.json {
        true => terminal::result(&(serde_json::to_string_pretty(inspection)? + "\n")),
        false => {
            let mut page = Page::on(&terminal::output(), args.color);
            show::show(inspection, &mut page);
            terminal::page(&page)
        }
    };
    match printed {
        // The exit code still depends on the findings.
        Err(error) if error.is::<ReaderGone>() => Ok(()),
        printed => printed,
    }
}
