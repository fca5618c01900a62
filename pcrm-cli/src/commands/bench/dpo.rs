//! `pcrm bench dpo`: times the training of a policy on pairs, including its reference.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use pcrm_core::data::encode::EncodedSet;
use pcrm_core::text::Tokenizer;
use pcrm_rl::loss::preference::PreferenceConfig;
use pcrm_rl::objective::Batch;
use pcrm_rl::objective::dpo::{Dpo, Preferences};
use pcrm_rl::offline::Silent;
use pcrm_rl::pairs::Pairs;
use pcrm_rl::reference::{LogProbCache, Reference, log_probs, token_log_probs};
use pcrm_rl::train::bounds::bounds;
use serde::Serialize;

use super::memory::Memory;
use super::pace::{Pace, PolicyArgs};
use super::{WorkArgs, round};
use crate::constraint;
use crate::hub::Weights;
use crate::priors::priors;
use crate::terminal;
use crate::usage::usage;

/// Options of `pcrm bench dpo`.
#[derive(Debug, Args)]
pub struct DpoArgs {
    #[command(flatten)]
    work: WorkArgs,
    /// Compute the reference before the clock starts, like a run that finds it in the cache
    #[arg(long)]
    cached_reference: bool,
    /// Train with this constraint: a name, JSON, or a JSON file
    #[arg(long, value_name = "NAME|JSON|FILE", default_value = "none")]
    constraint: String,
    #[command(flatten)]
    policy: PolicyArgs,
}

#[derive(Debug, Serialize)]
struct Timing {
    #[serde(flatten)]
    pace: Pace,
    reference: &'static str,
    unique_tokens_per_pair: f64,
}

/// Times steps on the first pairs that fit, without any cache.
///
/// # Errors
/// Fails if files cannot be read, too few pairs fit, or the backend fails.
pub fn run(args: &DpoArgs) -> Result<()> {
    let work = &args.work;
    let constraint = usage(constraint::read(&args.constraint))?;
    let backend = work.machine.open()?;
    let memory = Memory::of(backend.as_ref());
    let dir = work.hub.model("--model", &work.model, Weights::drawn_if(work.random_init))?;
    let tokenizer = Tokenizer::from_dir(&dir)?;
    // The end token of an answer is learned, so no token counts as padding.
    let sets = work.fitting(&tokenizer, None, None)?;
    let priors = priors(&work.machine, (!work.random_init).then_some(&dir))?;
    let bounds = bounds(constraint.as_ref(), &sets, &priors)?;
    let base = args.policy.base(work, dir);
    let micro_tokens = args.policy.micro_tokens();
    let of_reference = Reference::Start.base(&base)?.unwrap_or_else(|| base.clone());
    let all: Vec<&EncodedSet> = sets.iter().collect();
    let known = match args.cached_reference {
        true => {
            let cache = LogProbCache::default();
            let at_once = micro_tokens.min(1 << 14);
            Some(log_probs(backend.as_ref(), &of_reference, &all, at_once, &cache, &mut Silent)?.0)
        }
        false => None,
    };
    let reference = match args.cached_reference {
        true => None,
        false => Some(of_reference.open_reference(backend.as_ref())?),
    };
    let mut learner = PolicyArgs::learner(&base, backend.as_ref())?;
    let objective = Dpo { config: PreferenceConfig::default(), schedule: None };
    let (mut started, mut separate, mut unique) = (Instant::now(), 0, 0);
    for (step, of_step) in sets.chunks(work.batch).enumerate() {
        if step == work.warmup {
            backend.synchronize()?;
            (started, separate, unique) = (Instant::now(), 0, 0);
        }
        let first = step * work.batch;
        let places = first..first + of_step.len();
        let numbers = match (&known, &reference) {
            (Some(known), _) => known[places.clone()].to_vec(),
            (None, Some(reference)) => {
                let mut answers = token_log_probs(reference, &all[places.clone()])?.into_iter();
                of_step.iter().map(|set| answers.by_ref().take(set.answers.len()).collect()).collect()
            }
            (None, None) => Vec::new(),
        };
        // A set has one or several comparisons; its bounds follow those of the sets before it.
        let skipped: usize = sets[..first].iter().map(|set| set.comparisons.len()).sum();
        let count: usize = of_step.iter().map(|set| set.comparisons.len()).sum();
        let pairs = Pairs::new(of_step.to_vec(), bounds[skipped..skipped + count].to_vec());
        let data = Preferences::new(pairs, Some(numbers))?;
        let items: Vec<usize> = (0..of_step.len()).collect();
        let batch = Batch { data: &data, items: &items, micro_tokens };
        let (gradient, _) = learner.step(backend.as_ref(), &objective, &batch, 0.0)?;
        separate += gradient.tokens.separate;
        unique += gradient.tokens.unique;
    }
    backend.synchronize()?;
    let seconds = started.elapsed().as_secs_f64();
    let count = (work.steps * work.batch) as f64;
    let timing = Timing {
        pace: Pace::new(work, backend.as_ref(), &memory, "dpo", count, separate, seconds),
        reference: if args.cached_reference { "cached" } else { "computed" },
        unique_tokens_per_pair: round(unique as f64 / count, 1),
    };
    match work.json {
        true => terminal::result(&(serde_json::to_string(&timing)? + "\n")),
        false => terminal::result(&format!(
            "{:.2} pairs/s (reference {}), {}\n",
            timing.pace.pairs_per_s,
            timing.reference,
            timing.pace.text(),
        )),
    }
}
