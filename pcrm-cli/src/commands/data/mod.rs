//! `pcrm data`: files of preferences into other files.

mod convert;
mod split;

use anyhow::Result;
use clap::Subcommand;

/// Verbs on data files.
#[derive(Debug, Subcommand)]
pub enum DataVerb {
    /// Writes pairs in another schema or file format, and says what that loses
    Convert(convert::ConvertArgs),
    /// Splits files by prompt: no prompt is on both sides
    Split(split::SplitArgs),
}

/// Converts or splits.
///
/// # Errors
/// Everything that the user's files and options can cause; nothing is then written.
pub fn run(verb: &DataVerb) -> Result<()> {
    match verb {
        DataVerb::Convert(args) => convert::run(args),
        DataVerb::Split(args) => split::run(args),
    }
}
