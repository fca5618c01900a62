//! The folder of a run: access to it, and the messages at the end of a run.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail, ensure};
use pcrm_core::Backend;
use pcrm_core::disk::whole::{self, sweep_own};
use pcrm_core::disk::{FolderLock, shared};
use pcrm_rl::agreement::same_inputs;
use pcrm_rl::fingerprint::Fingerprint;
use pcrm_rl::lanes::Lanes;
use pcrm_rl::offline::{Outcome, TrainerConfig};
use pcrm_rl::train::discard_fitted;
use pcrm_rl::{checkpoint, manifest};
use serde_json::Value;

use crate::interrupt::Interrupted;
use crate::progress::say;
use crate::usage::named;
use crate::warnings::Warnings;

/// Files of a folder with a model or a tokenizer.
const TAKEN: [&str; 8] = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "adapter_config.json",
    "adapter_model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Files that a run writes besides its model. Without [`manifest::FILE`], which a run writes first, they do not belong
/// to a run.
const WRITTEN: [&str; 4] = ["config.toml", "metrics.jsonl", "samples.jsonl", "report.html"];

/// Refuses to overwrite a model, the checkpoints of a run, or files that no run wrote; only `--resume` may reuse a
/// run's folder. A folder with neither, left by a run killed before its first checkpoint, counts as empty. `base` is
/// the initial model, which no run may overwrite.
///
/// # Errors
/// Fails if the path is a file or the base model's folder, if it holds another run or model, or, with
/// `--resume`, if it holds no run.
pub fn check(dir: &Path, resume: bool, base: &Path) -> Result<()> {
    ensure!(!dir.is_file(), "--output {}: is a file; expected a folder", dir.display());
    let same = dir.canonicalize().is_ok_and(|dir| base.canonicalize().is_ok_and(|base| base == dir));
    ensure!(
        !same,
        "--output {}: is the folder of --model, whose weights the run would overwrite; name another folder",
        dir.display()
    );
    let steps = checkpoint::steps(dir)?;
    let written: &[&str] = if dir.join(manifest::FILE).exists() { &[] } else { &WRITTEN };
    // A folder with such a name is not overwritten, so it does not count.
    let written = written.iter().filter(|name| dir.join(name).is_file());
    let taken = TAKEN.iter().filter(|name| dir.join(name).exists()).chain(written).next();
    let holds = match (steps.last(), taken) {
        (Some(step), _) => format!("checkpoint-{step} of a run"),
        (None, Some(file)) => (*file).to_owned(),
        (None, None) => return Ok(()),
    };
    if !resume {
        bail!(
            "--output {}: already holds {holds}; continue the run with --resume, or name another folder",
            dir.display()
        );
    }
    ensure!(
        !steps.is_empty() || dir.join(manifest::FILE).exists(),
        "--resume: {} holds {holds} but neither a checkpoint nor {}: there is no run to continue, and its \
         files would be overwritten; name another folder",
        dir.display(),
        manifest::FILE
    );
    Ok(())
}

/// The folder of a run. Only this process writes to it while the value exists.
#[derive(Debug)]
pub struct RunFolder {
    dir: PathBuf,
    /// `None` in a process that leaves writing to another process of the run.
    lock: Option<FolderLock>,
    resumes: bool,
}

impl RunFolder {
    /// Takes the folder for the processes of a run, which must have the same inputs and options: the first one
    /// writes to it, and the others wait until it has it.
    ///
    /// # Errors
    /// Fails as [`RunFolder::take`] does, if the processes differ in their inputs or options or do not share the
    /// folder, or if a process is gone.
    pub fn shared(
        backend: &dyn Backend,
        dir: &Path,
        resume: bool,
        base: &Path,
        inputs: &Fingerprint,
        trainer: &TrainerConfig,
    ) -> Result<Self> {
        same_inputs(&Lanes::of_processes(backend), inputs, trainer).map_err(named)?;
        let collective = backend.collective();
        let taken = if collective.is_first() { Some(Self::take(dir, resume, base)?) } else { None };
        let resumes = collective.any(taken.as_ref().is_some_and(Self::resumes))?;
        shared::check(collective.as_ref(), dir).context("--output")?;
        Ok(taken.unwrap_or(Self { dir: dir.to_path_buf(), lock: None, resumes }))
    }

    /// Takes the folder, creating it if needed, and removes remains of a killed process: temporary files, parts
    /// of checkpoints and, unless resuming, the files that describe the run.
    ///
    /// # Errors
    /// Fails as [`check`] does, or if another process writes to the folder or the folder is not writable.
    pub fn take(dir: &Path, resume: bool, base: &Path) -> Result<Self> {
        let lock = FolderLock::take(dir).context("--output")?;
        checkpoint::recover(dir)?;
        // Another run may have ended here since the first check.
        check(dir, resume, base)?;
        sweep_own(dir)?;
        checkpoint::sweep(dir)?;
        sweep_own(&dir.join(pcrm_rl::tensorboard::FOLDER))?;
        let has_checkpoint = !checkpoint::steps(dir)?.is_empty();
        if resume && !has_checkpoint {
            say(&format!("{} has no checkpoint yet; the run starts at step 1", dir.display()));
        }
        if !resume {
            discard_fitted(dir)?;
            // The manifest is last: it marks the others as a run's.
            let files = WRITTEN.iter().chain(&[manifest::FILE]).map(|name| dir.join(name));
            files.filter(|file| file.is_file()).try_for_each(|file| remove(&file))?;
        }
        let resumes = resume && (has_checkpoint || dir.join(manifest::FILE).exists());
        Ok(Self { dir: dir.to_path_buf(), lock: Some(lock), resumes })
    }

