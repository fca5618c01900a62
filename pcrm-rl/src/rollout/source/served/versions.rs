//! The versions of a policy that a server holds: their names and folders.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pcrm_core::model::LanguageModel;
use pcrm_core::model::lora::peft::AdapterFolder;
use xxhash_rust::xxh3::xxh3_64;

use super::Version;
use crate::error::Result;
use crate::lanes::Lanes;

/// The beginning of the name of every version.
const PREFIX: &str = "policy-";

/// The newest versions of a policy.
#[derive(Debug)]
pub(super) struct Versions {
    folder: PathBuf,
    staleness: usize,
    /// The beginning of the names of this start of the run; empty before the first version.
    prefix: String,
    held: VecDeque<u64>,
}

impl Versions {
    pub fn new(folder: &Path, staleness: usize) -> Self {
        Self { folder: folder.to_path_buf(), staleness, prefix: String::new(), held: VecDeque::new() }
    }

    pub fn staleness(&self) -> usize {
        self.staleness
    }

    /// Chooses the names before the first version, the same in all processes, and returns the versions that
    /// an earlier start of the run has left. A server caches keys by the name of an adapter, so a run that is
    /// resumed must not use the names of its earlier start again.
    pub fn begin(&mut self, lanes: &Lanes) -> Result<Vec<Version>> {
        if !self.prefix.is_empty() {
            return Ok(Vec::new());
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let words = [since as u64, std::process::id().into()].map(u64::to_le_bytes);
        let own = format!("{PREFIX}{:08x}", xxh3_64(words.as_flattened()) as u32);
        self.prefix = lanes.gathered::<_, String>(&own)?.into_iter().next().unwrap_or(own);
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter(|name| name.starts_with(PREFIX)).map(|name| self.named(name)).collect())
    }

    /// Returns the name and the folder of a version.
    pub fn of(&self, version: u64, adapter: bool) -> Version {
        Version { adapter, ..self.named(format!("{}-v{version}", self.prefix)) }
    }

    fn named(&self, name: String) -> Version {
        // The server may have another working directory.
        let folder = self.folder.join(&name);
        let adapter = AdapterFolder::is_one(&folder);
        Version { folder: std::path::absolute(&folder).unwrap_or(folder), name, adapter }
    }

    pub fn newest(&self) -> Option<u64> {
        self.held.back().copied()
    }

    pub fn holds(&self, version: u64) -> bool {
        self.held.contains(&version)
    }

    pub fn all(&self) -> Vec<u64> {
        self.held.iter().copied().collect()
    }

    /// Returns and drops the versions that are outdated once a new one is there.
    pub fn outdated(&mut self) -> Vec<u64> {
        let count = self.held.len().saturating_sub(self.staleness);
        self.held.drain(..count).collect()
    }

    pub fn push(&mut self, version: u64) {
        self.held.push_back(version);
    }

    /// Drops all versions, and removes the folder if nothing else is in it.
    pub fn end(&mut self) {
        self.held.clear();
        // Not empty: another file is there.
        drop(fs::remove_dir(&self.folder));
    }
}

/// Writes a policy into a new folder.
pub(super) fn write(policy: &LanguageModel, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(pcrm_core::Error::io(folder))?;
    }
    fs::create_dir_all(folder).map_err(pcrm_core::Error::io(folder))?;
    Ok(policy.save(folder)?)
}

/// Removes the folder of a version.
pub(super) fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder).or_else(|error| match folder.exists() {
        true => Err(error),
        false => Ok(()),
    }) {
        tracing::warn!("{}: cannot be removed: {error}", folder.display());
    }
}
