//! Measures of reward models: pure functions on slices of numbers, and the report made of them.
//!
//! Scores are in whatever unit a model gives them; a margin is Δ = score(chosen) − score(rejected), and σ(Δ) is
//! read as the probability that the chosen answer is preferred. Nothing here knows of models or files: a caller
//! scores its pairs, fills [`PairScore`]s and asks for a [`RewardReport`].
//!
//! ```
//! use pcrm_eval::{PairScore, RewardReport, side_by_side};
//!
//! let pair = |chosen, rejected| PairScore { chosen, rejected, ..PairScore::default() };
//! let report = RewardReport::new(&[pair(1.2, 0.3), pair(0.1, 0.4), pair(2.0, -1.0)])?;
//! assert_eq!(report.accuracy.value, 2.0 / 3.0);
//! println!("{}", side_by_side(&[("bt", &report), ("pcrm", &report)]));
//! # Ok::<(), pcrm_eval::Error>(())
//! ```
//!
//! Where a measure is undefined (the correlation with a constant) it is `None`, `null` in JSON and a dash in
//! tables; empty input and NaN are errors that name the position. NaN never comes out.
//!
//! Reading order: [`accuracy`], [`quantiles`], [`calibration`], [`correlation`], [`bias`], [`histogram`], then
//! [`reward`], which puts them together, and [`table`], which prints.

pub mod accuracy;
pub mod bias;
pub mod calibration;
pub mod correlation;
pub mod error;
#[cfg(test)]
mod golden;
pub mod histogram;
pub mod quantiles;
pub mod reward;
pub mod table;

pub use error::{Error, Result};
pub use reward::{PairScore, RewardReport};
pub use table::side_by_side;
