//! `pcrm data`: files of preferences, converted, split and generated.

mod convert;
mod split;
mod world;

use anyhow::Result;
use clap::Subcommand;

/// Verbs on data files.
#[derive(Debug, Subcommand)]
pub enum DataVerb {
    /// Writes pairs in another schema or file format, and says what that loses
    Convert(convert::ConvertArgs),
    /// Splits files by prompt: no prompt is on both sides
    Split(split::SplitArgs),
    /// Generates preference pairs whose true reward is known, and an untrained model for them
    World(world::WorldArgs),
}

/// Converts, splits or generates.
///
/// # Errors
/// Everything that the user's files and options can cause; nothing is then written.
pub fn run(verb: &DataVerb) -> Result<()> {
    match verb {
        DataVerb::Convert(args) => convert::run(args),
        DataVerb::Split(args) => split::run(args),
        DataVerb::World(args) => world::run(args),
    }
}
