//! Losses of pairs of answers by their log-probabilities: DPO and its variants, with TRL's names.
//!
//! A [`PreferenceConfig`] takes the log-probabilities of answer tokens under the policy and under the
//! reference, and returns the loss of a batch of pairs with its derivative by every policy log-probability.
//! Formulas follow TRL 1.16 (`DPOTrainer`, `CPOTrainer`, `ORPOTrainer`); golden values are in
//! `tests/golden/dpo`.
//!
//! A loss of the margin Δ can be bounded: the constraint's term −ln σ(Δ* − Δ) is added to it
//! ([`beyond_bound`](super::beyond_bound), the function that reward models use).

mod answers;
mod batch;
mod config;
mod divergence;
pub mod kto;
mod margin;
mod names;
mod sorted;

pub use batch::{AnswerTokens, Pair, PairFigures, PairsLoss};
pub use config::{PreferenceConfig, WeightedLoss};
pub use divergence::Divergence;
pub use names::PreferenceLoss;
