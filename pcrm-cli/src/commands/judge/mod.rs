//! `pcrm judge`: compares the answers of policies pair by pair with a judge.

mod answers;
mod earlier;
mod judges;
mod page;
mod result;
mod sampled;
mod service;
mod show;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use pcrm_core::disk::{FolderLock, whole};
use pcrm_eval::Bootstrap;
use pcrm_rl::judge::Kept;

use crate::generation::{PromptArgs, SamplingArgs};
use crate::hub::Hub;
use crate::machine::Machine;
use crate::numbers::{positive, real, whole as whole_number};
use crate::progress::say;
use crate::quantize::QuantizeArgs;
use crate::report;
use crate::terminal;
use crate::usage::usage;

use answers::{Named, Policy, matched};
use judges::{Judging, Panel};
use result::Judged;

/// The file of all verdicts in `--output`.
const VERDICTS: &str = "verdicts.jsonl";
/// The file of all figures in `--output`.
const RESULT: &str = "result.json";

/// Options of `pcrm judge`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct JudgeArgs {
    /// Compare the answers in these JSONL files, as written by pcrm generate (prompt and completion, output
    /// or response), optionally with a label before a file (dpo=answers.jsonl)
    #[arg(long, value_name = "[LABEL=]FILE", num_args = 1.., action = clap::ArgAction::Append)]
    answers: Vec<String>,
    /// Compare the answers of this language model or PEFT adapter, sampled into --output; may be repeated
    #[arg(long, value_name = "[LABEL=]DIR", action = clap::ArgAction::Append)]
    model: Vec<String>,
    /// Judge with openai[:MODEL], reward:SOURCE (model:DIR, a rule, a server), gold, replay:FILE,
    /// command:CMD, or JSON
    #[arg(long, value_name = "JUDGE")]
    judge: String,
    /// Judge with this one too and measure the agreement of judges; may be repeated
    #[arg(long, value_name = "JUDGE", action = clap::ArgAction::Append)]
    against: Vec<String>,
    /// Measure agreement with the human verdicts in this file: prompt, first, second, verdict
    #[arg(long, value_name = "FILE")]
    human: Option<PathBuf>,
    #[command(flatten)]
    service: Service,
    /// Keep paid replies in this folder [default: pcrm/verdicts in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Draw N bootstrap samples of prompts for intervals; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = whole_number::<usize>)]
    bootstrap: usize,
    /// Write to this folder: verdicts.jsonl (readable by replay), result.json and report.html; it may hold an
    /// earlier result of the same policies and judges only
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    hub: Hub,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    storage: QuantizeArgs,
}

/// The service for judges of the kind `openai`, and its budgets.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Language models as judges")]
pub struct Service {
    /// Use this model [default: OPENAI_MODEL of the environment]
    #[arg(long, value_name = "NAME")]
    judge_model: Option<String>,
    /// Use the server at this address (without /chat/completions) [default: OPENAI_BASE_URL of the
    /// environment, or https://api.openai.com/v1]
    #[arg(long, value_name = "URL")]
    judge_url: Option<String>,
    /// Use this prompt template: alpaca_eval (the default), mt_bench, dialogue, summary, or a file; several
    /// act as separate judges
    #[arg(long, value_name = "NAME|FILE", action = clap::ArgAction::Append)]
    template: Vec<String>,
    /// Send this key; it is never written to a file [default: OPENAI_API_KEY of the environment, which other
    /// users cannot see in the process list]
    #[arg(long, value_name = "KEY", hide_default_value = true)]
    api_key: Option<String>,
    /// Keep N requests in flight
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    concurrency: Option<usize>,
    /// Send at most N requests in this call, including retries
    #[arg(long, value_name = "N", value_parser = positive::<u64>)]
    max_calls: Option<u64>,
    /// Spend at most N tokens in this call, input and output together
    #[arg(long, value_name = "N", value_parser = positive::<u64>)]
    max_spent_tokens: Option<u64>,
    /// Spend at most this much money in this call, in the currency of the prices
    #[arg(long, value_name = "X", value_parser = real, requires = "input_price", requires = "output_price")]
    max_cost: Option<f64>,
    /// Price of a million input tokens
    #[arg(long, value_name = "X", value_parser = real)]
    input_price: Option<f64>,
    /// Price of a million output tokens
    #[arg(long, value_name = "X", value_parser = real)]
    output_price: Option<f64>,
}

