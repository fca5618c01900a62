//! `pcrm quickstart`.

use anyhow::Result;
use clap::Args;

use crate::machine::Machine;

/// Options of `pcrm quickstart`.
#[derive(Debug, Args)]
pub struct QuickstartArgs {
    #[command(flatten)]
    machine: Machine,
}

/// Runs it.
pub fn run(args: &QuickstartArgs) -> Result<()> {
    args.machine.open()?;
    Ok(())
}
