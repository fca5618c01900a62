//! `pcrm plugins`: lists the compiled-in plugins, one per line.

use anyhow::Result;
use pcrm_core::registry::{self, BackendPlugin, ConstraintPlugin, EncoderPlugin, Plugin};
use pcrm_rl::judge::JudgePlugin;
use pcrm_rl::reward_source::RewardPlugin;

use crate::terminal;

/// Prints all plugins.
pub fn run() -> Result<()> {
    let parts = [
        list::<BackendPlugin>(),
        list::<ConstraintPlugin>(),
        list::<EncoderPlugin>(),
        list::<JudgePlugin>(),
        list::<RewardPlugin>(),
    ];
    terminal::result(&parts.concat())
}

fn list<P: Plugin>() -> String {
    let mut lines = String::new();
    for plugin in registry::all::<P>() {
        lines.push_str(&format!("{:<11} {:<14} {}\n", P::WHAT, plugin.name(), plugin.about()));
    }
    lines
}
