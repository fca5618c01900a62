//! Runs the jobs of a plan as processes of this program, some side by side, and keeps what is done.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pcrm_core::disk::{FolderLock, sealed, whole};
use pcrm_eval::study::plan::ROOT;
use pcrm_eval::study::{Job, Plan};
use pcrm_rl::{checkpoint, manifest};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::stopped;
use crate::interrupt;
use crate::progress::say;

/// The folder of options and marks of jobs, in that of the study.
const JOBS: &str = "jobs";
/// The pause between two looks at children.
const PAUSE: Duration = Duration::from_millis(30);
/// The time that a process of a killed study has to leave a folder.
const PATIENCE: Duration = Duration::from_secs(20);
/// The letters of a failed run's messages that are kept.
const MESSAGE: usize = 600;

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
    /// True where a job is done, by place in the plan.
    pub done: Vec<bool>,
    /// Jobs that failed, with the reason.
    pub failed: Vec<(String, String)>,
}

impl State {
    /// The number of jobs that are done.
    pub fn count(&self) -> usize {
        self.done.iter().filter(|done| **done).count()
    }
}

/// The mark of a job that is done.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// Its options.
    options: Table,
    /// The seconds that it took, the last time.
    seconds: f64,
}

/// Runs jobs.
pub struct Runner<'a> {
    output: &'a Path,
    plan: &'a Plan,
    at_once: usize,
    stages: Vec<Stage>,
    state: State,
    interrupted: &'static AtomicBool,
}

/// A process at work.
struct Process {
    job: usize,
    child: Child,
    began: Instant,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process stops by itself when its input ends; one that does not is ended.
        drop(self.child.stdin.take());
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if began.elapsed() > PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl<'a> Runner<'a> {
    /// Takes up a plan in a folder: finds what is done.
    ///
    /// # Errors
    /// A run that was done with other options; marks that cannot be read.
    pub fn new(output: &'a Path, plan: &'a Plan, at_once: usize) -> Result<Self> {
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
        let mut runner =
            Self { output, plan, at_once, stages, state: State::default(), interrupted: interrupt::flag()? };
        runner.state.done = runner.stages.iter().map(|stage| *stage == Stage::Done).collect();
        Ok(runner)
    }

    /// The progress of the jobs.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Runs all jobs that are not done; `report` is called whenever a seed of a world is through.
    ///
    /// # Errors
    /// Ctrl-C; processes that cannot be started; a run that all others of its seed need fails; those of `report`.
    pub fn run(&mut self, mut report: impl FnMut(&State) -> Result<()>) -> Result<()> {
        let before = self.state.count();
        if before > 0 {
            say(&format!("{before} of {} runs are done", self.plan.jobs.len()));
        }
        let began = Instant::now();
        let mut at_work: Vec<Process> = Vec::new();
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                // Dropping a process stops it: inputs are closed first, so that all stop at once.
                at_work.iter_mut().for_each(|process| drop(process.child.stdin.take()));
                drop(at_work);
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
            for (at, process) in at_work.iter_mut().enumerate() {
                if let Some(status) = process.child.try_wait().context("a run")? {
                    ended.push_front((at, status));
                }
            }
            if ended.is_empty() {
                std::thread::sleep(PAUSE);
            }
            for (at, status) in ended {
                let process = at_work.swap_remove(at);
                if self.interrupted.load(Ordering::Relaxed) {
                    // Ctrl-C reaches the processes of a terminal too: they failed of nothing.
                    continue;
                }
                self.ended(&process, status.success())?;
                self.tell(&process, began, before);
                if self.is_through(process.job) {
                    report(&self.state)?;
                }
            }
        }
    }

