//! The quickstart's folder: replaced if an earlier quickstart made it, left alone otherwise.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pcrm_core::disk::FolderLock;
use pcrm_core::disk::whole::sweep_own;
use pcrm_core::model::weights;
use pcrm_eval::worlds::{Pair, World};
use serde::Serialize;
use serde_json::{Value, json};

use crate::report;

const MARKER: &str = "quickstart.json";
const MADE_BY: &str = "pcrm quickstart";
const FILES: [&str; 6] = ["train.jsonl", "test.jsonl", "report.json", report::FILE, "ppo", "dpo"];

/// The output folder of the quickstart.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    lock: FolderLock,
}

impl Folder {
    /// Creates the folder, or empties one made by an earlier quickstart; files of others in it stay.
    ///
    /// # Errors
    /// Fails if the folder is not empty and no quickstart made it, if another process writes to it, or if it
    /// cannot be written.
    pub fn claim(root: &Path, models: &[&str], settings: &Value) -> Result<Self> {
        refuse_others(root)?;
        let lock = FolderLock::take(root).context("--output")?;
        let folder = Self { root: root.to_path_buf(), lock };
        sweep_own(root)?;
        if refuse_others(root)? {
            // The marker stays, so that the owner of the folder is known even if the process dies here.
            for name in ["base"].iter().chain(models).chain(&FILES) {
                remove(&root.join(name))?;
            }
        }
        let marker = json!({"made_by": MADE_BY, "version": env!("CARGO_PKG_VERSION"), "settings": settings});
        weights::write_json(&folder.root.join(MARKER), &marker)?;
        Ok(folder)
    }

    /// Fails if the folder was deleted or moved in the meantime.
    ///
    /// # Errors
    /// Fails if the folder is no longer at its path.
    pub fn still_there(&self) -> Result<()> {
        self.lock.still_there().context("--output")
    }

    /// Returns the folder of the models' initial weights.
    pub fn base(&self) -> PathBuf {
        self.root.join("base")
    }

    /// Returns the folder of the model trained under this name.
    pub fn model(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Returns the folder of a policy study.
    pub fn study(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Returns the file of the training pairs.
    pub fn train(&self) -> PathBuf {
        self.root.join("train.jsonl")
    }

    /// Returns the file of the held-out pairs.
    pub fn test(&self) -> PathBuf {
        self.root.join("test.jsonl")
    }

    /// Returns the file of the run's numbers.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.json")
    }

    /// Returns the file of the run's page.
    pub fn page(&self) -> PathBuf {
        self.root.join(report::FILE)
    }

    /// Writes the world's pairs, one per line.
    ///
    /// # Errors
    /// Fails if a file cannot be written.
    pub fn write_world(&self, world: &World) -> Result<()> {
        write_lines(&self.train(), &world.train)?;
        write_lines(&self.test(), &world.test)
    }

    /// Writes the numbers of the run.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn write_report(&self, report: &impl Serialize) -> Result<()> {
        Ok(weights::write_json(&self.report(), report)?)
    }
}

/// Refuses a folder that no quickstart made, and returns true if one did. A folder that is empty, or holds
/// only what a process killed before its first file leaves, belongs to no one.
fn refuse_others(root: &Path) -> Result<bool> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("--output {}", root.display())),
    };
    let hidden = |name: &str| name.starts_with(".pcrm");
    let is_of_others = |entry: std::io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| !entry.file_name().to_str().is_some_and(hidden))
    };
    if !entries.into_iter().any(is_of_others) {
        return Ok(false);
    }
    let marker = fs::read(root.join(MARKER)).ok();
    let marker = marker.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    if marker.is_some_and(|marker| marker["made_by"] == MADE_BY) {
        return Ok(true);
    }
    bail!("--output {}: holds files that no quickstart made; choose another folder", root.display())
}

fn write_lines(path: &Path, pairs: &[Pair]) -> Result<()> {
    let mut text = String::new();
    for pair in pairs {
        text.push_str(&serde_json::to_string(pair)?);
        text.push('\n');
    }
    Ok(weights::write(path, text.as_bytes())?)
}

fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    }
}
