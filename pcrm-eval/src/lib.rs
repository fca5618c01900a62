//! Measures of reward models: pure functions on slices of numbers, and the report made of them.
//!
//! Scores are in whatever unit a model gives them; a margin is Δ = score(chosen) − score(rejected), and σ(Δ)
//! is read as the probability that the chosen answer is preferred. Nothing here knows of models or files: a
//! caller scores its pairs, fills [`PairScore`]s and asks for a [`RewardReport`].
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
//! empty input and NaN are errors that name the position. NaN never comes out. An [`Interval`] is computed,
//! never written down: where nothing was drawn, there is none.
//!
//! An [`Evaluation`] holds pairs, subsets, prompts, and sets of several answers with human scores or with
//! right and wrong ones. Its report ([`RewardReport::of`]) adds accuracy by subset and by decile, agreement
//! with people, best-of-n accuracy and the scores of published [`benchmarks`]; [`RewardReport::beside`]
//! compares models. A seed decides every draw.
//!
//! Reading order: [`interval`], [`accuracy`], [`quantiles`], [`calibration`], [`correlation`], [`bias`],
//! [`histogram`], [`slices`], [`bootstrap`], [`answers`], [`human`], [`benchmarks`], [`compare`], then
//! [`reward`], which puts them together, [`findings`], which reads them, and [`table`], which prints.
//! [`temperature`] tells scale from order, [`judging`] holds pairwise judgements of policies.
//! [`replicates`] and [`comparison`] put runs with several seeds together, [`study`] plans and reads experiments, [`report`]
//! makes pages, and
//! [`worlds`] generates pairs whose true reward is known.

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
pub use reward::{PairScore, RewardReport};
pub use table::side_by_side;
