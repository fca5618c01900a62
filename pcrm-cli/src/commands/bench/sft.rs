//! `pcrm bench sft`: times the fine-tuning of a language model.

use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use pcrm_core::data::encode::{EncodedCompletion, EncodedSet};
use pcrm_core::model::ModelConfig;
use pcrm_core::text::Tokenizer;
use pcrm_rl::objective::Batch;
use pcrm_rl::objective::sft::{Completions, Sft};

use super::WorkArgs;
use super::memory::Memory;
use super::pace::{Pace, PolicyArgs};
use crate::dataset::padding;
use crate::hub::Weights;
use crate::terminal;

/// Options of `pcrm bench sft`.
#[derive(Debug, Args)]
pub struct SftArgs {
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Times steps on the preferred answers of the first pairs that fit.
///
/// # Errors
/// Fails if files cannot be read, too few pairs fit, or the backend fails.
pub fn run(args: &SftArgs) -> Result<()> {
    let work = &args.work;
    let backend = work.machine.open()?;
    let memory = Memory::of(backend.as_ref());
    let dir = work.hub.model("--model", &work.model, Weights::drawn_if(work.random_init))?;
    let tokenizer = Tokenizer::from_dir(&dir)?;
    let pad = padding(&ModelConfig::from_dir(&dir)?, &tokenizer);
    let sets = work.fitting(&tokenizer, pad, None)?;
    let completions = sets.into_iter().map(preferred).collect::<Result<Vec<_>>>()?;
    let data = Completions::new(completions);
    let base = args.policy.base(work, dir);
    let mut learner = PolicyArgs::learner(&base, backend.as_ref())?;
    let items: Vec<usize> = (0..data.items().len()).collect();
    let (mut started, mut tokens) = (Instant::now(), 0);
    for (at, items) in items.chunks(work.batch).enumerate() {
        if at == work.warmup {
            backend.synchronize()?;
            (started, tokens) = (Instant::now(), 0);
        }
        let batch = Batch { data: &data, items, micro_tokens: args.policy.micro_tokens() };
        let (gradient, _) = learner.step(backend.as_ref(), &Sft, &batch, 0.0)?;
        tokens += gradient.tokens.separate;
    }
    backend.synchronize()?;
    let seconds = started.elapsed().as_secs_f64();
    let count = (work.steps * work.batch) as f64;
    let pace = Pace::new(work, backend.as_ref(), &memory, "sft", count, tokens, seconds);
    match work.json {
        true => terminal::result(&(serde_json::to_string(&pace)? + "\n")),
        false => terminal::result(&format!("{:.2} completions/s, {}\n", pace.pairs_per_s, pace.text())),
    }
}

/// Returns the preferred answer of a pair as the completion of its prompt.
fn preferred(set: EncodedSet) -> Result<EncodedCompletion> {
    let chosen = set.comparisons.first().context("a set without comparisons")?.chosen as usize;
    let answer = &set.answers[chosen];
    let ids = answer.ids.to_vec();
    let trained = std::iter::once(answer.answer_start.max(1)..ids.len()).collect();
    Ok(EncodedCompletion { row: set.row, origin: set.origin, prompt_id: set.prompt_id, ids, trained })
}
