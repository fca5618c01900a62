//! Training reward models with prior constraints, and language models.
//!
//! Reading order: [`loss`] has the mathematics, functions of numbers in f64, and [`advantage`] that of rewards. An [`objective`] asks a model
//! for those numbers and sends the gradient back: [`objective::reward`] of answers' scores,
//! [`objective::sft`] of completions' log-probabilities, [`objective::dpo`] of both answers' beside those of
//! a [`mod@reference`]. [`pairs`], [`batch`] and [`answers`] pack answer sets without padding, [`order`]
//! decides which items make which step. [`learner`] updates weights, and [`offline`] runs the steps by its
//! [`options`]; [`metrics`] are what a step shows, [`tensorboard`] the same for TensorBoard; [`checkpoint`]
//! is the state to resume from and [`fingerprint`] decides whether a run may, by its [`manifest`] too;
//! [`score`] applies a trained model, and [`reward_source`] gives the answers of a policy their rewards.
//!
//! A run in a few lines, with `examples/reward.rs` as a whole program. Backends and constraints are linked by
//! naming their crates:
//!
//! ```no_run
//! # use std::{path::PathBuf, sync::atomic::AtomicBool};
//! # use pcrm_core::{DType, Device, constraint::{Priors, parse}, registry::{self, BackendPlugin}};
//! # use pcrm_rl::{crossfit::MarginCache, fingerprint::Fingerprint, offline::Silent};
//! # use pcrm_rl::train::{Base, RewardOptions, RewardRun, Setting, reward::RewardData};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let backend = (registry::find::<BackendPlugin>("candle")?.open)(Device::Cpu.into())?;
//! let base = Base::new("qwen2".into(), DType::F32, 0);
//! let tokenizer = base.tokenizer()?;
//! let files = [PathBuf::from("pairs.jsonl")];
//! let data = RewardData::read(&base, &tokenizer, &files, parse("length_ratio")?, 1024)?;
//! let (options, stop) = (RewardOptions::default(), AtomicBool::new(false));
//! let (backend, dir) = (backend.as_ref(), "runs/rm".as_ref());
//! let setting = Setting { backend, base: &base, tokenizer: &tokenizer, dir, resume: false, stop: &stop };
//! let priors = (&Priors::seeded(0), MarginCache::default());
//! let run = RewardRun::new(setting, &options, data, priors, &mut Silent)?;
//! println!("{:?}", run.train(Fingerprint::new(), &mut Silent)?.outcome);
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: this crate names no backend and no constraint. The bits of a run depend on its configuration,
//! its data and the backend, and not on when it was stopped and resumed.

pub mod advantage;
pub mod answers;
pub mod batch;
pub mod checkpoint;
pub mod crossfit;
pub mod error;
pub mod fingerprint;
pub mod judge;
pub mod learner;
pub mod loss;
pub mod manifest;
pub mod metrics;
pub mod objective;
pub mod offline;
pub mod online;
pub mod options;
pub mod order;
pub mod pairs;
mod plan;
pub mod reference;
mod resume;
pub mod reward_source;
pub mod rollout;
pub mod score;
pub mod score_range;
pub mod sharing;
pub mod tensorboard;
pub mod train;
#[cfg(feature = "http")]
mod transport;

pub use error::{Error, Result};
pub use learner::{Learner, Trainable};
pub use objective::{Objective, evaluate, gradient};
