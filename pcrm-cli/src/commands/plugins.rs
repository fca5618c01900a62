//! `pcrm plugins`: what is compiled in, a line each.

use anyhow::Result;
use pcrm_core::registry::{self, BackendPlugin, ConstraintPlugin, EncoderPlugin, Plugin};

/// Prints all plugins.
pub fn run() -> Result<()> {
    list::<BackendPlugin>();
    list::<ConstraintPlugin>();
    list::<EncoderPlugin>();
    Ok(())
}

fn list<P: Plugin>() {
    for plugin in registry::all::<P>() {
        println!("{:<11} {:<14} {}", P::WHAT, plugin.name(), plugin.about());
    }
}
