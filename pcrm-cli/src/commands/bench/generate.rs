//! `pcrm bench generate`: times the sampling of answers.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use pcrm_core::model::{LanguageModel, Loading, ModelConfig};
use pcrm_rl::rollout::{Engine, Prompt, Sample, Sampling, Stop, Watch};
use serde::Serialize;

use super::memory::{Memory, Peak};
use super::prompts::SampleArgs;
use super::{round, system};
use crate::machine::Machine;
use crate::numbers::positive;
use crate::terminal;

/// Options of `pcrm bench generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    sampled: SampleArgs,
    /// Continue N prompts
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive::<usize>)]
    prompts: usize,
    /// Sample N answers to each prompt
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = positive::<usize>)]
    samples: usize,
    /// Decode at most N samples at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = positive::<usize>)]
    batch: usize,
}

#[derive(Debug, Serialize)]
struct Timing {
    system: String,
    job: &'static str,
    device: String,
    dtype: String,
    batch: usize,
    samples_per_s: f64,
    tokens_per_s: f64,
    prompt_tokens: usize,
    #[serde(flatten)]
    peak: Peak,
}

/// A sink that drops all samples.
struct Dropped;

impl Watch for Dropped {
    fn done(&mut self, _prompt: usize, _samples: Vec<Sample>) -> pcrm_rl::Result<()> {
        Ok(())
    }
}

/// Samples answers to as many prompts as are decoded at once, as a warm-up of full size, then times all prompts.
///
/// # Errors
/// Fails if files cannot be read, too few prompts fit, or the backend fails.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let sampled = &args.sampled;
    let options = sampled.reading()?;
    let backend = sampled.machine.open()?;
    let memory = Memory::of(backend.as_ref());
    let (dir, tokenizer) = sampled.opened()?;
    let Machine { dtype, seed, .. } = sampled.machine;
    let model = match sampled.random_init {
        true => LanguageModel::random(backend.as_ref(), ModelConfig::from_dir(&dir)?, dtype, seed)?
            .snapshot(dtype)?,
        false => LanguageModel::load_as(&dir, Loading::frozen(backend.as_ref(), dtype))?,
    };
    let (prompts, budget) = sampled.prompts(options, &tokenizer, args.prompts, args.batch)?;
    let mut engine = Engine::new(model.decoder(), budget)?;
    let sampling = Sampling { max_tokens: sampled.new_tokens, seed, ..Sampling::default() };
    let mut sample = |prompts: &[Prompt]| {
        engine.run(model.decoder(), prompts, args.samples, &sampling, &Stop::default(), &mut Dropped)
    };
    let at_once = (args.batch / args.samples).clamp(1, prompts.len());
    sample(&prompts[..at_once])?;
    backend.synchronize()?;
    let started = Instant::now();
    let progress = sample(&prompts)?;
    backend.synchronize()?;
    let seconds = started.elapsed().as_secs_f64();
    let timing = Timing {
        system: system(backend.as_ref()),
        job: "generate",
        device: sampled.machine.device.to_string(),
        dtype: dtype.to_string(),
        batch: args.batch,
        samples_per_s: round(progress.samples as f64 / seconds, 3),
        tokens_per_s: round(progress.sampled as f64 / seconds, 1),
        prompt_tokens: progress.prompt_tokens,
        peak: memory.peak(backend.as_ref()),
    };
    match sampled.json {
        true => terminal::result(&(serde_json::to_string(&timing)? + "\n")),
        false => {
            let peak = timing.peak.text();
            terminal::result(&format!(
                "{:.1} samples/s, {:.0} tokens/s, {peak}\n",
                timing.samples_per_s, timing.tokens_per_s
            ))
        }
    }
}
