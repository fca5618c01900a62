//! `pcrm export`: writes a finished run as a folder to share, and uploads it to the Hub.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use indicatif::HumanBytes;

use crate::export::{self, Export};
use crate::hub::{Target, is_repository, push};
use crate::progress::say;
use crate::terminal;
use crate::usage::usage;
use crate::warnings;

/// Options of `pcrm export`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ExportArgs {
    /// Export the model or adapter in the folder of this finished run
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Write the files to this new folder
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Upload the files to this Hub repository in one commit; the repository is created if it is missing.
    /// Requires a token with write access in HF_TOKEN or from `hf auth login`
    #[arg(long, value_name = "ORG/NAME")]
    push: Option<String>,
    /// Make the repository private if it is new
    #[arg(long, requires = "push")]
    private: bool,
    /// Commit to this branch; it is created if it is missing
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    revision: String,
    /// Set the commit message
    #[arg(long, value_name = "TEXT", default_value = "Upload model", requires = "push")]
    message: String,
    /// Name this Hub repository as the base model [default: the base model that the run records, if any]
    #[arg(long, value_name = "ORG/NAME")]
    base_model: Option<String>,
    /// List the files with their sizes; write and upload nothing
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  pcrm export runs/rm --output shared/rm
  pcrm export runs/rm --push acme/rm --dry-run
  pcrm export runs/rm --push acme/rm --private

Checkpoints, metrics, logs, reports and options stay behind. Local paths in the card and the settings are \
replaced by names or removed.";

/// Exports the run.
///
/// # Errors
/// Fails if the run is not finished, the output folder is not empty, or the Hub refuses the upload.
pub fn run(args: &ExportArgs) -> Result<()> {
    usage(args.check())?;
    let found = export::gather(&args.run, args.base_model.as_deref())?;
    describe(args, &found);
    if args.dry_run {
        return terminal::result(&listing(&found)?);
    }
    if let Some(output) = &args.output {
        export::write(&found.entries, output)?;
        say(&format!("{}: {} files", output.display(), found.entries.len()));
    }
    if let Some(repository) = &args.push {
        let target = Target { repository, revision: &args.revision, private: args.private };
        let address = push(&target, &found.entries, &args.message)?;
        say(&format!("{repository}: {} files in {address}", found.entries.len()));
    }
    Ok(())
}

/// Prints the omitted files, the origins and the warnings.
fn describe(args: &ExportArgs, found: &Export) {
    if !found.left_out.is_empty() {
        say(&format!("left out of {}: {}", args.run.display(), found.left_out.join(", ")));
    }
    if !found.changed.is_empty() {
        say(&format!("local paths replaced in {}", found.changed.join(", ")));
    }
    say(&format!("base model: {}", found.base.as_deref().unwrap_or("none on the Hub; the card names none")));
    if !found.datasets.is_empty() {
        say(&format!("data: {}", found.datasets.join(", ")));
    }
    found.warnings.iter().for_each(|warning| warnings::print(warning));
}

/// Lists the files with their sizes.
fn listing(found: &Export) -> Result<String> {
    let mut lines = String::new();
    let mut total = 0;
    for entry in &found.entries {
        let size = entry.size()?;
        total += size;
        lines += &format!("{:>12}  {}\n", HumanBytes(size).to_string(), entry.name);
    }
    Ok(format!("{lines}{:>12}  {} files\n", HumanBytes(total).to_string(), found.entries.len()))
}

impl ExportArgs {
    fn check(&self) -> Result<()> {
        ensure!(
            self.output.is_some() || self.push.is_some() || self.dry_run,
            "nothing to do: expected --output DIR, --push ORG/NAME or --dry-run"
        );
        if let Some(name) = &self.push {
            ensure!(is_repository(name), "--push {name}: expected the name of a Hub repository, ORG/NAME");
        }
        if let Some(name) = &self.base_model {
            ensure!(
                is_repository(name),
                "--base-model {name}: expected the name of a Hub repository, ORG/NAME"
            );
        }
        ensure!(
            self.push.is_some() || self.revision == "main",
            "--revision {}: has no effect without --push",
            self.revision
        );
        if let Some(output) = &self.output {
            let inside = |dir: &Path| dir.canonicalize().ok();
            let same = inside(output).is_some_and(|output| inside(&self.run) == Some(output));
            ensure!(!same, "--output {}: is the folder of the run itself", output.display());
            export::check_output(output)?;
        }
        Ok(())
    }
}
