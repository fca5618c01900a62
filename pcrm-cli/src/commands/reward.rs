//! `pcrm reward`: trains a reward model.

use anyhow::Result;

pub use crate::training::reward::RewardArgs;
use crate::training::reward::train;

/// Trains; `resolved` is the config file of this run.
///
/// # Errors
/// Options that cannot be used, a folder that holds another run, files that cannot be read, training errors, Ctrl-C.
pub fn run(args: &RewardArgs, resolved: &str) -> Result<()> {
    train(args, resolved).map(drop)
}
