//! Experiments from recipes, as parallel runs of this program with one report: `pcrm study`, and the policies
//! of the quickstart.

mod claim;
mod collect;
mod models;
pub mod recipes;
mod runner;
mod write;

use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Command;
use pcrm_core::data::slice::Slice;
use pcrm_core::disk::FolderLock;
use pcrm_core::disk::whole::sweep_own;
use pcrm_eval::study::recipe::Size;
use pcrm_eval::study::{Job, OwnData, Recipe, StudyPlan};

use crate::config;
use crate::hub;
use crate::interrupt::Interrupted;
use crate::paragraph::paragraph;
use crate::progress::say;
use crate::usage::usage;
use claim::Claim;
use models::HubModels;
use runner::Runner;
pub use write::StudyReport;

/// The user's choices about a study; the defaults are the recipe's full size, seeds and worlds, and one job per
/// core.
#[derive(Debug, Default)]
pub struct Choices {
    /// True for the recipe's smaller sizes.
    pub quick: bool,
    /// The number of seeds.
    pub seeds: Option<u64>,
    /// The number of parallel jobs.
    pub jobs: Option<usize>,
    /// The names of the worlds; empty for the recipe's.
    pub worlds: Vec<String>,
    /// Preference files to run on in place of worlds.
    pub data: Option<OwnData>,
}

/// A study with its size and plan.
pub struct Chosen {
    recipe: Recipe,
    quick: bool,
    seeds: u64,
    jobs: usize,
    plan: StudyPlan,
    left_out: Vec<(String, String)>,
}

/// A completed study.
pub struct Played {
    /// The files of the report.
    pub written: StudyReport,
    /// The number of failed runs.
    pub failed: usize,
}

impl Chosen {
    /// Plans a recipe, given by name or path.
    ///
    /// # Errors
    /// Fails if the recipe cannot be read, a world is unknown or a command lacks an option.
    pub fn of(name: &str, choices: Choices, command: &Command) -> Result<Self> {
        let Choices { quick, seeds, jobs, worlds, data } = choices;
        let mut recipe = usage(recipes::read(name))?;
        usage(recipe.choose_worlds(&worlds).map_err(|message| anyhow!("--worlds: {message}")))?;
        if let Some(mut data) = data {
            // The typed files replace the recipe's, and its shares stay.
            if let Some(of_recipe) = &recipe.data {
                (data.held_out, data.calibration) = (of_recipe.held_out, of_recipe.calibration);
            }
            usage(recipe.use_data(data).map_err(|message| anyhow!("--data: {message}")))?;
        }
        if let Some(data) = &recipe.data {
            usage(are_there(data))?;
        }
        let size = recipe.size(quick);
        if recipe.worlds_of(size).is_empty() {
            return usage(Err(anyhow!("{name}: has no worlds; expected --data with --model, or --worlds")));
        }
        let seeds = seeds.unwrap_or(size.seeds);
        let left_out = usage(checked(&recipe, size, name, command))?;
        let skipped: Vec<String> = left_out.iter().map(|(arm, _)| arm.clone()).collect();
        let plan = StudyPlan::of(&recipe, size, seeds, &skipped);
        let jobs = jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        Ok(Self { recipe, quick, seeds, jobs, plan, left_out })
    }

    /// Runs the missing runs in this folder and writes the report there.
    ///
    /// # Errors
    /// Fails if the folder holds another study or one on files that have changed, a run that others need fails,
    /// or Ctrl-C interrupts.
    pub fn play(&self, output: &Path) -> Result<Played> {
        let held = FolderLock::take(output).context("--output")?;
        sweep_own(output)?;
        let mut claim = Claim::of(output, &self.recipe, self.quick)?;
        say(&self.introduction());
        let models = HubModels::of(&self.plan, claim.inputs())?;
        claim.add(models.inputs());
        let Self { recipe, quick, seeds, plan, left_out, .. } = self;
        let worlds = collect::worlds(recipe, plan)?;
        let study = write::Study { recipe, quick: *quick, seeds: *seeds, plan, left_out, worlds };
        let mut runner = Runner::new(output, plan, &models, self.jobs)?;
        claim.record()?;
        let ended = runner.run(|state| study.write(output, state).map(drop));
        let written = study.write(output, runner.state())?;
        held.still_there().context("--output")?;
        ended?;
        Ok(Played { written, failed: runner.state().failed.len() })
    }

    /// Returns the question and the hypotheses, to print before the runs.
    pub fn introduction(&self) -> String {
        let recipe = &self.recipe;
        let mut text = format!("{}\n", recipe.title);
        text.push_str(&paragraph("Question: ", &recipe.question));
        for (at, hypothesis) in recipe.hypotheses.iter().enumerate() {
            text.push_str(&paragraph(&format!("Hypothesis {}: ", at + 1), hypothesis));
        }
        text.push_str(&paragraph("Primary figure: ", &recipe.primary.words));
        for (arm, why) in &self.left_out {
            text.push_str(&paragraph("Left out: ", &format!("{arm} ({why})")));
        }
        for missing in &recipe.missing {
            text.push_str(&paragraph("Left out: ", missing));
        }
        text.push_str(&format!("{} runs, {} seeds\n", self.plan.jobs.len(), self.seeds));
        text
    }

    /// Returns a list of the runs, one per line.
    pub fn listing(&self) -> String {
        let line = |job: &Job| format!("  {}  ({})\n", job.name, job.verb.join(" "));
        self.plan.jobs.iter().map(line).collect()
    }
}

/// Checks that the files exist, and the model too unless it is one of the Hub.
fn are_there(data: &OwnData) -> Result<()> {
    for file in &data.files {
        let (place, _) = Slice::of(Path::new(file)).context("--data")?;
        let hint = match hub::is_data_set(file) {
            true => {
                "; a study reads local files, such as those that `pcrm data convert` writes of Hub data sets"
            }
            false => "",
        };
        ensure!(place.exists(), "--data {file}: no such file or folder{hint}");
    }
    let model = &data.model;
    ensure!(
        Path::new(model).exists() || hub::is_repository(model),
        "--model {model}: no such folder; expected one, or a repository of the Hub (org/name)"
    );
    Ok(())
}

/// Checks the options of every kind of run. Returns the optional arms that this program cannot run, with the
/// reasons.
fn checked(recipe: &Recipe, size: &Size, name: &str, command: &Command) -> Result<Vec<(String, String)>> {
    let one = StudyPlan::of(recipe, size, 1, &[]);
    let first = one.jobs.first().map(|job| job.world.clone());
    let mut left_out: Vec<(String, String)> = Vec::new();
    for job in one.jobs.iter().filter(|job| Some(&job.world) == first.as_ref()) {
        let of_arm = job.arm.clone().unwrap_or_default();
        if left_out.iter().any(|(arm, _)| *arm == of_arm) {
            continue;
        }
        match config::check(command, &job.verb, &job.options) {
            Ok(()) => {}
            Err(error) if job.optional => left_out.push((of_arm, format!("{error:#}"))),
            Err(error) => {
                let arm = job.arm.as_ref().map_or(String::new(), |arm| format!(", arm {arm:?}"));
                return Err(error.context(format!("{name}: {}{arm}", job.verb.join(" "))));
            }
        }
    }
    Ok(left_out)
}

/// Returns the error of a stopped study.
fn stopped(done: usize, all: usize) -> anyhow::Error {
    let message = format!("stopped after {done} of {all} runs; rerun the same command to continue");
    Interrupted { message }.into()
}
