//! Trains a reward model on a preference file, with a bound from the lengths of the answers:
//!
//!     cargo run --release -p pcrm-rl --example reward -- MODEL_DIR PAIRS.jsonl OUTPUT_DIR

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use pcrm_core::constraint::{Priors, parse};
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_core::{DType, Device};
use pcrm_rl::crossfit::MarginCache;
use pcrm_rl::fingerprint::Fingerprint;
use pcrm_rl::offline::Silent;
use pcrm_rl::train::{Base, RewardOptions, RewardRun, Setting, reward::RewardData};
// Plugins register themselves where their crates are linked.
use {pcrm_backend_candle as _, pcrm_constraints as _};

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = std::env::args().skip(1).map(PathBuf::from);
    let (Some(model), Some(pairs), Some(output)) = (paths.next(), paths.next(), paths.next()) else {
        return Err("expected MODEL_DIR PAIRS.jsonl OUTPUT_DIR".into());
    };
    let backend = (registry::find::<BackendPlugin>("candle")?.open)(Device::Cpu.into())?;
    let base = Base::new(model, DType::F32, 0);
    let tokenizer = base.tokenizer()?;
    let data = RewardData::read(&base, &tokenizer, &[pairs], parse("length_ratio")?, 1024)?;
    let (options, stop) = (RewardOptions::default(), AtomicBool::new(false));
    let setting = Setting {
        backend: backend.as_ref(),
        base: &base,
        tokenizer: &tokenizer,
        dir: &output,
        resume: false,
        stop: &stop,
    };
    let (priors, cache) = (Priors::seeded(0), MarginCache::default());
    let run = RewardRun::new(setting, &options, data, &priors, cache, &mut Silent)?;
    let trained = run.train(Fingerprint::new(), &mut Silent)?;
    println!("{:?}", trained.outcome);
    Ok(())
}
