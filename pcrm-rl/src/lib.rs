//! Training reward models with prior constraints.
//!
//! Reading order: [`loss`] has the mathematics, with [`ties`] and [`plackett_luce`] for ranked sets; [`pairs`] says
//! which pairs belong together, [`batch`] packs them without padding and [`order`] says which make which step; [`reward`]
//! computes one step and [`trainer`] runs them by its [`options`]; [`metrics`] are what a step shows, [`tensorboard`]
//! the same for TensorBoard; [`checkpoint`] is the state to resume from and [`fingerprint`] decides whether a run may;
//! [`score`] applies a trained model.
//!
//! Invariants: this crate names no backend and no constraint; the bits of a run depend on its configuration, its data
//! and the backend, and not on when it was stopped and resumed.

mod answers;
pub mod batch;
pub mod checkpoint;
pub mod error;
pub mod fingerprint;
pub mod loss;
pub mod metrics;
pub mod options;
pub mod order;
pub mod pairs;
pub mod plackett_luce;
mod plan;
pub mod reward;
pub mod score;
pub mod tensorboard;
pub mod ties;
pub mod trainer;

pub use error::{Error, Result};
