//! The report pages of commands.
//!
//! A command fills a [`Document`] and passes it to [`write()`], which renders it with [`pcrm_eval::report`].
//! [`run`] fills one for training, [`evaluation`] for evaluations.

pub mod calibration;
pub mod curves;
pub mod data;
pub mod evaluation;
pub mod run;
pub mod runs;

use std::path::Path;

use anyhow::Result;
use pcrm_core::model::weights;

use crate::chain::in_full;

pub use pcrm_eval::report::{Document, Fact, count, document, number, percent, plot, render};
pub use run::{evidence, is_setting, setting};

/// The name of a report in a run's folder.
pub const FILE: &str = "report.html";

/// Writes a document as a page, atomically, and returns true if it was written. A page that cannot be written
/// only gives a warning.
pub fn write(path: &Path, document: Result<Document>) -> bool {
    let written = document
        .and_then(|document| Ok(render(&document)?))
        .and_then(|page| Ok(weights::write(path, page.as_bytes())?));
    match written {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("no report in {}: {}", path.display(), in_full(&error));
            false
        }
    }
}