    /// Returns true if this process writes to the folder.
    pub fn writes(&self) -> bool {
        self.lock.is_some()
    }

    /// Returns true if the folder holds the run to resume, and false if the run starts here.
    pub fn resumes(&self) -> bool {
        self.resumes
    }

    /// Returns a function that writes the files describing the run: its options in `config.toml` and its
    /// inputs in `manifest.json`. The trainer calls it before the first step, once it has accepted the
    /// folder.
    pub fn description(&self, config: &str, manifest: Value) -> Description {
        let (dir, config, writes) = (self.dir.clone(), config.to_owned(), self.writes());
        Box::new(move || {
            if !writes {
                return Ok(());
            }
            manifest::write(&dir, &manifest)?;
            Ok(whole::write(&dir.join("config.toml"), config.as_bytes())?)
        })
    }

    /// Ends the use of the folder.
    ///
    /// # Errors
    /// Fails if the folder was deleted or moved in the meantime.
    pub fn end(self) -> Result<()> {
        self.lock.map_or(Ok(()), |lock| lock.still_there()).context("--output")
    }

    /// Ends the use of the folder, prints the closing lines and repeats the warnings.
    ///
    /// # Errors
    /// Fails as [`RunFolder::end`] does, and if the run was interrupted.
    pub fn conclude(self, outcome: &Outcome, dir: &Path, warnings: &Warnings) -> Result<()> {
        self.end()?;
        closing(outcome, dir).iter().for_each(|line| say(line));
        warnings.repeat();
        match outcome {
            Outcome::Finished { .. } => Ok(()),
            Outcome::Interrupted { steps, checkpoint } => Err(interrupted(*steps, checkpoint)),
        }
    }
}

/// A function that writes the description of a run.
pub type Description = Box<dyn FnOnce() -> pcrm_rl::Result<()>>;

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    }
}

/// Returns the error of an interrupted run, with instructions to continue.
pub fn interrupted(steps: u64, checkpoint: &Path) -> Error {
    let message = format!(
        "interrupted after step {steps}; {} is saved: rerun the same command with --resume to continue",
        checkpoint.display()
    );
    Interrupted { message }.into()
}

/// Returns the closing lines of a finished run: the number of steps, and the weights in its folder.
pub fn closing(outcome: &Outcome, dir: &Path) -> Vec<String> {
    let Outcome::Finished { steps, best, early, saved } = outcome else { return Vec::new() };
    let why = if *early { " (stopped early)" } else { "" };
    let made = if *steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") };
    let mut lines = vec![format!("finished after {made}{why}; the model is in {}", dir.display())];
    if let Some(best) = best.filter(|best| best.step != *steps) {
        let (best, loss) = (best.step, best.loss);
        lines.push(match best == *saved {
            true => {
                format!("the folder holds the weights of step {saved}, the best evaluation (loss {loss:.4})")
            }
            false => format!(
                "the folder holds the weights of step {saved}; the best evaluation was after step {best} \
                 (loss {loss:.4}); --final best keeps those weights"
            ),
        });
    }
    lines
}

/// Names the model that a run starts from, as the user gave it.
pub fn base_name(given: &Path, random_init: bool) -> String {
    match random_init {
        true => format!("random weights ({})", given.display()),
        false => given.display().to_string(),
    }
}

/// Returns the last component of a path as it is given: a link, such as those of the Hub's cache, keeps its name.
pub fn name_of(path: &Path) -> String {
    let whole = match path.file_name() {
        Some(_) => path.to_path_buf(),
        None => path.canonicalize().unwrap_or_else(|_| path.to_path_buf()),
    };
    let name = whole.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use pcrm_rl::checkpoint::Best;

    use super::*;

    fn said(best: Option<u64>, saved: u64) -> String {
        let best = best.map(|step| Best { step, loss: 1.0148 });
        let outcome = Outcome::Finished { steps: 110, best, early: false, saved };
        closing(&outcome, Path::new("runs/rm")).join("\n")
    }

    /// Protects: the announced step is the one whose weights are in the folder.
    #[test]
    fn the_saved_step_is_announced() {
        assert_eq!(said(None, 110), "finished after 110 steps; the model is in runs/rm");
        assert_eq!(said(Some(110), 110).lines().count(), 1);
        let last = said(Some(80), 110);
        assert!(last.contains("holds the weights of step 110;") && last.contains("--final best"), "{last}");
        let best = said(Some(80), 80);
        assert!(
            best.contains("holds the weights of step 80, the best") && !best.contains("--final"),
            "{best}"
        );
    }
}
