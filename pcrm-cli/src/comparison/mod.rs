//! Comparisons of constraints over seeds as files, tables and pages. `pcrm compare` creates them and `pcrm
//! eval comparisons` merges them.

mod measured;
mod page;
mod show;

use std::path::Path;

use anyhow::Result;
use pcrm_core::model::weights;
use pcrm_eval::comparison::{ComparisonOutcome, HeldOutRun};
use serde::{Deserialize, Serialize};

pub use measured::RunMeasures;

use crate::progress::say;
use crate::{report, terminal};

/// The file of a comparison.
pub const FILE: &str = "comparison.json";

/// The content of `comparison.json`: all runs, so that comparisons can be merged.
#[derive(Debug, Serialize, Deserialize)]
pub struct ComparisonFile {
    /// The arms in order; the first one is the baseline.
    pub labels: Vec<String>,
    /// The measures of every run.
    pub runs: Vec<RunMeasures>,
}

impl ComparisonFile {
    /// Compares the arms over all seeds.
    fn outcome(&self) -> pcrm_eval::Result<ComparisonOutcome> {
        let words: Vec<(String, Option<String>)> =
            self.runs.iter().map(|run| (run.constraint.to_string(), run.held_out())).collect();
        let mut runs = Vec::new();
        for (run, (setting, held_out)) in self.runs.iter().zip(&words) {
            let held_out = held_out.as_deref();
            let (arm, pairs, measures) = (run.label.as_str(), run.pairs, &run.measures);
            runs.push(HeldOutRun { arm, setting, held_out, pairs, measures });
        }
        ComparisonOutcome::of(&self.labels, &runs)
    }

    /// Writes the comparison to a folder, prints its tables, and writes its page.
    pub fn finish(&self, dir: &Path) -> Result<()> {
        let outcome = self.outcome()?;
        weights::write_json(&dir.join(FILE), self)?;
        let path = dir.join(report::FILE);
        if report::write(&path, Ok(page::document(&outcome))) {
            say(&format!("report: {}", path.display()));
        }
        // Printed last: a reader that goes away ends the command.
        terminal::result(&show::text(&outcome))
    }
}
