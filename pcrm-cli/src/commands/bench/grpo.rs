//! `pcrm bench grpo`: times on-policy steps, from rollout to update.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use pcrm_core::text::Tokenizer;
use pcrm_rl::advantage::{GroupAdvantages, Rewards};
use pcrm_rl::loss::policy::GrpoConfig;
use pcrm_rl::objective::Batch;
use pcrm_rl::online::{PolicyStep, SampledAnswer, Step, Tree};
use pcrm_rl::rollout::{Engine, Prompt, Sample, Sampling, Stop, Watch};
use pcrm_rl::train::Base;
use serde::Serialize;

use super::memory::{Memory, Peak};
use super::pace::learner;
use super::prompts::SampleArgs;
use super::{round, system};
use crate::machine::Machine;
use crate::numbers::{positive, whole};
use crate::terminal;
use crate::training::LoraArgs;

/// Options of `pcrm bench grpo`.
#[derive(Debug, Args)]
pub struct GrpoArgs {
    #[command(flatten)]
    sampled: SampleArgs,
    /// Answer N prompts per step
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive::<usize>)]
    prompts: usize,
    /// Sample N answers to each prompt
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive::<usize>)]
    samples: usize,
    /// Time N steps
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = positive::<usize>)]
    steps: usize,
    /// Run N steps before the clock starts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<usize>)]
    warmup: usize,
    /// Compute at most N tokens at once
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = positive::<usize>)]
    micro_tokens: usize,
    #[command(flatten)]
    lora: LoraArgs,
}

#[derive(Debug, Serialize)]
struct Timing {
    system: String,
    job: &'static str,
    device: String,
    dtype: String,
    steps_per_s: f64,
    samples_per_s: f64,
    s_per_step: f64,
    s_rollout: f64,
    #[serde(flatten)]
    peak: Peak,
}

#[derive(Default)]
struct Collected(Vec<Vec<Sample>>);

impl Watch for Collected {
    fn done(&mut self, _prompt: usize, samples: Vec<Sample>) -> pcrm_rl::Result<()> {
        self.0.push(samples);
        Ok(())
    }
}

/// Times steps. The reward is the length of an answer in characters; there is no reference.
///
/// # Errors
/// Fails if files cannot be read, too few prompts fit, or the backend fails.
pub fn run(args: &GrpoArgs) -> Result<()> {
    let sampled = &args.sampled;
    let options = sampled.reading()?;
    let backend = sampled.machine.open()?;
    let memory = Memory::of(backend.as_ref());
    let (dir, tokenizer) = sampled.opened()?;
    let Machine { dtype, seed, .. } = sampled.machine;
    let base = Base {
        random_init: sampled.random_init,
        lora: args.lora.config(),
        quantise: args.lora.quantise(&dir),
        ..Base::new(dir, dtype, seed)
    };
    let rows = args.prompts * args.samples;
    let needed = args.prompts * (args.steps + args.warmup);
    let (prompts, budget) = sampled.prompts(options, &tokenizer, needed, rows)?;
    let mut learner = learner(backend.as_ref(), &base.open_language(backend.as_ref())?)?;
    let mut engine = Engine::new(learner.model.decoder(), budget)?;
    let objective = PolicyStep { loss: GrpoConfig::default().loss(sampled.new_tokens), temperature: 1.0 };
    let (mut started, mut rolling) = (Instant::now(), 0.0);
    for (at, asked) in prompts.chunks(args.prompts).enumerate() {
        if at == args.warmup {
            backend.synchronize()?;
            (started, rolling) = (Instant::now(), 0.0);
        }
        let begun = Instant::now();
        let sampling =
            Sampling { max_tokens: sampled.new_tokens, seed: seed ^ at as u64, ..Sampling::default() };
        let policy = learner.model.for_sampling()?;
        let mut collected = Collected::default();
        engine.run(policy.decoder(), asked, args.samples, &sampling, &Stop::default(), &mut collected)?;
        rolling += begun.elapsed().as_secs_f64();
        let mut step = step(args, &tokenizer, asked, collected.0)?;
        let items: Vec<usize> = (0..asked.len()).collect();
        step.counted(&objective.loss, &items, 1, None)?;
        let batch = Batch { data: &step, items: &items, micro_tokens: args.micro_tokens };
        learner.step(backend.as_ref(), &objective, &batch, 0.0)?;
    }
    backend.synchronize()?;
    let seconds = started.elapsed().as_secs_f64();
    let steps = args.steps as f64;
    let timing = Timing {
        system: system(backend.as_ref()),
        job: "grpo",
        device: sampled.machine.device.to_string(),
        dtype: dtype.to_string(),
        steps_per_s: round(steps / seconds, 4),
        samples_per_s: round(steps * rows as f64 / seconds, 3),
        s_per_step: round(seconds / steps, 3),
        s_rollout: round(rolling / steps, 3),
        peak: memory.peak(backend.as_ref()),
    };
    match sampled.json {
        true => terminal::result(&(serde_json::to_string(&timing)? + "\n")),
        false => {
            let peak = timing.peak.text();
            terminal::result(&format!(
                "{:.2} s per step, {:.2} s of it sampling; {:.1} samples/s, {peak}\n",
                timing.s_per_step, timing.s_rollout, timing.samples_per_s
            ))
        }
    }
}

/// Returns the trees of a rollout, rewarded by length.
fn step(args: &GrpoArgs, tokenizer: &Tokenizer, asked: &[Prompt], samples: Vec<Vec<Sample>>) -> Result<Step> {
    let characters = |sample: &Sample| -> Result<Vec<Option<f64>>> {
        Ok(vec![Some(tokenizer.decode_plain(&sample.ids)?.chars().count() as f64)])
    };
    let rewards = samples.iter().flatten().map(characters).collect::<Result<Vec<_>>>()?;
    let rewards = Rewards::new(vec!["length".into()], vec![1.0], rewards)?;
    let mut advantages = GroupAdvantages::default().of(&rewards, args.samples)?.values.into_iter();
    let mut answer = |sample: Sample| SampledAnswer {
        sampled: sample.log_probs.iter().map(|p| f64::from(*p)).collect(),
        ended: sample.finish.is_ended(),
        ids: sample.ids,
        advantage: advantages.next().unwrap_or_default(),
        ..SampledAnswer::default()
    };
    let mut tree = |(prompt, samples): (&Prompt, Vec<Sample>)| Tree {
        origin: String::new(),
        prompt: prompt.ids.clone(),
        answers: samples.into_iter().map(&mut answer).collect(),
        pair: None,
    };
    Ok(Step::new(asked.iter().zip(samples).map(&mut tree).collect()))
}
