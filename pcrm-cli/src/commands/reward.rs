//! `pcrm reward`: trains a reward model.

use anyhow::Result;

pub use crate::training::reward::RewardArgs;
use crate::training::reward::train;

/// Trains a reward model; `resolved` is the config file of this run.
///
/// # Errors
/// Fails if an option is invalid, the folder holds another run, a file cannot be read, training fails or
/// Ctrl-C interrupts.
pub fn run(args: &RewardArgs, resolved: &str) -> Result<()> {
    train(args, resolved).map(drop)
}
