//! `pcrm eval comparisons`: comparisons put together, as more replicates of the same arms.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{Comparison, FILE, finish};

/// Options of `pcrm eval comparisons`.
#[derive(Debug, Clone, Args)]
pub struct GatherArgs {
    /// Folders of `pcrm compare`; with other seeds, other data or other models, but the same names of constraints
    #[arg(value_name = "DIR", required = true, num_args = 2..)]
    from: Vec<PathBuf>,
    /// Folder for the whole
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

/// Puts comparisons together. A run of a folder is one replicate, paired with the runs of the same folder and seed.
///
/// # Errors
/// Files that cannot be read, comparisons of other arms.
pub fn gather(args: &GatherArgs) -> Result<()> {
    let mut whole: Option<Comparison> = None;
    for dir in &args.from {
        let path = dir.join(FILE);
        let at = || path.display().to_string();
        let one: Comparison =
            serde_json::from_str(&fs::read_to_string(&path).with_context(at)?).with_context(at)?;
        match &mut whole {
            None => whole = Some(one),
            Some(whole) => {
                ensure!(
                    whole.labels == one.labels,
                    "{}: compares {}, expected {} as in {}",
                    path.display(),
                    one.labels.join(", "),
                    whole.labels.join(", "),
                    args.from[0].display()
                );
                whole.runs.extend(one.runs);
            }
        }
    }
    finish(&args.output, whole.context("no folder")?)
}
