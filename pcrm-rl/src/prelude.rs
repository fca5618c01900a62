//! The names that a small program needs to train a reward model and to score with it.
//!
//! ```
//! use pcrm_rl::prelude::*;
//! use {pcrm_backend_candle as _, pcrm_constraints as _};
//!
//! fn main() -> Result<()> {
//! #   let folder = tempfile::tempdir().map_err(pcrm_core::Error::io("a temporary folder"))?;
//! #   let rm = folder.path().join("rm");
//!     RewardTrainer::new("examples/tiny", "examples/tiny/pairs.jsonl").random_init().output(&rm).train()?;
//!     println!("{}", Scorer::open(&rm)?.score("Name a tree.", " An oak.")?);
//!     Ok(())
//! }
//! ```

pub use pcrm_core::data::conversation::{Content, Message};
pub use pcrm_core::{DType, Device};

pub use crate::error::{Error, Result};
pub use crate::offline::Outcome;
pub use crate::scorer::Scorer;
pub use crate::train::{RewardOptions, RewardTrainer};
