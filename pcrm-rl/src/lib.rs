//! Training reward models with prior constraints, and language models.
//!
//! Reading order: [`loss`] has the mathematics, functions of numbers in f64. An [`objective`] asks a model for those
//! numbers and sends the gradient back: [`objective::reward`] of answers' scores, [`objective::sft`] of completions'
//! log-probabilities. [`pairs`] and [`batch`] pack answer
//! sets without padding, [`order`] decides which items make which step. [`learner`] updates weights, and [`offline`] runs
//! the steps by its [`options`]; [`metrics`] are what a step shows, [`tensorboard`] the same for TensorBoard;
//! [`checkpoint`] is the state to resume from and [`fingerprint`] decides whether a run may; [`score`] applies a trained
//! model.
//!
//! Invariants: this crate names no backend and no constraint; the bits of a run depend on its configuration, its data
//! and the backend, and not on when it was stopped and resumed.

pub mod batch;
pub mod checkpoint;
pub mod crossfit;
pub mod error;
pub mod fingerprint;
pub mod learner;
pub mod loss;
pub mod metrics;
pub mod objective;
pub mod offline;
pub mod options;
pub mod order;
pub mod pairs;
mod plan;
pub mod score;
pub mod tensorboard;
pub mod train;

pub use error::{Error, Result};
pub use learner::{Learner, Trainable};
pub use objective::{Objective, evaluate, gradient};
