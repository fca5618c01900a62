//! The folder of a run: who may begin in it, and what a run that ended says of it.

use std::path::Path;

use anyhow::{Error, Result, bail, ensure};
use pcrm_core::model::weights;
use pcrm_rl::checkpoint;
use pcrm_rl::offline::Outcome;
use serde_json::Value;

use crate::interrupt::Interrupted;
use crate::progress::say;

const MANIFEST: &str = "manifest.json";

/// Files that a folder with a model or a tokenizer has.
const TAKEN: [&str; 6] = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Refuses to overwrite a model or the checkpoints of a run; only `--resume` may reuse their folder. A folder
/// with neither, as a run leaves that was refused before its first checkpoint, counts as empty.
///
/// # Errors
/// A file, or a folder that holds another run.
pub fn begin(dir: &Path, resume: bool) -> Result<()> {
    ensure!(!dir.is_file(), "--output {}: is a file, expected a folder", dir.display());
    let steps = checkpoint::steps(dir)?;
    if resume {
        if steps.is_empty() {
            say(&format!("--resume: {} has no checkpoint yet; the run begins at step 1", dir.display()));
        }
        return Ok(());
    }
    let taken = TAKEN.iter().find(|name| dir.join(name).exists());
    let holds = match (steps.last(), taken) {
        (Some(step), _) => format!("checkpoint-{step} of a run"),
        (None, Some(file)) => (*file).to_owned(),
        (None, None) => return Ok(()),
    };
    bail!(
        "--output {}: holds {holds} already; continue the run with --resume, or name another folder",
        dir.display()
    )
}

/// The files that describe a run: its options in `config.toml`, and what it read in `manifest.json`.
pub struct Description<'a> {
    dir: &'a Path,
    config: &'a str,
    manifest: Value,
    /// True if the folder describes the run that is resumed.
    resumes: bool,
}

impl<'a> Description<'a> {
    /// The description of a run in this folder.
    pub fn new(dir: &'a Path, resume: bool, config: &'a str, manifest: Value) -> Self {
        Self { dir, config, manifest, resumes: resume && dir.join(MANIFEST).exists() }
    }

    /// Writes it before the first step. A run that is resumed may be refused: then the files keep describing the run
    /// that is there.
    ///
    /// # Errors
    /// The disk's.
    pub fn begin(&self) -> Result<()> {
        if self.resumes { Ok(()) } else { self.write() }
    }

    /// Writes it after the last step, if it was not written before the first.
    ///
    /// # Errors
    /// The disk's.
    pub fn end(&self) -> Result<()> {
        if self.resumes { self.write() } else { Ok(()) }
    }

    fn write(&self) -> Result<()> {
        weights::write(&self.dir.join("config.toml"), self.config.as_bytes())?;
        Ok(weights::write_json(&self.dir.join(MANIFEST), &self.manifest)?)
    }
}

/// The error of a run that was stopped, which says how to continue.
pub fn interrupted(steps: u64, checkpoint: &Path) -> Error {
    let message = format!(
        "interrupted after step {steps}; {} is saved: rerun the same command with --resume to continue",
        checkpoint.display()
    );
    Interrupted { message }.into()
}

/// The closing lines of a run that ended: after how many steps, and which weights its folder holds.
pub fn closing(outcome: &Outcome, dir: &Path) -> Vec<String> {
    let Outcome::Finished { steps, best, early, saved } = outcome else { return Vec::new() };
    let why = if *early { ", as patience ran out" } else { "" };
    let made = if *steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") };
    let mut lines = vec![format!("finished after {made}{why}; the model is in {}", dir.display())];
    if let Some(best) = best.filter(|best| best.step != *steps) {
        let (best, loss) = (best.step, best.loss);
        lines.push(match best == *saved {
            true => format!("the folder holds the weights of step {saved}, the best evaluation (loss {loss:.4})"),
            false => format!(
                "the folder holds the weights of step {saved}; the best evaluation was after step {best} (loss \
                 {loss:.4}): --final best keeps those"
            ),
        });
    }
    lines
}

/// The last part of a path, without the folders before it.
pub fn name_of(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
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

    /// Protects: the step whose weights are in the folder is the one that is announced.
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
