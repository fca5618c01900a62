//! Options that name the columns of the data, shared by every command that reads data.

use anyhow::{Context, Result, ensure};
use clap::{Arg, Args};
use pcrm_core::data::columns::Columns;
use pcrm_core::data::preference::{ReadOptions, Strictness, Ties};
use pcrm_core::data::schema::Schema;

use crate::numbers::positive;

/// Options for reading records.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data")]
pub struct ColumnArgs {
    /// Schema of the records [default: detected from the columns]: alpaca, sharegpt, hh_dialogues, ranked, ..
    #[arg(long, value_name = "NAME")]
    pub schema: Option<Schema>,
    /// Read the prompt from this column
    #[arg(long, value_name = "COLUMN")]
    pub prompt_field: Option<String>,
    /// Read the preferred answer from this column
    #[arg(long, value_name = "COLUMN")]
    pub chosen_field: Option<String>,
    /// Read the rejected answer from this column
    #[arg(long, value_name = "COLUMN")]
    pub rejected_field: Option<String>,
    /// Read the margin from this column
    #[arg(long, value_name = "COLUMN")]
    pub margin_field: Option<String>,
    /// Read a column under the name that schemas use: responses=outs; also scores, ranks, system, history, ..
    #[arg(long, value_name = "KNOWN=COLUMN", action = clap::ArgAction::Append)]
    pub field: Vec<String>,
    /// Use the difference of scores as the margin of pairs that have scores and no margin
    #[arg(long)]
    pub score_margins: bool,
    /// Use only the first N rows
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    pub limit: Option<usize>,
    /// Reject files with malformed, tied, identical or empty rows instead of skipping those rows
    #[arg(long)]
    pub strict: bool,
    /// Columns that the command reads itself.
    #[arg(skip)]
    pub elsewhere: Vec<String>,
}

/// Names `--eval-data` in the help of `--limit`, for commands that have both.
pub fn of_both_sets(limit: Arg) -> Arg {
    limit.help("Use only the first N rows of --data, and of --eval-data")
}

impl ColumnArgs {
    /// Returns the named columns.
    ///
    /// # Errors
    /// Fails if `--field` gives an unknown name or repeats one.
    pub fn columns(&self) -> Result<Columns> {
        let mut columns = Columns::of(self.schema);
        columns.elsewhere.clone_from(&self.elsewhere);
        let named = [
            ("prompt", &self.prompt_field),
            ("chosen", &self.chosen_field),
            ("rejected", &self.rejected_field),
            ("margin", &self.margin_field),
        ];
        for (known, own) in named {
            if let Some(own) = own {
                columns.name(known, own).with_context(|| format!("--{known}-field"))?;
            }
        }
        for field in &self.field {
            let at = || format!("--field {field}");
            let (known, own) = field.split_once('=').with_context(|| at() + ": expected KNOWN=COLUMN")?;
            columns.name(known, own).with_context(at)?;
        }
        Ok(columns)
    }

    /// Refuses the options that name margins, for a command that reads none; `why` says so.
    ///
    /// # Errors
    /// Fails if one of these options is given.
    pub fn refuse_margins(&self, why: &str) -> Result<()> {
        let is_margin = |field: &String| field.split_once('=').is_some_and(|(known, _)| known == "margin");
        for (given, option) in [
            (self.score_margins, "--score-margins"),
            (self.margin_field.is_some(), "--margin-field"),
            (self.field.iter().any(is_margin), "--field margin"),
        ] {
            ensure!(!given, "{option} has no effect: {why}");
        }
        Ok(())
    }

    /// Returns the options for reading records.
    ///
    /// # Errors
    /// Fails as [`ColumnArgs::columns`] does.
    pub fn options(&self, ties: Ties) -> Result<ReadOptions> {
        let strictness = if self.strict { Strictness::Refuse } else { Strictness::Skip };
        let (columns, score_margins) = (self.columns()?, self.score_margins);
        Ok(ReadOptions { strictness, columns, score_margins, ties, limit: self.limit })
    }
}
