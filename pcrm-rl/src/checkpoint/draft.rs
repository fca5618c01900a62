//! The folder that a checkpoint is written to before it has its final name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use pcrm_core::Error;
use pcrm_core::disk::leads_to;

use super::PREFIX;
use crate::error::Result;

/// A temporary folder within a run's folder. Dropping it removes it, unless it was renamed.
#[derive(Debug)]
pub(super) struct Draft {
    run: PathBuf,
    /// Handle of the run's folder from when the draft was created; `None` where folders cannot be opened.
    held: Option<File>,
    path: PathBuf,
}

impl Draft {
    /// Creates the folder of a checkpoint after `step` steps.
    ///
    /// # Errors
    /// Fails if the run's folder does not exist or is not writable.
    pub fn new(run: &Path, step: u64) -> Result<Self> {
        let held = File::open(run).ok();
        let mut folder = tempfile::Builder::new();
        let folder = folder.prefix(&format!(".{PREFIX}{step}-")).tempdir_in(run).map_err(Error::io(run))?;
        Ok(Self { run: run.to_path_buf(), held, path: folder.keep() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the run's folder was not deleted, moved or replaced since the draft was created: writing another
    /// file would create the folder again.
    ///
    /// # Errors
    /// Fails if it was.
    pub fn still_there(&self) -> Result<()> {
        match self.is_there() {
            true => Ok(()),
            false => {
                let message = "was deleted, moved or replaced while a checkpoint was written";
                Err(Error::file(&self.run, message).into())
            }
        }
    }

    fn is_there(&self) -> bool {
        self.held.as_ref().is_none_or(|held| leads_to(&self.run, held))
    }

    /// Gives the folder its final name and the usual permissions; temporary folders are private.
    ///
    /// # Errors
    /// Fails if the disk fails or the run's folder is gone.
    pub fn rename(self, target: &Path) -> Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let usual = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&self.path, usual).map_err(Error::io(&self.path))?;
        }
        Ok(fs::rename(&self.path, target).map_err(Error::io(target))?)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let is_removed = fs::remove_dir_all(&self.path).is_ok();
        if is_removed && !self.is_there() {
            // Writing a file after the run's folder was moved created the folder again. Remove it, unless it holds
            // other files.
            let _ = fs::remove_dir(&self.run);
        }
    }
}
