//! `pcrm study`: runs an experiment from a recipe as parallel runs of this program, with one report.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Command};
use pcrm_eval::study::OwnData;

use crate::numbers::positive;
use crate::progress::say;
use crate::study::{Choices, Chosen, recipes};
use crate::terminal;
use crate::usage::usage;

/// Options of `pcrm study`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct StudyArgs {
    /// Run this study: a name from --list, or a TOML file of the same form
    #[arg(value_name = "RECIPE", required_unless_present_any = ["list", "show"])]
    recipe: Option<String>,
    /// Write the runs, the results and the report to this folder; rerun the same command to continue
    #[arg(long, value_name = "DIR", required_unless_present_any = ["list", "show", "plan"])]
    output: Option<PathBuf>,
    /// Run the smaller sizes of the recipe
    #[arg(long)]
    quick: bool,
    /// Run N seeds, starting at 0 [default: the recipe's]
    #[arg(long, value_name = "N", value_parser = positive::<u64>)]
    seeds: Option<u64>,
    /// Run in these worlds; NAME:PAIRS is a world with its own number of training pairs [default: the recipe's]
    #[arg(long, value_name = "NAME[:PAIRS]", num_args = 1..)]
    worlds: Vec<String>,
    /// Run on each of these preference files in place of a world. Their true reward is unknown: reward models and
    /// DPO are measured on held-out pairs, and what needs a true reward is left out
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "model", conflicts_with = "worlds")]
    data: Vec<String>,
    /// With --data, train reward models and policies from the model in this folder or Hub repository
    #[arg(long, value_name = "DIR", requires = "data")]
    model: Option<String>,
    /// With --data, start from random weights in the shape of --model
    #[arg(long, requires = "data")]
    random_init: bool,
    /// Run N jobs in parallel, each on one thread [default: one per core]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    jobs: Option<usize>,
    /// List the built-in studies
    #[arg(long, exclusive = true)]
    list: bool,
    /// Print a built-in recipe, as a starting point
    #[arg(long, value_name = "NAME", exclusive = true)]
    show: Option<String>,
    /// Print the planned runs without running them
    #[arg(long)]
    plan: bool,
}

const EXAMPLES: &str = "\
Examples:
  pcrm study --list
  pcrm study ablation --quick --output runs/ablation
  pcrm study dpo --worlds questions --output runs/dpo
  pcrm study preferences --data pairs.jsonl --model org/model --output runs/mine
  pcrm study --show strength > mine.toml; pcrm study mine.toml --seeds 3 --output runs/mine";

/// Runs the missing runs of a study and writes its report.
///
/// # Errors
/// Fails if the recipe cannot be read, a command lacks an option, the folder holds another study, a run fails
/// or Ctrl-C interrupts.
pub fn run(args: &StudyArgs, command: &Command) -> Result<()> {
    if args.list {
        return terminal::result(&recipes::list()?);
    }
    if let Some(name) = &args.show {
        let text = recipes::built_in(name).with_context(|| format!("--show {name}: {}", recipes::known()));
        return terminal::result(usage(text)?);
    }
    let name = args.recipe.as_deref().context("RECIPE")?;
    let of_model = |model: &String| OwnData::new(args.data.clone(), model.clone(), args.random_init);
    let choices = Choices {
        quick: args.quick,
        seeds: args.seeds,
        jobs: args.jobs,
        worlds: args.worlds.clone(),
        data: args.model.as_ref().map(of_model),
    };
    let study = Chosen::of(name, choices, command)?;
    if args.plan {
        return terminal::result(&(study.introduction() + &study.listing()));
    }
    let output = args.output.as_deref().context("--output")?;
    let played = study.play(output)?;
    terminal::result(&played.written.text)?;
    say(&format!("report: {}", output.join(crate::report::FILE).display()));
    match played.failed {
        0 => Ok(()),
        failed => {
            bail!("{failed} runs failed; the report lists them, and rerunning the same command retries them")
        }
    }
}
