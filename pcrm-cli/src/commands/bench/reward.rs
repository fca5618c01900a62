//! `pcrm bench reward` and `pcrm bench score`: time training steps and the scoring of pairs.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use pcrm_core::Backend;
use pcrm_core::constraint::{Constraint, Priors};
use pcrm_core::data::encode::{EncodedSet, pairs as pairs_of};
use pcrm_core::model::family::{Mlp, Qkv};
use pcrm_core::model::{Checkpointing, ModelConfig, RewardModel};
use pcrm_core::text::Tokenizer;
use pcrm_rl::learner::Learner;
use pcrm_rl::objective::reward::{Reward, RewardConfig};
use pcrm_rl::objective::{Batch, TokenCounts};
use pcrm_rl::pairs::Pairs;
use pcrm_rl::score::score_pairs;
use serde::Serialize;

use super::memory::Memory;
use super::pace::{self, Pace, PolicyArgs};
use super::{WorkArgs, gemm, round};
use crate::constraint;
use crate::dataset::{bounds, padding};
use crate::hub::Weights;
use crate::numbers::positive;
use crate::priors::priors;
use crate::terminal;
use crate::usage::usage;

/// Options of `pcrm bench reward` and `pcrm bench score`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct BenchArgs {
    #[command(flatten)]
    work: WorkArgs,
    /// Use only ranked sets of K answers
    #[arg(long, value_name = "K", value_parser = positive::<usize>)]
    answers: Option<usize>,
    /// Compute each pair of a ranked set separately
    #[arg(long)]
    apart: bool,
    /// Train with this constraint: a name, JSON, or a JSON file
    #[arg(long, value_name = "NAME|JSON|FILE", default_value = "length_ratio")]
    constraint: String,
    #[command(flatten)]
    policy: PolicyArgs,
}

const EXAMPLES: &str = "\
Examples:
  pcrm bench gemm
  pcrm bench reward --model qwen2-micro --data harmless-base.test.jsonl.gz --batch 8 --max-length 512 \
   --threads 2 --json";

#[derive(Debug, Serialize)]
struct Timing {
    #[serde(flatten)]
    pace: Pace,
    unique_tokens_per_pair: f64,
    gflop_per_s: f64,
    gemm_gflop_per_s: f64,
    share_of_gemm_peak: f64,
}

/// The work of a timed step.
#[derive(Clone, Copy)]
pub enum StepWork {
    Reward,
    Score,
}

/// Times the steps.
///
/// # Errors
/// Fails if an option is invalid, a file cannot be read or too few pairs fit.
pub fn run(args: &BenchArgs, job: StepWork) -> Result<()> {
    let work = &args.work;
    let constraint = usage(constraint::read(&args.constraint))?;
    let backend = work.machine.open()?;
    let memory = Memory::of(backend.as_ref());
    let dir = work.hub.model("--model", &work.model, Weights::drawn_if(work.random_init))?;
    let tokenizer = Tokenizer::from_dir(&dir)?;
    let base = args.policy.base(work, dir.clone());
    let model = base.open(backend.as_ref())?;
    let pad = padding(model.config(), &tokenizer);
    let model = model.with_config(|config| config.pad = pad);
    let priors = priors(&work.machine, (!work.random_init).then_some(&dir))?;
    let Work { data, batches } = bounded(args, &tokenizer, pad, constraint.as_ref(), &priors)?;
    let mut trainer = Trainer::new(backend.as_ref(), &model, args.policy.micro_tokens())?;
    let (mut started, mut tokens) = (Instant::now(), TokenCounts::default());
    for (at, batch) in batches.iter().enumerate() {
        if at == work.warmup {
            backend.synchronize()?;
            (started, tokens) = (Instant::now(), TokenCounts::default());
        }
        let made = match job {
            StepWork::Reward => trainer.step(&data, batch)?,
            StepWork::Score => trainer.score(&data, batch)?,
        };
        tokens.unique += made.unique;
        tokens.sequences += made.sequences;
    }
    backend.synchronize()?;
    let seconds = started.elapsed().as_secs_f64();
    let counted = || pairs_of(batches[work.warmup..].iter().flatten().map(|set| &data.sets[*set]));
    let separate: usize = counted().map(|pair| pair.tokens()).sum();
    let count = counted().count() as f64;
    let name = match job {
        StepWork::Reward => "reward",
        StepWork::Score => "score",
    };
    // Built before the matrix peak is measured, which takes memory of its own.
    let pace = Pace::new(work, backend.as_ref(), &memory, name, count, separate, seconds);
    let gemm = gemm::peak(backend.as_ref(), &work.machine, 1.0)?;
    let trained = &trainer.learner.model;
    let in_full = trained.decoder().adapters().is_none();
    let passes = passes(job, in_full, base.checkpointing != Checkpointing::Off);
    let flops = passes * products(trained.config(), tokens.unique, tokens.sequences) / seconds / 1e9;
    let timing = Timing {
        pace,
        unique_tokens_per_pair: round(tokens.unique as f64 / count, 1),
        gflop_per_s: round(flops, 1),
        gemm_gflop_per_s: round(gemm, 1),
        share_of_gemm_peak: round(flops / gemm, 3),
    };
    match work.json {
        true => terminal::result(&(serde_json::to_string(&timing)? + "\n")),
        false => terminal::result(&format!(
            "{:.2} pairs/s, {}; {:.0} of {:.0} GFLOP/s ({:.0} % of the matrix peak)\n",
            timing.pace.pairs_per_s,
            timing.pace.text(),
            timing.gflop_per_s,
            timing.gemm_gflop_per_s,
            100.0 * timing.share_of_gemm_peak
        )),
    }
}

