//! Training a policy on answers that it samples itself: rollout, rewards, reference, advantages, updates.
//!
//! One iteration samples G answers to each of some prompts, and makes a number of updates on them. A prompt
//! and its samples form one tree, in the rollout as in training, so the prompt is computed once. In f32 on a
//! CPU the log-probabilities of the rollout equal those of training, so the importance ratio of a first
//! update is exactly 1 without another pass.

mod ahead;
mod asked;
mod changes;
mod config;
mod credit;
mod critic;
mod evaluation;
mod iteration;
mod kept;
mod mix;
mod pairs;
mod refill;
mod rollout;
mod sampling;
mod serving;
mod steering;
mod step;
mod train;
mod tree;
mod update;

pub use changes::{CHANGES, Change};
pub use config::{Algorithm, OnlineConfig};
pub use critic::CRITIC;
pub use mix::Mix;
pub use pairs::{Bounding, OnlineDpoConfig, PairStep};
pub use rollout::Prompts;
pub use sampling::RolloutConfig;
pub use step::PolicyStep;
pub use train::{OnlineRun, SAMPLES, train};
pub use tree::{CriticValues, SampledAnswer, Step, Tree};
