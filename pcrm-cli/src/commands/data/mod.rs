//! `pcrm data`: converts, splits and generates preference files.

mod convert;
mod split;
mod world;

use anyhow::Result;
use clap::Subcommand;

/// Subcommands of `pcrm data`.
#[derive(Debug, Subcommand)]
pub enum DataVerb {
    /// Write pairs in another schema or file format and report what is lost
    Convert(convert::ConvertArgs),
    /// Split files by prompt, so that no prompt is on both sides
    Split(split::SplitArgs),
    /// Generate preference pairs with a known true reward, and an untrained model for them
    World(world::WorldArgs),
}

/// Runs the subcommand.
///
/// # Errors
/// Fails if an option or a file is invalid; nothing is written then.
pub fn run(verb: &DataVerb) -> Result<()> {
    match verb {
        DataVerb::Convert(args) => convert::run(args),
        DataVerb::Split(args) => split::run(args),
        DataVerb::World(args) => world::run(args),
    }
}
