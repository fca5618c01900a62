//! Training from encoded data to a folder, without a command line.
//!
//! [`reward`] trains reward models.

mod base;
pub mod bounds;
mod fitting;
pub mod reward;

pub use base::Base;
pub use reward::{RewardOptions, RewardRun};
