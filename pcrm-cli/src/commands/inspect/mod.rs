//! `pcrm inspect`: what data are like for a model, before anything is trained on them.

mod bars;
mod cost;
mod examples;
mod gather;
mod page;
mod report;
mod show;
mod summaries;
mod tokens;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ColorChoice};
use pcrm_core::data::survey::Severity;

use crate::dataset::Reading;
use crate::hub::Hub;
use crate::machine::Machine;
use page::Page;
use report::Inspection;

/// Options of `pcrm inspect`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct InspectArgs {
    /// Hugging Face folder of the model that is to be trained, or a repository (org/name)
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Preference files or folders (JSONL, JSON, Parquet), or repositories (org/name, org/name:split)
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Preference files that are to be evaluated on: looked for in --data
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    eval_data: Vec<PathBuf>,
    /// Prior constraint whose bounds are told: a name, JSON such as '{"kind": "fixed", "bound": 3}', or a JSON file that
    /// holds such
    #[arg(long, value_name = "NAME|JSON|FILE", default_value = "none")]
    constraint: String,
    /// Pairs that are shown as tokens, evenly spread over the data
    #[arg(long, value_name = "N", default_value_t = 3)]
    examples: usize,
    /// Print one JSON document instead
    #[arg(long)]
    json: bool,
    /// Colours: auto means on a terminal unless NO_COLOR is set
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

/// What is measured.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cost")]
struct StepArgs {
    /// Measure no training steps: neither time nor memory are told
    #[arg(long)]
    no_measure: bool,
    /// Measure with random weights: --model needs config.json and a tokenizer alone
    #[arg(long)]
    random_init: bool,
    /// Pairs per step; of ranked answers, prompts
    #[arg(long, value_name = "PAIRS", default_value_t = 16, value_parser = positive)]
    batch: usize,
    /// The most tokens computed at once
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = positive)]
    micro_tokens: usize,
}

const EXAMPLES: &str = "\
Examples:
  pcrm inspect --model qwen2 --data train.jsonl --constraint length_ratio
  pcrm inspect --model qwen2 --data train.jsonl --eval-data test.jsonl --max-length 512 --batch 8
  pcrm inspect --model qwen2 --data train.jsonl --examples 10 --no-measure --color always | less -R
  pcrm inspect --model qwen2 --data train.jsonl --json --no-measure | jq '.findings[] | select(.severity != \"note\")'

Exit codes: 0 if nothing but notes was found; 1 if there are warnings; 2 if there are errors, also where nothing
could be inspected: a file that cannot be read, options that are wrong (then the message is on standard error, and
nothing on standard output).";

/// Inspects, prints, and says by its exit code how grave the findings are.
pub fn run(args: &InspectArgs) -> ExitCode {
    let told = gather::gather(args).and_then(|inspection| {
        print(args, &inspection)?;
        Ok(inspection.severity)
    });
    match told {
        Ok(None | Some(Severity::Note)) => ExitCode::SUCCESS,
        Ok(Some(Severity::Warning)) => ExitCode::from(1),
        Ok(Some(Severity::Error)) => ExitCode::from(2),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn print(args: &InspectArgs, inspection: &Inspection) -> Result<()> {
    let printed = match args.json {
        true => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(inspection)?),
        false => {
            let mut page = Page::on(&io::stdout(), args.color);
            show::show(inspection, &mut page);
            io::stdout().write_all(page.text().as_bytes())
        }
    };
    match printed {
        // The reader went away, as `head` does; what was found still counts.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected a positive number".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}; expected a positive number")),
    }
}
