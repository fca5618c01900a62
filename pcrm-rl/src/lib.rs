//! Training reward models with prior constraints, and language models.
//!
//! Reading order: [`loss`] has the mathematics, functions of numbers in f64, and [`advantage`] that of
//! rewards. An [`objective`] asks a model for those numbers and sends the gradient back:
//! [`objective::reward`] of answers' scores, [`objective::sft`] of completions' log-probabilities,
//! [`objective::dpo`] of both answers' beside those of a [`mod@reference`]. [`pairs`], [`batch`] and
//! [`answers`] pack answer sets without padding, [`order`] decides which items make which step. [`learner`]
//! updates weights, by [`lanes`] if several processes train, and [`offline`] runs the steps by its
//! [`options`]; [`metrics`] are what a step shows,
//! [`tensorboard`] the same for TensorBoard; [`checkpoint`] is the state to resume from and [`fingerprint`]
//! decides whether a run may, by its [`manifest`] too; [`score`] applies a trained model, and
//! [`reward_source`] gives the answers of a policy their rewards.
//!
//! A run in a few lines; [`prelude`] has the names. A backend and constraints are linked by naming their
//! crates, and `examples/reward.rs` is the same with every part in view:
//!
//! ```no_run
//! use pcrm_rl::prelude::*;
//! use {pcrm_backend_candle as _, pcrm_constraints as _};
//!
//! fn main() -> Result<()> {
//!     let trainer = RewardTrainer::new("models/qwen2", "pairs.jsonl").constraint("length_ratio");
//!     println!("{:?}", trainer.output("runs/rm").train()?);
//!     println!("{}", Scorer::open("runs/rm")?.score("Is the sea salty?", " Yes.")?);
//!     Ok(())
//! }
//! ```
//!
//! Invariants: this crate names no backend and no constraint. The bits of a run depend on its configuration,
//! its data and the backend, and not on when it was stopped and resumed.

pub mod advantage;
pub mod answers;
pub mod batch;
pub mod checkpoint;
pub mod crossfit;
pub mod error;
pub mod fingerprint;
pub mod footprint;
pub mod judge;
pub mod lanes;
pub mod learner;
pub mod loss;
pub mod manifest;
pub mod metrics;
pub mod objective;
pub mod offline;
pub mod online;
pub mod options;
pub mod order;
pub mod pairs;
mod plan;
pub mod prelude;
pub mod reference;
mod resume;
pub mod reward_source;
pub mod rollout;
pub mod score;
pub mod score_range;
pub mod scorer;
pub mod sharing;
pub mod tensorboard;
pub mod train;
#[cfg(feature = "http")]
mod transport;

pub use error::{Error, Result};
pub use learner::{Learner, Trainable};
pub use objective::{Objective, evaluate, gradient};
