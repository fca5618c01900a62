//! The verbs, one file each.

pub mod plugins;
pub mod quickstart;
