//! Writes the findings of a study: results as JSON, and the report as a page and as Markdown.

use std::path::Path;

use anyhow::Result;
use pcrm_core::disk::whole;
use pcrm_eval::study::learned::learned;
use pcrm_eval::study::results::WorldFound;
use pcrm_eval::study::{Recipe, Results, StudyOutcome, StudyPlan, markdown, page};
use serde_json::json;

use super::collect::Collector;
use super::runner::State;
use crate::report::{self, Document};

/// The file of the results.
const RESULTS: &str = "study.json";
/// The file of the report in Markdown.
const MARKDOWN: &str = "report.md";

/// A study and the options that determine its runs.
pub struct Study<'a> {
    pub recipe: &'a Recipe,
    pub quick: bool,
    pub seeds: u64,
    pub plan: &'a StudyPlan,
    pub left_out: &'a [(String, String)],
    /// The worlds, each with a test of whether similarity carries preference strength.
    pub worlds: Vec<WorldFound>,
}

/// The report of a study.
pub struct StudyReport {
    /// The report as Markdown.
    pub text: String,
    /// The two or three opening sentences.
    pub learned: Vec<String>,
    /// The report as a page.
    pub page: Document,
}

impl Study<'_> {
    /// Collects the completed runs and writes the three files.
    pub fn write(&self, output: &Path, state: &State) -> Result<StudyReport> {
        let collector = Collector { recipe: self.recipe, plan: self.plan, state, output };
        let mut failed = state.failed.clone();
        failed.sort_by_key(|(name, _)| self.plan.jobs.iter().position(|job| job.name == *name));
        let results = Results {
            recipe: self.recipe.clone(),
            quick: self.quick,
            seeds: self.seeds,
            done: state.count(),
            runs: self.plan.jobs.len(),
            left_out: self.left_out.to_vec(),
            failed,
            worlds: self.worlds.clone(),
            cells: collector.cells()?,
            samples: collector.samples()?,
        };
        let outcome = StudyOutcome::of(&results)?;
        let text = markdown::text(&results, &outcome);
        whole::write_json(&output.join(RESULTS), &json!({ "results": results, "outcome": outcome }))?;
        whole::write(&output.join(MARKDOWN), text.as_bytes())?;
        let page = page::document(&results, &outcome);
        let learned = learned(&results, &outcome);
        report::write(&output.join(report::FILE), Ok(page.clone()));
        Ok(StudyReport { text, learned, page })
    }
}
