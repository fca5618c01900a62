//! Losses of policies on sampled answers: GRPO and its variants, PPO and RLOO, with TRL's names.
//!
//! A config ([`GrpoConfig`], [`PpoConfig`], [`RlooConfig`]) builds a [`PolicyLoss`]. It takes the numbers of sampled
//! answers ([`AnswerRow`]) and the counts of the step ([`Totals`]), and returns the loss with its derivative by every
//! log-probability and, for an entropy bonus, by every entropy. [`ValueLoss`] is the critic's. Advantages come from
//! [`advantage`](crate::advantage). Formulas follow TRL 1.16 (`GRPOTrainer`, `RLOOTrainer`) and the PPO that TRL had
//! until 1.10; golden values are in `tests/golden/policy`.
//!
//! Where TRL takes a mean over a device's micro-batch (`bnpo`, PPO, the entropy bonus and its quantile), this
//! crate takes it over the step, so the size of micro-batches has no effect. Both agree if one micro-batch is
//! the step.
//!
//! ```
//! # use pcrm_rl::loss::policy::{Advantage, GrpoConfig, AnswerRow};
//! # use pcrm_rl::metrics::Metrics;
//! # fn main() -> pcrm_rl::Result<()> {
//! let loss = GrpoConfig::default().loss(512);
//! let row = |log_probs, advantage| {
//!     AnswerRow { log_probs, advantage: Advantage::OfRow(advantage), ..AnswerRow::default() }
//! };
//! let step = [row(&[-0.5, -1.5], 1.0), row(&[-2.0], -1.0)];
//! let totals = loss.totals(&step)?;
//! let found = loss.evaluate(&step, &totals, &mut Metrics::default())?;
//! assert_eq!(found.d_log_probs, [vec![-1.0 / 3.0; 2], vec![1.0 / 3.0]]);
//! # Ok(())
//! # }
//! ```

mod aggregation;
mod correction;
mod entropy;
mod evaluation;
mod grpo;
mod kl;
mod loss_type;
mod ppo;
mod record;
mod rloo;
mod rows;
mod surrogate;
mod value;

pub use correction::{Correction, CorrectionMode};
pub use entropy::{EntropyCoefficient, EntropyControl};
pub use evaluation::{LossPart, PolicyLoss};
pub use grpo::{GrpoConfig, ImportanceLevel};
pub use kl::{Estimate, KlEstimator};
pub use loss_type::GrpoLoss;
pub use ppo::{KlPlace, PpoConfig, record_update};
pub use record::loss_entropy;
pub use rloo::{RlooConfig, Sampled};
pub use rows::{Advantage, AnswerRow, Totals};
pub use value::{ValueEvaluation, ValueLoss, ValueRow, explained_variance};

#[cfg(test)]
mod tests;