const EXAMPLES: &str = "\
Examples:
  pcrm judge --answers dpo.jsonl sft.jsonl --judge openai:gpt-4o --template dialogue --max-calls 1000 \
   --output runs/judged
  pcrm judge --answers a.jsonl b.jsonl c.jsonl --judge reward:model:runs/rm
  pcrm judge --answers a.jsonl b.jsonl --judge openai --judge-url http://localhost:8000/v1 --judge-model qwen \
   --template mt_bench --template alpaca_eval --human verdicts.jsonl
  pcrm judge --model runs/ppo --model runs/sft --data prompts.jsonl --max-tokens 64 --judge gold --output runs/judged

Every pair of answers is judged in both orders; contradicting verdicts count as a tie. Identical answers are a tie \
without asking. Replies of paid judges are kept as they arrive: rerunning the same command continues where it \
stopped and never pays twice for a reply. The exit code is 1 if a budget is spent.";

/// Judges the answers, and prints and writes the verdicts.
///
/// # Errors
/// Fails if an option is invalid, the answers share no prompt, a judge cannot continue or Ctrl-C interrupts.
pub fn run(args: &JudgeArgs) -> Result<()> {
    let mut panel = usage(args.check())?;
    let _held = args.output.as_ref().map(|dir| FolderLock::take(dir)).transpose().context("--output")?;
    let cache = match &args.cache {
        Some(dir) => dir.clone(),
        None => {
            dirs::cache_dir().context("this user has no cache folder; use --cache DIR")?.join("pcrm/verdicts")
        }
    };
    if let Some(dir) = &args.output {
        usage(earlier::check(dir, &cache, &args.files(), &panel))?;
    }
    let mut policies = Vec::new();
    for named in args.named() {
        policies.push(match named.option {
            "--model" => sampled::policy(args, &named)?,
            _ => Policy::read(named.label, &named.path)?,
        });
    }
    let field = matched(&policies, args.prompts.limit())?;
    field.remarks(&policies).iter().for_each(|remark| say(remark));
    let mut judging = Judging { args, field: &field, kept: Kept::open(&cache).context("--cache")? };
    let verdicts = panel.judge(&mut judging)?;
    let bootstrap = Bootstrap { resamples: args.bootstrap, seed: args.machine.seed, ..Bootstrap::default() };
    let judged = Judged::of(&policies, &field, &verdicts, &bootstrap)?;
    if let Some(dir) = &args.output {
        // The result comes first: it says whose the verdicts are.
        whole::write_json(&dir.join(RESULT), &judged)?;
        whole::write(&dir.join(VERDICTS), result::lines(&policies, &field, &verdicts)?.as_bytes())?;
        report::write(&dir.join(report::FILE), Ok(page::document(&judged, &policies, &field, &verdicts)));
        say(&format!("verdicts, figures and report: {}", dir.display()));
    }
    match args.json {
        true => terminal::result(&(serde_json::to_string_pretty(&judged)? + "\n")),
        false => terminal::result(&show::text(&judged)),
    }
}

impl JudgeArgs {
    /// Returns the policies as the options name them.
    fn named(&self) -> Vec<Named> {
        let files = self.answers.iter().map(|text| Named::file(text));
        files.chain(self.model.iter().map(|text| Named::model(text))).collect()
    }

    /// Returns the labels of the policies and the files of their answers.
    fn files(&self) -> Vec<(String, PathBuf)> {
        let file = |named: Named| match (named.option, &self.output) {
            ("--model", Some(output)) => (named.label.clone(), sampled::file(output, &named.label)),
            _ => (named.label, named.path),
        };
        self.named().into_iter().map(file).collect()
    }

    /// Checks the options and returns the judges.
    fn check(&self) -> Result<Panel> {
        let policies = self.answers.len() + self.model.len();
        ensure!(
            policies >= 2,
            "{policies} policies to compare; expected at least two of --answers and --model"
        );
        if self.model.is_empty() {
            ensure!(!self.prompts.is_given(), "--prompt and --data have no effect without --model");
            let quantised = self.storage.is_given().then_some("--quantize");
            if let Some(option) = self.prompts.reading().or(self.sampling.changed()).or(quantised) {
                bail!("{option} has no effect without --model");
            }
        } else {
            self.prompts.check()?;
            self.sampling.check()?;
            ensure!(self.output.is_some(), "--model: expected --output, a folder for the answers");
        }
        for (name, value) in [
            ("max-cost", self.service.max_cost),
            ("input-price", self.service.input_price),
            ("output-price", self.service.output_price),
        ] {
            if let Some(value) = value.filter(|value| !(*value >= 0.0 && value.is_finite())) {
                bail!("--{name} {value}: expected a number, 0 or more");
            }
        }
        answers::check_labels(&self.named())?;
        Panel::of(self)
    }
}
