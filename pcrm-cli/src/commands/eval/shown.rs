//! Shows an evaluation: its page, its JSON, its tables.

use std::fs;

use anyhow::Result;
use pcrm_core::model::weights;
use serde::Serialize;
use serde_json::Value;

use super::args::EvalRewardArgs;
use crate::progress::say;
use crate::report::{self, Document};
use crate::terminal;
use crate::warnings::Warnings;

/// The options of an evaluation, and the parts of its page that are not in the report.
pub struct Shown<'a> {
    /// The options.
    pub args: &'a EvalRewardArgs,
    /// The constraint whose bounds margins are compared with.
    pub constraint: Option<Value>,
    /// The warnings about the data.
    pub warnings: &'a Warnings,
}

impl Shown<'_> {
    /// Writes the page and the JSON of a report where the options want them, and prints its tables or its JSON.
    ///
    /// # Errors
    /// Fails if the JSON cannot be written; a page that cannot be written only gives a warning.
    pub fn show(
        self,
        report: &impl Serialize,
        document: impl FnOnce() -> Result<Document>,
        table: impl FnOnce() -> String,
    ) -> Result<()> {
        let Self { args, constraint, warnings } = self;
        if let Some(path) = args.page() {
            let earlier = fs::read(&path).ok();
            if report::write(&path, document()) {
                let replaced = earlier.is_some() && fs::read(&path).ok() != earlier;
                let note = if replaced { " (replaces an earlier report)" } else { "" };
                say(&format!("report: {}{note}", path.display()));
            }
        }
        let mut json = serde_json::to_value(report)?;
        if let (Value::Object(fields), Some(constraint)) = (&mut json, constraint) {
            fields.insert("constraint".into(), constraint);
        }
        if let (Value::Object(fields), false) = (&mut json, warnings.all().is_empty()) {
            fields.insert("warnings".into(), warnings.all().into());
        }
        if let Some(path) = &args.output {
            weights::write_json(path, &json)?;
            say(&format!("report as JSON: {}", path.display()));
        }
        match args.json {
            true => terminal::result(&(serde_json::to_string_pretty(&json)? + "\n")),
            false => terminal::result(&format!("{}{}", warnings.paragraphs(), table())),
        }
    }
}
