//! `pcrm bench sft`: times the fine-tuning of a language model.

use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use pcrm_core::data::encode::{EncodedCompletion, EncodedSet};
use pcrm_core::model::ModelConfig;
use pcrm_core::schedule::Shape;
use pcrm_core::text::Tokenizer;
use pcrm_rl::learner::Learner;
use pcrm_rl::objective::Batch;
use pcrm_rl::objective::sft::{Completions, Sft};
use pcrm_rl::options::TrainerConfig;
use pcrm_rl::train::Base;
use serde::Serialize;

use super::{WorkArgs, peak_rss, round, system};
use crate::dataset::padding;
use crate::hub::Weights;
use crate::numbers::positive;
use crate::terminal;
use crate::training::LoraArgs;

/// Options of `pcrm bench sft`.
#[derive(Debug, Args)]
pub struct SftArgs {
    #[command(flatten)]
    work: WorkArgs,
    /// Compute at most N tokens at once [default: a whole step]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    micro_tokens: Option<usize>,
    #[command(flatten)]
    lora: LoraArgs,
    /// Compute layers again in the backward pass, in segments of √layers
    #[arg(long)]
    gradient_checkpointing: bool,
}

#[derive(Debug, Serialize)]
struct Timing {
    system: String,
    job: &'static str,
    device: String,
    dtype: String,
    pairs_per_s: f64,
    tokens_per_s: f64,
    s_per_step: f64,
    batch: usize,
    mean_tokens_per_pair: f64,
    peak_rss_mib: Option<u64>,
}

/// Times steps on the preferred answers of the first pairs that fit.
///
/// # Errors
/// Files that cannot be read, too few pairs that fit, the backend's.
pub fn run(args: &SftArgs) -> Result<()> {
    let work = &args.work;
    let backend = work.machine.open()?;
    let dir = work.hub.model("--model", &work.model, Weights::drawn_if(work.random_init))?;
    let tokenizer = Tokenizer::from_dir(&dir)?;
    let pad = padding(&ModelConfig::from_dir(&dir)?, &tokenizer);
    let sets = work.fitting(&tokenizer, pad, None)?;
    let completions = sets.into_iter().map(preferred).collect::<Result<Vec<_>>>()?;
    let data = Completions::new(completions);
    let base = Base {
        random_init: work.random_init,
        lora: args.lora.config(),
        checkpointing: match args.gradient_checkpointing {
            true => pcrm_core::model::Checkpointing::Root,
            false => pcrm_core::model::Checkpointing::Off,
        },
        ..Base::new(dir, work.machine.dtype, work.machine.seed)
    };
    let config = TrainerConfig { learning_rate: 1e-5, schedule: Shape::Constant, ..TrainerConfig::default() };
    let mut learner = Learner::new(&base.open_language(backend.as_ref())?, &config, u64::MAX)?;
    let items: Vec<usize> = (0..data.items().len()).collect();
    let (mut started, mut tokens) = (Instant::now(), 0);
    for (at, items) in items.chunks(work.batch).enumerate() {
        if at == work.warmup {
            backend.synchronize()?;
            (started, tokens) = (Instant::now(), 0);
        }
        let batch = Batch { data: &data, items, micro_tokens: args.micro_tokens.unwrap_or(usize::MAX) };
        let (gradient, _) = learner.step(backend.as_ref(), &Sft, &batch, 0.0)?;
        tokens += gradient.tokens.separate;
    }
    backend.synchronize()?;
    let seconds = started.elapsed().as_secs_f64();
    let count = (work.steps * work.batch) as f64;
    let timing = Timing {
        system: system(backend.as_ref()),
        job: "sft",
        device: work.machine.device.to_string(),
        dtype: work.machine.dtype.to_string(),
        pairs_per_s: round(count / seconds, 3),
        tokens_per_s: round(tokens as f64 / seconds, 1),
        s_per_step: round(seconds / work.steps as f64, 4),
        batch: work.batch,
        mean_tokens_per_pair: round(tokens as f64 / count, 1),
        peak_rss_mib: peak_rss(),
    };
    match work.json {
        true => terminal::result(&(serde_json::to_string(&timing)? + "\n")),
        false => terminal::result(&format!(
            "{:.2} completions/s, {:.0} tokens/s, {:.3} s a step, {} MiB\n",
            timing.pairs_per_s,
            timing.tokens_per_s,
            timing.s_per_step,
            timing.peak_rss_mib.map_or("?".to_owned(), |mib| mib.to_string()),
        )),
    }
}

/// The preferred answer of a pair as the completion of its prompt.
fn preferred(set: EncodedSet) -> Result<EncodedCompletion> {
    let chosen = set.comparisons.first().context("a set without comparisons")?.chosen as usize;
    let answer = &set.answers[chosen];
    let ids = answer.ids.to_vec();
    let trained = std::iter::once(answer.answer_start.max(1)..ids.len()).collect();
    Ok(EncodedCompletion { row: set.row, origin: set.origin, prompt_id: set.prompt_id, ids, trained })
}
