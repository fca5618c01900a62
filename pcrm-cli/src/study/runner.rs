//! Runs the jobs of a plan as parallel processes of this program, and records completed jobs.

mod place;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pcrm_core::disk::{sealed, whole};
use pcrm_eval::study::{Job, StudyPlan};
use pcrm_rl::checkpoint;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use self::place::{begun, last_words, own_log, placed, remove, wait_for};
use super::models::HubModels;
use super::stopped;
use crate::children::{self, Started};
use crate::interrupt;
use crate::progress::say;

/// The subfolder for options and completion marks of jobs.
const JOBS: &str = "jobs";
/// The interval for polling child processes.
const PAUSE: Duration = Duration::from_millis(30);
/// The time limit for a process of a killed study to leave a folder.
const PATIENCE: Duration = Duration::from_secs(20);

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Running,
    Done,
    Failed,
}

/// The progress of a plan's jobs.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// True for completed jobs, by index in the plan.
    pub done: Vec<bool>,
    /// The failed jobs with their reasons.
    pub failed: Vec<(String, String)>,
}

impl State {
    /// Returns the number of completed jobs.
    pub fn count(&self) -> usize {
        self.done.iter().filter(|done| **done).count()
    }
}

/// The mark of a completed job.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// The options of the job.
    options: Table,
    /// The duration of its last run, in seconds.
    seconds: f64,
}

/// Runs the jobs of a plan.
pub struct Runner<'a> {
    output: &'a Path,
    plan: &'a StudyPlan,
    models: &'a HubModels,
    at_once: usize,
    stages: Vec<Stage>,
    state: State,
    interrupted: &'static AtomicBool,
}

/// A running process.
struct Process {
    job: usize,
    started: Started,
    began: Instant,
    log: PathBuf,
}

/// The processes that are running. Dropping them stops them together.
#[derive(Default)]
struct AtWork(Vec<Process>);

impl Drop for AtWork {
    fn drop(&mut self) {
        children::stop(self.0.iter().map(|process| &process.started));
    }
}

impl<'a> Runner<'a> {
    /// Opens a plan in a folder and finds its completed jobs.
    ///
    /// # Errors
    /// Fails if a job was run with other options or its mark cannot be read.
    pub fn new(output: &'a Path, plan: &'a StudyPlan, models: &'a HubModels, at_once: usize) -> Result<Self> {
        let mut stages = vec![Stage::Waiting; plan.jobs.len()];
        for (job, stage) in plan.jobs.iter().zip(&mut stages) {
            let path = mark_of(output, job);
            if !path.exists() {
                continue;
            }
            let (mark, _): (Mark, _) = sealed::read(&path)?;
            if let Some(option) = differs(&mark.options, &job.options) {
                let shown =
                    |table: &Table| table.get(&option).map_or("not given".to_owned(), Value::to_string);
                anyhow::bail!(
                    "{}: was run with another --{option} ({}, now {}); name another --output",
                    output.join(&job.name).display(),
                    shown(&mark.options),
                    shown(&job.options)
                );
            }
            if output.join(&job.name).exists() {
                *stage = Stage::Done;
            }
        }
        let done = stages.iter().map(|stage| *stage == Stage::Done).collect();
        let state = State { done, ..State::default() };
        Ok(Self { output, plan, models, at_once, stages, state, interrupted: interrupt::flag()? })
    }

