//! Options of `pcrm eval reward`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use pcrm_eval::interval::{LEVEL, fewest_draws};

use super::fields::GivenFields;
use crate::dataset::{Reading, all_positions};
use crate::hub::Hub;
use crate::machine::Machine;
use crate::numbers::{positive, whole};
use crate::progress::say;
use crate::quantize::QuantizeArgs;
use crate::report;

/// Options of `pcrm eval reward`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, mut_arg("max_length", all_positions))]
pub struct EvalRewardArgs {
    /// Evaluate the reward model in this folder or Hub repository (org/name)
    #[arg(long, value_name = "DIR", required_unless_present = "scores", requires = "data")]
    pub model: Option<PathBuf>,
    /// Evaluate on these files, folders or Hub data sets (org/name, org/name:split): preference pairs,
    /// several answers to a prompt (chosen and rejected lists; responses with scores or ranks), or single
    /// answers with human scores (--human-field)
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    pub data: Vec<PathBuf>,
    /// Evaluate the scores in this JSONL file instead of a model
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "data", "constraint"])]
    pub scores: Option<PathBuf>,
    /// Compare with the models in these folders or the scores in these files, on the rows they share
    #[arg(long, value_name = "DIR|FILE", num_args = 1.., action = clap::ArgAction::Append)]
    pub compare: Vec<PathBuf>,
    /// Compare margins with the bounds of this constraint (a name, JSON, or a JSON file) [default: the one
    /// the model was trained with]
    #[arg(long, value_name = "NAME|JSON|FILE")]
    pub constraint: Option<String>,
    /// Draw N bootstrap samples of prompts for intervals and p-values; 0 for none (95 % intervals need at
    /// least 39)
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = whole::<usize>)]
    pub bootstrap: usize,
    /// Keep scores in this folder [default: pcrm/scores in the user's cache folder]
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    pub cache: Option<PathBuf>,
    /// Disable the score cache
    #[arg(long)]
    pub no_cache: bool,
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write the page with plots to this file [default: evaluation/DATA/report.html in the model's folder;
    /// with --compare evaluation/DATA-against-OTHER/report.html]
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write no page
    #[arg(long, conflicts_with = "report")]
    pub no_report: bool,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// Compute at most N tokens at once; the scores do not depend on it
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = positive::<usize>)]
    pub micro_tokens: usize,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub fields: GivenFields,
    #[command(flatten)]
    pub hub: Hub,
    #[command(flatten)]
    pub machine: Machine,
    #[command(flatten)]
    pub storage: QuantizeArgs,
}

const EXAMPLES: &str = "\
Examples:
  pcrm eval reward --model runs/rm --data test.jsonl
  pcrm eval reward --model runs/rm --data test.jsonl --compare runs/baseline --output report.json
  pcrm eval reward --model runs/bt --data test.jsonl --compare runs/fixed runs/calibrated
  pcrm eval reward --model runs/rm --data reward-bench-2.jsonl --max-length 4096
  pcrm eval reward --model runs/rm --data ratings.json --human-field /scores/overall
  pcrm eval reward --scores scored.jsonl --subset-field domain --json > report.json

Rows of --scores files have one of
  score_chosen, score_rejected (or chosen_score, rejected_score): numbers, or lists
  scores: [..] with num_correct (the first are right), human scores, or label (A>B or B>A)
  score with a human score and a prompt, one answer a row";

impl EvalRewardArgs {
    /// Checks the options that need no file.
    pub fn check(&self) -> Result<()> {
        self.reading.check()?;
        if let Some(constraint) = &self.constraint {
            crate::constraint::read(constraint)?;
        }
        Ok(())
    }

    /// Warns that too few bootstrap samples give no interval.
    pub fn warn_of_few_draws(&self) {
        let least = fewest_draws(LEVEL);
        if (1..least).contains(&self.bootstrap) {
            say(&format!(
                "warning: --bootstrap {}: too few draws for intervals and p-values; expected at least \
                 {least}, or 0",
                self.bootstrap
            ));
        }
    }

    /// Returns the fields of the scores that the first are compared with.
    pub fn others_fields(&self) -> GivenFields {
        let own = self.fields.compare_score_field.clone();
        GivenFields { score_field: own.or(self.fields.score_field.clone()), ..self.fields.clone() }
    }

    /// Returns the names of the model and of those it is compared with: their paths, or the score fields if
    /// several models' scores are in one file.
    pub fn names(&self) -> (String, Vec<String>) {
        let name = |path: &Path, field: Option<&String>| match field {
            Some(field) => field.rsplit('/').next().unwrap_or(field).to_owned(),
            None => path.display().to_string(),
        };
        let own = match &self.scores {
            Some(scores) => name(scores, self.fields.score_field.as_ref()),
            None => self.model.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        };
        let field = self.others_fields().score_field;
        let others = self.compare.iter().map(|path| name(path, field.as_ref().filter(|_| path.is_file())));
        (own, others.collect())
    }

    /// Returns the path of the page: a folder per data set or comparison, inside the model's folder or the
    /// current one.
    pub fn page(&self) -> Option<PathBuf> {
        if self.no_report {
            return None;
        }
        if let Some(path) = &self.report {
            return Some(path.clone());
        }
        let (of, data) = match (&self.scores, &self.model) {
            (None, Some(model)) if model.is_dir() => (model.join("evaluation"), &self.data[..]),
            (None, Some(model)) => {
                (Path::new("evaluation").join(model.display().to_string().replace('/', "--")), &self.data[..])
            }
            (scores, _) => (PathBuf::from("evaluation"), scores.as_slice()),
        };
        let mut folder = folder_name(data);
        if !self.compare.is_empty() {
            let other = |name: &String| name.trim_end_matches('/').rsplit('/').next().map(str::to_owned);
            let others: Vec<String> = self.names().1.iter().filter_map(other).collect();
            folder.push_str(&format!(
                "-against-{}",
                folder_name(&others.iter().map(PathBuf::from).collect::<Vec<_>>())
            ));
        }
        Some(of.join(folder).join(report::FILE))
    }
}

/// Returns the name of data: their files' names without extensions.
fn folder_name(data: &[PathBuf]) -> String {
    let name = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kinds = [".gz", ".zst", ".jsonl", ".json", ".parquet"];
        kinds.iter().fold(name, |name, kind| name.strip_suffix(kind).unwrap_or(&name).to_owned())
    };
    let mut folder = data.iter().take(3).map(name).collect::<Vec<_>>().join("+");
    if data.len() > 3 {
        folder.push_str(&format!("+{}", data.len() - 3));
    }
    folder
}
