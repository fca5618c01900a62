//! Training reward models with prior constraints, and language models.
//!
//! Reading order: [`loss`] has the mathematics as functions of f64 numbers, and [`advantage`] the mathematics
//! of rewards. An [`objective`] computes these numbers with a model and propagates the gradient:
//! [`objective::reward`] uses the scores of answers, [`objective::sft`] the log-probabilities of completions,
//! and [`objective::dpo`] the log-probabilities of both answers and those of a [`mod@reference`]. [`pairs`],
//! [`batch`] and [`answers`] pack answer sets without padding, and [`order`] assigns items to steps.
//! [`learner`] updates weights, and [`offline`] runs the steps with its [`options`]. If several processes
//! train, [`lanes`] spreads a step over them, and [`agreement`] compares their inputs. [`metrics`] holds the
//! metrics of a step, and [`tensorboard`] writes them for TensorBoard. [`checkpoint`] holds the state to resume
//! from; [`fingerprint`] and [`manifest`] decide if a run may resume. [`score`] applies a trained model, and
//! [`reward_source`] computes rewards for the answers of a policy.
//!
//! The following program trains and applies a model with the names of [`prelude`]. Naming the crates of a
//! backend and of constraints links them. `examples/reward.rs` does the same with every part explicit:
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
pub mod agreement;
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
#[cfg(feature = "http")]
pub mod proxy;
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
