//! Training a policy on answers that it samples itself: rollout, rewards, reference, advantages, updates.
//!
//! One iteration answers some prompts, G samples each, and makes a number of updates on them. A prompt and its samples are
//! one tree, in the rollout as in training: the prompt is computed once. In f32 on a CPU the log-probabilities of the
//! rollout are those of training, so the importance ratio of a first update is exactly 1 and costs no pass.

mod config;
mod evaluation;
mod iteration;
mod rollout;
mod step;
mod train;

pub use config::{Algorithm, OnlineConfig};
pub use rollout::Prompts;
pub use step::{Answer, PolicyStep, Step, Tree};
pub use train::{OnlineRun, SAMPLES, train};
