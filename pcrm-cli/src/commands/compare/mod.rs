//! `pcrm compare`: trains under each of several constraints with several seeds on the same data, and compares
//! them.

mod arm;
mod kept;
mod probabilities;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{ArgMatches, Args, Command};
use pcrm_core::disk::FolderLock;
use pcrm_core::disk::whole::sweep_own;
use pcrm_rl::{checkpoint, manifest};

use crate::comparison::{ComparisonFile, RunMeasures};
use crate::config;
use crate::numbers::positive;
use crate::progress::say;
use crate::record::column;
use crate::training::TrainingArgs;
use crate::training::reward::{self, KeepArgs, RewardArgs};
use crate::usage::usage;
use arm::Arm;
use probabilities::Probabilities;

/// Options of `pcrm compare`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES, next_display_order = 10)]
pub struct CompareArgs {
    /// Train under this constraint: a name, JSON or a file, optionally with a label before it (tight=..); may
    /// be repeated. The first is the baseline of the comparison [default: none, length_ratio, fixed]
    #[arg(long = "constraint", value_name = "[LABEL=]NAME|JSON|FILE", display_order = 3)]
    pub constraints: Vec<String>,
    /// Train with N seeds, starting at --seed; a seed decides the held-out pairs, random weights and the
    /// order
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = positive::<u64>, display_order = 4)]
    pub seeds: u64,
    /// Read the true probability that the preferred answer is preferred from this column, if it is known
    #[arg(long, value_name = "NAME|/PATH")]
    pub probability_field: Option<String>,
    /// Write the runs, the comparison and its report to this folder; rerun the same command to continue
    #[arg(long, value_name = "DIR", display_order = 5)]
    pub output: PathBuf,
    #[command(flatten)]
    pub training: TrainingArgs,
}

const EXAMPLES: &str = "\
Examples:
  pcrm compare --model qwen2 --data hh.jsonl.gz --eval-split 0.1 --output runs/compared
  pcrm compare --model qwen2 --data hh.jsonl.gz --eval-split 0.1 --seeds 5 --output runs/compared \
   --constraint none --constraint tight='{\"kind\": \"fixed\", \"bound\": 1}' --constraint calibrated
  pcrm eval comparisons runs/compared runs/compared-2";

/// Trains the missing runs, measures them and shows the comparison; `command` and `matches` are the verb's,
/// for each run's config file.
///
/// # Errors
/// Fails if an option is invalid, the folder holds runs with other options, training fails or Ctrl-C
/// interrupts.
pub fn run(args: &CompareArgs, command: &Command, matches: &ArgMatches) -> Result<()> {
    let evaluates = args.training.evaluates();
    usage(evaluates.then_some(()).context("nothing to compare on: expected --eval-split or --eval-data"))?;
    args.training.options()?;
    let arms = usage(Arm::all(&args.constraints))?;
    let mut training = args.training.fetched()?;
    training.reading.columns.elsewhere.extend(args.probability_field.as_deref().map(column));
    let args = &CompareArgs { training, ..args.clone() };
    let held = FolderLock::take(&args.output).context("--output")?;
    sweep_own(&args.output)?;
    let probabilities = match &args.probability_field {
        Some(field) => Some(Probabilities::read(&args.training, field)?),
        None => None,
    };
    let first = args.training.machine.seed;
    let mut runs = Vec::new();
    for seed in first..first + args.seeds {
        for arm in &arms {
            let at = runs.len() + 1;
            say(&format!("\n[{at}/{}] {}, seed {seed}", arms.len() as u64 * args.seeds, arm.label));
            let resolved = resolved(command, matches, args, arm, seed)?;
            runs.push(
                one(args, probabilities.as_ref(), arm, seed, &resolved)
                    .with_context(|| format!("{}, seed {seed}", arm.label))?,
            );
        }
    }
    let labels = arms.into_iter().map(|arm| arm.label).collect();
    held.still_there().context("--output")?;
    ComparisonFile { labels, runs }.finish(&args.output)
}

/// Measures one run, training it first if needed.
fn one(
    args: &CompareArgs,
    probabilities: Option<&Probabilities>,
    arm: &Arm,
    seed: u64,
    resolved: &str,
) -> Result<RunMeasures> {
    let dir = args.output.join(format!("{}-{seed}", arm.label));
    let run = reward_args(args, arm, seed, dir.clone())?;
    let question = reward::question(&run)?;
    if let Some(measured) = kept::read(&dir, &question, args.probability_field.as_deref())? {
        tidy(&dir)?;
        say(&format!("already measured: {}", dir.display()));
        return Ok(measured);
    }
    let trained = reward::train(&run, resolved)?;
    let (eval, scores) = trained.scored(run.training.options()?.trainer.micro_tokens)?;
    let known = probabilities.map(|known| known.of(eval.pairs())).transpose()?;
    let known = args.probability_field.as_deref().zip(known.as_deref());
    let measured = RunMeasures::new(&arm.label, seed, question, &trained.constraint, eval, &scores, known)?;
    kept::write(&measured, &dir)?;
    tidy(&dir)?;
    Ok(measured)
}

/// Removes the checkpoints and the temporary files of a killed process.
fn tidy(dir: &Path) -> Result<()> {
    let _held = FolderLock::take(dir)?;
    sweep_own(dir)?;
    Ok(checkpoint::remove_all(dir)?)
}

fn reward_args(args: &CompareArgs, arm: &Arm, seed: u64, output: PathBuf) -> Result<RewardArgs> {
    let mut training = args.training.clone();
    training.machine.seed = seed;
    let resume = !checkpoint::steps(&output)?.is_empty() || output.join(manifest::FILE).exists();
    Ok(RewardArgs {
        training,
        output,
        resume,
        constraint: arm.constraint.clone(),
        keeping: KeepArgs::least(),
    })
}

/// Returns the config file of one run, as `pcrm reward --config` reads it.
fn resolved(
    command: &Command,
    matches: &ArgMatches,
    args: &CompareArgs,
    arm: &Arm,
    seed: u64,
) -> Result<String> {
    let (Some(verb), Some((_, matches))) = (command.find_subcommand("compare"), matches.subcommand()) else {
        return Ok(String::new());
    };
    let mut all = config::resolved(verb, matches);
    for own in ["seeds", "probability-field"] {
        all = config::without_option(&all, own)?;
    }
    all = config::with_option(&all, "constraint", arm.constraint.as_str())?;
    all = config::with_option(&all, "seed", seed as i64)?;
    config::with_option(
        &all,
        "output",
        args.output.join(format!("{}-{seed}", arm.label)).display().to_string(),
    )
}
