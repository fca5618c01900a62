//! `--revision` of commands that fetch models and read no data, and `--data-revision` of those that only read data.

use clap::Args;

use crate::hub::Hub;

/// The revision of models.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Hugging Face Hub")]
pub struct RevisionArgs {
    /// Fetch the model at this branch, tag or commit, if it is a repository (org/name)
    #[arg(long, value_name = "REV", default_value = RevisionArgs::MAIN)]
    revision: String,
}

impl RevisionArgs {
    /// The branch that is fetched by default.
    pub const MAIN: &str = "main";

    /// Returns the options that name this revision.
    pub fn of(revision: &str) -> Self {
        Self { revision: revision.to_owned() }
    }

    /// Returns the options for fetching models.
    pub fn hub(&self) -> Hub {
        Hub { revision: self.revision.clone(), data_revision: self.revision.clone() }
    }
}

/// The revision of data sets.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Hugging Face Hub")]
pub struct DataRevisionArgs {
    /// Fetch --data at this branch, tag or commit, for repositories (org/name, org/name:split, org/name:config,
    /// org/name:config/split, org/name:file)
    #[arg(long, value_name = "REV", default_value = RevisionArgs::MAIN)]
    data_revision: String,
}

impl DataRevisionArgs {
    /// Returns the options for fetching data sets.
    pub fn hub(&self) -> Hub {
        Hub { revision: RevisionArgs::MAIN.to_owned(), data_revision: self.data_revision.clone() }
    }
}
