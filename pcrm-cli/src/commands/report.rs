//! `pcrm report`: compares training runs, in a table and on one page.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ColorChoice, ValueEnum};
use pcrm_rl::metrics;
use toml::Table;

use crate::page::Page;
use crate::progress::say;
use crate::report::curves::Curves;
use crate::report::runs::{Over, ShownRun, document, show};
use crate::report::{self, plot};
use crate::terminal;
use crate::training::folder::name_of;
use crate::usage::usage;

/// Options of `pcrm report`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ReportArgs {
    /// Read these runs: folders that a training command wrote, finished or not
    #[arg(value_name = "RUN", required = true, num_args = 1..)]
    runs: Vec<PathBuf>,
    /// Also write a page to this file, with the runs' curves in the same plots
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Draw curves over this axis
    #[arg(long, value_name = "AXIS", default_value = "steps", requires = "output")]
    over: Axis,
    /// Show these metrics only, by their names in metrics.jsonl
    #[arg(long, value_name = "NAME", num_args = 1..)]
    metrics: Vec<String>,
    /// Use colours; auto: on a terminal unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
}

/// The axis of the curves.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Axis {
    /// Steps.
    Steps,
    /// Tokens computed.
    Tokens,
    /// Minutes in steps, without evaluations and breaks.
    Time,
}

const EXAMPLES: &str = "\
Examples:
  pcrm report runs/none runs/fixed
  pcrm report runs/ppo-* --over tokens --output ppo.html
  pcrm report runs/none runs/fixed --metrics eval_loss eval_accuracy";

/// Prints the table of the runs and writes their page.
///
/// # Errors
/// Fails if a folder holds no training run, a metric is in no run, or there are more runs than colours.
pub fn run(args: &ReportArgs) -> Result<()> {
    usage(args.check())?;
    let runs = args.runs.iter().map(|dir| read(dir)).collect::<Result<Vec<_>>>()?;
    if let Some(name) = args.metrics.iter().find(|name| !runs.iter().any(|run| run.curves.has(name))) {
        let mut known: Vec<&str> = runs.iter().flat_map(|run| run.curves.all_names()).collect();
        known.sort_unstable();
        known.dedup();
        return usage(Err(anyhow::anyhow!(
            "--metrics {name}: is in no run; expected some of {}",
            known.join(", ")
        )));
    }
    let mut page = Page::on(&terminal::output(), args.color);
    show(&runs, &args.metrics, &mut page);
    terminal::page(&page)?;
    if let Some(path) = &args.output {
        let over = match args.over {
            Axis::Steps => Over::Steps,
            Axis::Tokens => Over::Tokens,
            Axis::Time => Over::Minutes,
        };
        let page = document(&runs, &args.metrics, over);
        ensure!(report::write(path, Ok(page)), "--output {}: no page was written", path.display());
        say(&format!("report: {}", path.display()));
    }
    Ok(())
}

impl ReportArgs {
    fn check(&self) -> Result<()> {
        let most = plot::SERIES.len();
        ensure!(
            self.output.is_none() || self.runs.len() <= most,
            "{} runs on one page; expected at most {most}, so that their colours differ",
            self.runs.len()
        );
        if let Some(path) = &self.output {
            ensure!(
                !path.is_dir(),
                "--output {}: is a folder; expected a file such as runs.html",
                path.display()
            );
        }
        Ok(())
    }
}

/// Reads the metrics and options of a run.
fn read(dir: &Path) -> Result<ShownRun> {
    let metrics = dir.join("metrics.jsonl");
    if !metrics.exists() {
        let hint = match dir.join("study.json").exists() {
            true => "holds a study; rerun its `pcrm study` command, which rebuilds the page",
            false => "holds no metrics.jsonl; expected the folder of a training run",
        };
        anyhow::bail!("{}: {hint}", dir.display());
    }
    let curves = Curves::new(metrics::read(&metrics)?);
    let config = dir.join("config.toml");
    let options: Table = match fs::read_to_string(&config) {
        Ok(text) => text.parse().with_context(|| config.display().to_string())?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Table::new(),
        Err(error) => return Err(error).with_context(|| config.display().to_string()),
    };
    Ok(ShownRun { name: name_of(dir), curves, options })
}
