//! Reports: a page that opens anywhere, offline, in light and dark, on a phone.
//!
//! A verb fills a [`Document`] and hands it to [`write()`]; it draws nothing and writes no HTML. [`run`] does so for
//! training, [`evaluation`] for evaluations. [`draw`] turns a [`plot::Plot`] into SVG, [`page`] the whole into HTML.

pub mod calibration;
pub mod curves;
pub mod data;
pub mod document;
mod draw;
pub mod evaluation;
mod number;
mod page;
pub mod plot;
pub mod run;

use std::path::Path;

use anyhow::Result;
use pcrm_core::model::weights;

pub use document::{Document, Fact};
pub use number::{count, number, percent};
pub use page::render;
pub use run::{evidence, is_setting, setting};

/// The name of a report in a run's folder.
pub const FILE: &str = "report.html";

/// Writes a document as a page, whole or not at all; gives whether it is there. What hinders it is a warning, never
/// an error: nothing is lost for want of a report.
pub fn write(path: &Path, document: Result<Document>) -> bool {
    let written = document
        .and_then(|document| render(&document))
        .and_then(|page| Ok(weights::write(path, page.as_bytes())?));
    match written {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("no report in {}: {error:#}", path.display());
            false
        }
    }
}
