//! `pcrm bench generate`: times the sampling of answers.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use pcrm_core::data::encode::encode_prompts;
use pcrm_core::data::preference::Ties;
use pcrm_core::data::prompts::load_prompts;
use pcrm_core::model::{LanguageModel, Loading, ModelConfig};
use pcrm_core::text::Tokenizer;
use pcrm_rl::rollout::{Budget, Engine, Prompt, Sample, Sampling, Stop, Watch};
use serde::Serialize;

use super::{peak_rss, round, system};
use crate::columns::ColumnArgs;
use crate::hub::{Hub, Weights};
use crate::machine::Machine;
use crate::numbers::positive;
use crate::terminal;
use crate::usage::usage;

/// Options of `pcrm bench generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Time the model in this Hugging Face folder, or repository of the Hub (org/name)
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Draw random weights: the folder needs a config.json and a tokenizer only
    #[arg(long)]
    random_init: bool,
    /// Take the first prompts that fit, in order, from these files of prompts or preferences
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Continue N prompts
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive::<usize>)]
    prompts: usize,
    /// Sample N answers of each prompt
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = positive::<usize>)]
    samples: usize,
    /// Sample N tokens of each answer; nothing ends it before
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive::<usize>)]
    new_tokens: usize,
    /// Decode at most N samples at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = positive::<usize>)]
    batch: usize,
    /// Pass over prompts of more than N tokens
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = positive::<usize>)]
    max_prompt: usize,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    columns: ColumnArgs,
    #[command(flatten)]
    hub: Hub,
    #[command(flatten)]
    machine: Machine,
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
    peak_rss_mib: Option<u64>,
}

/// Drops what is sampled.
struct Dropped;

impl Watch for Dropped {
    fn done(&mut self, _prompt: usize, _samples: Vec<Sample>) -> pcrm_rl::Result<()> {
        Ok(())
    }
}

/// Samples answers of the first prompt, then times all of them.
///
/// # Errors
/// Files that cannot be read, too few prompts that fit, the backend's.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let options = usage(args.columns.options(Ties::Keep))?;
    let backend = args.machine.open()?;
    let dir = args.hub.model("--model", &args.model, Weights::drawn_if(args.random_init))?;
    let Machine { dtype, seed, .. } = args.machine;
    let tokenizer = Tokenizer::from_dir(&dir)?;
    let model = match args.random_init {
        true => LanguageModel::random(backend.as_ref(), ModelConfig::from_dir(&dir)?, dtype, seed)?
            .snapshot(dtype)?,
        false => LanguageModel::load_as(&dir, Loading::frozen(backend.as_ref(), dtype))?,
    };
    let data = args.hub.data("--data", &args.data)?;
    let (rows, _) = load_prompts(&data, options)?;
    let (encoded, _) = encode_prompts(&rows, &tokenizer, Some(args.max_prompt))?;
    ensure!(
        encoded.len() >= args.prompts,
        "{} prompts of at most {} tokens; --prompts {} are needed",
        encoded.len(),
        args.max_prompt,
        args.prompts
    );
    let prompt = |(at, prompt): (usize, pcrm_core::data::encode::EncodedPrompt)| Prompt {
        number: at as u64,
        ids: prompt.ids,
    };
    let prompts: Vec<Prompt> = encoded.into_iter().take(args.prompts).enumerate().map(prompt).collect();
    let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0) + args.new_tokens;
    let budget = Budget { cache_tokens: args.batch * (longest + 64), rows: args.batch, ..Budget::default() };
    let mut engine = Engine::new(model.decoder(), budget)?;
    let sampling = Sampling { max_tokens: args.new_tokens, seed, ..Sampling::default() };
    let mut sample = |prompts: &[Prompt]| {
        engine.run(model.decoder(), prompts, args.samples, &sampling, &Stop::default(), &mut Dropped)
    };
    sample(&prompts[..1])?;
    backend.synchronize()?;
    let started = Instant::now();
    let progress = sample(&prompts)?;
    backend.synchronize()?;
    let seconds = started.elapsed().as_secs_f64();
    let timing = Timing {
        system: system(backend.as_ref()),
        job: "generate",
        device: args.machine.device.to_string(),
        dtype: dtype.to_string(),
        batch: args.batch,
        samples_per_s: round(progress.samples as f64 / seconds, 3),
        tokens_per_s: round(progress.sampled as f64 / seconds, 1),
        prompt_tokens: progress.prompt_tokens,
        peak_rss_mib: peak_rss(),
    };
    match args.json {
        true => terminal::result(&(serde_json::to_string(&timing)? + "\n")),
        false => {
            let peak = timing.peak_rss_mib.map_or("?".to_owned(), |mib| mib.to_string());
            terminal::result(&format!(
                "{:.1} samples/s, {:.0} tokens/s, {peak} MiB\n",
                timing.samples_per_s, timing.tokens_per_s
            ))
        }
    }
}