    /// The first job whose needs are met.
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
        let is_folder = place.extension().is_none_or(|ending| ending != "jsonl" && ending != "json");
        let resume = job.resumes && is_folder && begun(&place)?;
        if is_folder {
            wait_for(&place)?;
        }
        if !resume {
            // What a stopped run of a verb that cannot be taken up left.
            remove(&place)?;
            remove(&place.with_extension("jsonl.part"))?;
        }
        let options = self.output.join(JOBS).join(format!("{}.toml", job.name));
        fs::create_dir_all(whole::folder_of(&options)).context("--output")?;
        fs::create_dir_all(whole::folder_of(&place)).context("--output")?;
        let text = toml::to_string(&placed(&job.options, self.output))?;
        whole::write(&options, text.as_bytes())?;
        let log = options.with_extension("log");
        let messages = fs::File::create(&log).with_context(|| log.display().to_string())?;
        let mut command = Command::new(std::env::current_exe().context("the path of this program")?);
        command.args(&job.verb).arg("--config").arg(&options).args(resume.then_some("--resume"));
        command
            .env("RAYON_NUM_THREADS", "1")
            .env("OMP_NUM_THREADS", "1")
            .env(interrupt::PARENT, std::process::id().to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(messages);
        let child = command.spawn().with_context(|| format!("starting {}", job.verb.join(" ")))?;
        self.stages[at] = Stage::Running;
        Ok(Process { job: at, child, began: Instant::now(), log })
    }

    fn ended(&mut self, process: &Process, well: bool) -> Result<()> {
        let job = &self.plan.jobs[process.job];
        if well {
            let place = self.output.join(&job.name);
            ensure!(place.exists(), "{}: the run left nothing", place.display());
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

    fn tell(&self, process: &Process, began: Instant, before: usize) {
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

    /// True if no job of this one's world and seed is open.
    fn is_through(&self, job: usize) -> bool {
        let of = |at: usize| (&self.plan.jobs[at].world, self.plan.jobs[at].seed);
        let open = |at: usize| matches!(self.stages[at], Stage::Waiting | Stage::Running);
        !(0..self.stages.len()).any(|at| of(at) == of(job) && open(at))
    }
}

fn mark_of(output: &Path, job: &Job) -> PathBuf {
    output.join(JOBS).join(format!("{}.done.json", job.name))
}

/// The first option in which two tables differ.
fn differs(before: &Table, now: &Table) -> Option<String> {
    let keys = before.keys().chain(now.keys());
    keys.into_iter().find(|key| before.get(*key) != now.get(*key)).cloned()
}

/// Returns true if a run of a verb that can be taken up left something to take up.
fn begun(place: &Path) -> Result<bool> {
    Ok(place.is_dir()
        && (!checkpoint::steps(place)?.is_empty()
            || place.join(manifest::FILE).exists()
            || place.join("samples.jsonl.part").exists()))
}

/// Waits until a process that a killed study left has left this folder.
fn wait_for(place: &Path) -> Result<()> {
    let began = Instant::now();
    while place.is_dir() {
        match FolderLock::take(place) {
            Ok(_) => return Ok(()),
            Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
    Ok(())
}

fn remove(place: &Path) -> Result<()> {
    let removed = match place.is_dir() {
        true => fs::remove_dir_all(place),
        false => fs::remove_file(place),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| place.display().to_string())
        }
        _ => Ok(()),
    }
}

/// Options with the study's folder in its place.
fn placed(options: &Table, output: &Path) -> Table {
    fn of(value: &Value, root: &str) -> Value {
        match value {
            Value::String(text) => Value::String(text.replace(ROOT, root)),
            Value::Array(values) => Value::Array(values.iter().map(|value| of(value, root)).collect()),
            other => other.clone(),
        }
    }
    let root = output.display().to_string();
    options.iter().map(|(key, value)| (key.clone(), of(value, &root))).collect()
}

/// The end of a failed run's messages.
fn last_words(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let error =
        lines.iter().rposition(|line| line.starts_with("error: ")).unwrap_or(lines.len().saturating_sub(3));
    let words = lines[error..].join(" ");
    match words.is_empty() {
        true => "it ended without a word".to_owned(),
        false => words.chars().take(MESSAGE).collect(),
    }
}
