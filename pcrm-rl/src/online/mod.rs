//! Training a policy on answers that it samples itself: rollout, rewards, reference, advantages, updates.
//!
//! One iteration answers some prompts, G samples each, and makes a number of updates on them. A prompt and its samples are
//! one tree, in the rollout as in training: the prompt is computed once. In f32 on a CPU the log-probabilities of the
//! rollout are those of training, so the importance ratio of a first update is exactly 1 and costs no pass.

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
pub use step::PolicyStep;
pub use train::{OnlineRun, SAMPLES, train};
pub use tree::{Answer, Judged, Step, Tree};
