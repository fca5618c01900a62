//! The quickstart's folder: replaced when it is the quickstart's own, left alone when it is not.

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

/// Where the quickstart writes.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    lock: FolderLock,
}

impl Folder {
    /// Makes the folder, or empties one that an earlier quickstart made; files of others in it stay.
    ///
    /// # Errors
    /// A folder with something in it that no quickstart made, or that another process writes to; the disk's.
    pub fn claim(root: &Path, models: &[&str], settings: &Value) -> Result<Self> {
        refuse_others(root)?;
        let lock = FolderLock::take(root).context("--output")?;
        let folder = Self { root: root.to_path_buf(), lock };
        sweep_own(root)?;
        if refuse_others(root)? {
            // The marker stays: it says whose folder this is, whenever the process dies.
            for name in ["base"].iter().chain(models).chain(&FILES) {
                remove(&root.join(name))?;
            }
        }
        let marker = json!({"made_by": MADE_BY, "version": env!("CARGO_PKG_VERSION"), "settings": settings});
        weights::write_json(&folder.root.join(MARKER), &marker)?;
        Ok(folder)
    }

    /// Refuses a folder that was deleted or moved meanwhile.
    ///
    /// # Errors
    /// As said.
    pub fn still_there(&self) -> Result<()> {
        self.lock.still_there().context("--output")
    }

    /// The folder that the models begin from.
    pub fn base(&self) -> PathBuf {
        self.root.join("base")
    }

    /// The folder of the model that was trained under this name.
    pub fn model(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder of a study of policies.
    pub fn study(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The pairs to train on.
    pub fn train(&self) -> PathBuf {
        self.root.join("train.jsonl")
    }

    /// The pairs held out.
    pub fn test(&self) -> PathBuf {
        self.root.join("test.jsonl")
    }

    /// The numbers of the run.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.json")
    }

    /// The page about the run.
    pub fn page(&self) -> PathBuf {
        self.root.join(report::FILE)
    }

    /// Writes the world's pairs, one a line.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_world(&self, world: &World) -> Result<()> {
        write_lines(&self.train(), &world.train)?;
        write_lines(&self.test(), &world.test)
    }

    /// Writes the numbers of the run.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_report(&self, report: &impl Serialize) -> Result<()> {
        Ok(weights::write_json(&self.report(), report)?)
    }
}

/// Refuses a folder that is not the quickstart's, and returns true if it is. A folder in which there is nothing, or nothing
/// but what a process leaves that is killed before the first file, is nobody's.
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
