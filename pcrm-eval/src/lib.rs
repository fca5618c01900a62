//! Metrics of reward models, as pure functions on slices of numbers, and reports built from them.
//!
//! Scores are in the model's own unit. A margin is Δ = score(chosen) − score(rejected), and σ(Δ) is read as
//! the probability that the chosen answer is preferred. This crate knows nothing of models or files: a caller
//! scores its pairs, fills [`PairScore`]s and builds a [`RewardReport`].
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
//! An undefined measure (the correlation with a constant) is `None`, `null` in JSON and a dash in tables;
//! empty input and NaN are errors that name the position. No result is NaN. An [`Interval`] is always
//! computed and never set by hand; without draws there is none.
//!
//! An [`Evaluation`] holds pairs, subsets, prompts, and sets of several answers with human scores or
//! right/wrong labels. Its report ([`RewardReport::of`]) adds accuracy by subset and by decile, agreement
//! with people, best-of-n accuracy and the scores of published [`benchmarks`]; [`RewardReport::beside`]
//! compares models. Rated answers that form no pairs have a [`RatingsReport`]. All draws derive from one seed.
//!
//! Reading order: [`interval`], [`accuracy`], [`quantiles`], [`calibration`], [`correlation`], [`bias`],
//! [`histogram`], [`slices`], [`bootstrap`], [`answers`], [`human`], [`benchmarks`], [`compare`], then
//! [`reward`], which combines them, [`findings`], which interprets them, and [`table`], which prints them.
//! [`temperature`] separates scale from order, [`judging`] holds pairwise judgements of policies,
//! [`replicates`] and [`comparison`] combine runs with several seeds, [`study`] plans and reads experiments,
//! [`report`] renders pages, and [`worlds`] generates pairs whose true reward is known.

pub mod accuracy;
pub mod answers;
pub mod benchmarks;
pub mod best_of_n;
pub mod bias;
pub mod bootstrap;
pub mod calibration;
pub mod compare;
pub mod comparison;
pub mod correlation;
pub mod error;
pub mod evaluation;
pub mod findings;
#[cfg(test)]
mod golden;
pub mod histogram;
pub mod human;
pub mod interval;
pub mod judging;
pub mod measure;
pub mod quantiles;
pub mod ratings;
pub mod replicates;
pub mod report;
pub mod reward;
pub mod scatter;
pub mod slices;
pub mod study;
pub mod table;
pub mod temperature;
pub mod worlds;
pub mod wrong_labels;

pub use answers::{AnswerSet, Labels};
pub use bootstrap::Bootstrap;
pub use error::{Error, Result};
pub use evaluation::{Evaluation, LengthUnit};
pub use interval::Interval;
pub use ratings::RatingsReport;
pub use reward::{PairScore, RewardReport};
pub use table::side_by_side;