struct Trainer<'a> {
    backend: &'a dyn Backend,
    learner: Learner<RewardModel>,
    micro_tokens: usize,
}

impl<'a> Trainer<'a> {
    fn new(backend: &'a dyn Backend, model: &RewardModel, micro_tokens: usize) -> Result<Self> {
        Ok(Self { backend, learner: pace::learner(backend, model)?, micro_tokens })
    }

    fn step(&mut self, data: &Pairs, items: &[usize]) -> Result<TokenCounts> {
        let config = RewardConfig { ignore_margin: true, ..RewardConfig::default() };
        let batch = Batch { data, items, micro_tokens: self.micro_tokens };
        let reward = Reward { config, schedule: None };
        let (gradient, _) = self.learner.step(self.backend, &reward, &batch, 0.0)?;
        Ok(gradient.tokens)
    }

    fn score(&mut self, data: &Pairs, batch: &[usize]) -> Result<TokenCounts> {
        let sets: Vec<&EncodedSet> = batch.iter().map(|set| &data.sets[*set]).collect();
        score_pairs(&self.learner.model, &sets, self.micro_tokens)?;
        let unique = sets.iter().map(|set| set.unique_tokens()).sum();
        let sequences = sets.iter().map(|set| set.answers.len()).sum();
        Ok(TokenCounts { unique, sequences, ..TokenCounts::default() })
    }
}

/// Pairs, and the sets of each step.
struct Work {
    data: Pairs,
    batches: Vec<Vec<usize>>,
}

/// Returns the pairs of the steps, with their bounds.
fn bounded(
    args: &BenchArgs,
    tokenizer: &Tokenizer,
    padding: Option<u32>,
    constraint: &dyn Constraint,
    priors: &Priors,
) -> Result<Work> {
    let sets = args.work.fitting(tokenizer, padding, args.answers)?;
    let (need, lengths): (usize, Vec<usize>) =
        (sets.len(), sets.iter().map(|set| set.comparisons.len()).collect());
    let bounds = bounds(constraint, &sets, priors)?;
    let together = Pairs::new(sets, bounds);
    let (data, lengths) = match args.apart {
        true => (together.apart(), lengths),
        false => (together, vec![1; need]),
    };
    let mut next = 0..;
    let batches =
        lengths.chunks(args.work.batch).map(|sets| next.by_ref().take(sets.iter().sum()).collect()).collect();
    Ok(Work { data, batches })
}

/// Returns how often a step computes products of the size of a forward pass: forward, backward for the inputs, backward
/// for the weights if they are trained in full, and forward again if layers are recomputed. The small products of
/// adapters are not counted.
fn passes(job: StepWork, in_full: bool, recomputes: bool) -> f64 {
    match job {
        StepWork::Reward => 2.0 + f64::from(in_full) + f64::from(recomputes),
        StepWork::Score => 1.0,
    }
}

/// Returns the operations of the matrix products in one forward pass, without attention. The last layer
/// computes keys and values (and queries, if one matrix gives all three) for every row, and everything else
/// only for the scored rows.
fn products(config: &ModelConfig, rows: usize, scored: usize) -> f64 {
    let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let matrices = match config.family.mlp {
        Mlp::Gated(_) | Mlp::GatedByOne { .. } => 3,
        Mlp::Plain { .. } => 2,
    };
    // For a mixture of experts, count what one row passes through, assuming that all layers are alike.
    let network = config.mixture.as_ref().map_or(matrices * config.ffn, |mixture| {
        3 * (mixture.taken * mixture.width + mixture.shared) + mixture.experts
    });
    let (for_all, for_asking) = match config.family.qkv {
        Qkv::Separate(_) => (2 * kv, q),
        Qkv::Fused(_) | Qkv::FusedByGroup(_) => (q + 2 * kv, 0),
    };
    let (seen, asking) = (config.width * for_all, config.width * (for_asking + q + network));
    let whole = (config.layers - 1) * (seen + asking) * rows;
    2.0 * (whole + seen * rows + asking * scored) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the share of the peak counts what a step computes: recomputed layers, and no gradient of frozen
    /// weights.
    #[test]
    fn passes_are_what_a_step_computes() {
        let of = |in_full, recomputes| passes(StepWork::Reward, in_full, recomputes);
        assert_eq!(
            [of(true, false), of(true, true), of(false, false), of(false, true)],
            [3.0, 4.0, 2.0, 3.0]
        );
        assert_eq!(passes(StepWork::Score, false, true), 1.0);
    }
}