    /// Returns the progress of the jobs.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Runs all missing jobs; `report` is called whenever all jobs of a world and seed have ended.
    ///
    /// # Errors
    /// Fails on Ctrl-C, if a process cannot be started, if a job that all others of its seed need fails, or
    /// if `report` fails.
    pub fn run(&mut self, mut report: impl FnMut(&State) -> Result<()>) -> Result<()> {
        let before = self.state.count();
        if before > 0 {
            say(&format!("{before} of {} runs are done", self.plan.jobs.len()));
        }
        let began = Instant::now();
        let mut work = AtWork::default();
        let at_work = &mut work.0;
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                // The processes are stopped as they are dropped.
                return Err(stopped(self.state.count(), self.plan.jobs.len()));
            }
            while at_work.len() < self.at_once {
                let Some(job) = self.next() else { break };
                at_work.push(self.start(job)?);
            }
            if at_work.is_empty() {
                return Ok(());
            }
            let mut ended = VecDeque::new();
            for (at, process) in at_work.iter().enumerate() {
                if let Some(status) = process.started.ended().context("a run")? {
                    ended.push_front((at, status));
                }
            }
            if ended.is_empty() {
                std::thread::sleep(PAUSE);
            }
            for (at, status) in ended {
                let process = at_work.swap_remove(at);
                if self.interrupted.load(Ordering::Relaxed) {
                    // Ctrl-C also reaches the child processes of a terminal, so they have not failed.
                    continue;
                }
                self.ended(&process, status.success())?;
                self.report(&process, began, before);
                if self.is_through(process.job) {
                    report(&self.state)?;
                }
            }
        }
    }

    /// Returns the first job whose needs are met.
    fn next(&mut self) -> Option<usize> {
        for at in 0..self.stages.len() {
            if self.stages[at] != Stage::Waiting {
                continue;
            }
            let needs = &self.plan.jobs[at].needs;
            if needs.iter().any(|need| self.stages[*need] == Stage::Failed) {
                self.stages[at] = Stage::Failed;
                continue;
            }
            if needs.iter().all(|need| self.stages[*need] == Stage::Done) {
                return Some(at);
            }
        }
        None
    }

    fn start(&mut self, at: usize) -> Result<Process> {
        let job = &self.plan.jobs[at];
        let place = self.output.join(&job.name);
        let options = self.output.join(JOBS).join(format!("{}.toml", job.name));
        fs::create_dir_all(whole::folder_of(&options)).context("--output")?;
        fs::create_dir_all(whole::folder_of(&place)).context("--output")?;
        let log = options.with_extension("log");
        let messages = own_log(&log)?;
        let is_folder = place.extension().is_none_or(|ending| ending != "jsonl" && ending != "json");
        if is_folder {
            wait_for(&place)?;
        }
        let resume = job.resumes && is_folder && begun(&place)?;
        if !resume {
            // Remove the remains of an interrupted run that cannot be resumed.
            remove(&place)?;
            remove(&place.with_extension("jsonl.part"))?;
        }
        let text = toml::to_string(&placed(&self.models.pinned(&job.options), self.output))?;
        whole::write(&options, text.as_bytes())?;
        let mut command = Command::new(std::env::current_exe().context("the path of this program")?);
        command.args(&job.verb).arg("--config").arg(&options).args(resume.then_some("--resume"));
        command.env("RAYON_NUM_THREADS", "1").env("OMP_NUM_THREADS", "1");
        command.stdout(Stdio::null()).stderr(messages);
        let started = Started::new(&mut command);
        let started = started.with_context(|| format!("starting {}", job.verb.join(" ")))?;
        self.stages[at] = Stage::Running;
        Ok(Process { job: at, started, began: Instant::now(), log })
    }

    fn ended(&mut self, process: &Process, well: bool) -> Result<()> {
        let job = &self.plan.jobs[process.job];
        if well {
            let place = self.output.join(&job.name);
            ensure!(place.exists(), "{}: the run wrote no output", place.display());
            if place.is_dir() && job.resumes {
                checkpoint::remove_all(&place)?;
            }
            let seconds = process.began.elapsed().as_secs_f64();
            sealed::write(&mark_of(self.output, job), &Mark { options: job.options.clone(), seconds })?;
            self.stages[process.job] = Stage::Done;
            self.state.done[process.job] = true;
            return Ok(());
        }
        self.stages[process.job] = Stage::Failed;
        let reason = last_words(&process.log);
        ensure!(job.arm.is_some(), "{}: {reason}", job.name);
        self.state.failed.push((job.name.clone(), reason));
        Ok(())
    }

    fn report(&self, process: &Process, began: Instant, before: usize) {
        let (job, all) = (&self.plan.jobs[process.job], self.plan.jobs.len());
        let done = self.state.count();
        let each = began.elapsed().as_secs_f64() / (done - before).max(1) as f64;
        let left = each * (all - done) as f64 / 60.0;
        let seconds = process.began.elapsed().as_secs_f64();
        match self.stages[process.job] {
            Stage::Failed => {
                let reason = self.state.failed.last().map_or("", |(_, reason)| reason.as_str());
                say(&format!("[{done}/{all}] {} failed: {reason}", job.name));
            }
            _ => say(&format!("[{done}/{all}] {}: {seconds:.1} s; about {left:.0} min left", job.name)),
        }
    }

    /// Returns true if all jobs of this job's world and seed have ended.
    fn is_through(&self, job: usize) -> bool {
        let of = |at: usize| (&self.plan.jobs[at].world, self.plan.jobs[at].seed);
        let open = |at: usize| matches!(self.stages[at], Stage::Waiting | Stage::Running);
        !(0..self.stages.len()).any(|at| of(at) == of(job) && open(at))
    }
}

fn mark_of(output: &Path, job: &Job) -> PathBuf {
    output.join(JOBS).join(format!("{}.done.json", job.name))
}

/// Returns the first option that differs between two tables.
fn differs(before: &Table, now: &Table) -> Option<String> {
    let keys = before.keys().chain(now.keys());
    keys.into_iter().find(|key| before.get(*key) != now.get(*key)).cloned()
}
