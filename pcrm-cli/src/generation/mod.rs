//! Shared by commands that sample answers: options, policy, prompts, and answers as text.

mod prompts;
mod record;
pub mod rewards;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use clap::Args;
use pcrm_core::disk::Origins;
use pcrm_core::kernels::Filters;
use pcrm_core::model::lora::peft::tokenizer_dir;
use pcrm_core::model::{LanguageModel, Loading, WeightPool};
use pcrm_core::quant::Quantisation;
use pcrm_core::text::{SpecialToken, Tokenizer};
use pcrm_core::{Backend, digest};
use pcrm_rl::reward_source::AnswerTexts;
use pcrm_rl::rollout::{Budget, Finish, Progress, Prompt, Sample, Sampling, Stop};
use serde_json::json;

pub use self::prompts::PromptArgs;
pub use self::record::{cut_off, decimal, digest_of, is_cut_off, record};
use crate::hub::{Hub, Weights};
use crate::machine::Machine;
use crate::numbers::positive;
use crate::progress::{Bar, say};
use crate::quantize::QuantizeArgs;
use crate::usage::usage;

/// The default of `--max-tokens`.
const MAX_TOKENS: usize = 256;

/// Options of sampling.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Sample at most N tokens per answer
    #[arg(long, value_name = "N", default_value_t = MAX_TOKENS, value_parser = positive::<usize>)]
    max_tokens: usize,
    /// Divide logits by T; 0 always picks the most likely token
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f64,
    /// Sample from the K most likely tokens only; 0: from all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Sample from the most likely tokens whose probabilities add up to P; 1: from all
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Sample from tokens at least P times as likely as the most likely one; 0: from all
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f64,
    /// Divide the logits of tokens already in the text by X [default: 1]
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f64>,
    /// Use temperature, top-k, top-p, min-p and the penalty from the model's generation_config.json
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p", "repetition_penalty"])]
    as_configured: bool,
    /// End answers at this string or special token, which is removed; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Also end answers at this token, besides those of generation_config.json, config.json and the tokenizer
    #[arg(long, value_name = "ID")]
    stop_token: Vec<u32>,
    /// Cache the keys and values of at most N tokens
    #[arg(long, value_name = "N", default_value_t = Budget::default().cache_tokens, value_parser = positive::<usize>)]
    cache_tokens: usize,
    /// Decode at most N samples at once; the samples do not depend on it
    #[arg(long, value_name = "N", default_value_t = Budget::default().rows, value_parser = positive::<usize>)]
    rows: usize,
}

impl SamplingArgs {
    /// Checks the options before anything is read.
    ///
    /// # Errors
    /// Fails if a value is out of range.
    pub fn check(&self) -> Result<()> {
        Ok(self.typed(0).check()?)
    }

    /// Returns the first option that differs from its default.
    pub fn changed(&self) -> Option<&'static str> {
        let (filters, budget) = (Filters::default(), Budget::default());
        let changed = [
            (self.max_tokens != MAX_TOKENS, "--max-tokens"),
            (self.temperature != filters.temperature, "--temperature"),
            (self.top_k != filters.top_k, "--top-k"),
            (self.top_p != filters.top_p, "--top-p"),
            (self.min_p != filters.min_p, "--min-p"),
            (self.repetition_penalty.is_some(), "--repetition-penalty"),
            (self.as_configured, "--as-configured"),
            (!self.stop.is_empty(), "--stop"),
            (!self.stop_token.is_empty(), "--stop-token"),
            (self.cache_tokens != budget.cache_tokens, "--cache-tokens"),
            (self.rows != budget.rows, "--rows"),
        ];
        changed.into_iter().find_map(|(is_changed, option)| is_changed.then_some(option))
    }

    fn typed(&self, seed: u64) -> Sampling {
        let Self { temperature, top_k, top_p, min_p, .. } = *self;
        let repetition_penalty = self.repetition_penalty.unwrap_or(1.0);
        let filters = Filters { temperature, top_k, top_p, min_p, repetition_penalty };
        Sampling { filters, max_tokens: self.max_tokens, seed }
    }

    /// Returns the sampling options for a model, and names the rules of its `generation_config.json` that they
    /// do not apply.
    ///
    /// # Errors
    /// Fails if `--as-configured` is given and the model has no `generation_config.json`, or one with rules
    /// that are not supported.
    pub fn sampling(&self, model: &LanguageModel, seed: u64) -> Result<Sampling> {
        let mut sampling = self.typed(seed);
        if self.as_configured {
            let suggested = model.suggested_filters().context("--as-configured")?;
            sampling.filters =
                suggested.context("--as-configured: the model has no generation_config.json")?;
            return Ok(sampling);
        }
        for (key, value) in model.suggested_rules()? {
            let advice = match key {
                "repetition_penalty" if self.repetition_penalty.is_some() => continue,
                "repetition_penalty" => "; --as-configured or --repetition-penalty applies it",
                _ => "",
            };
            say(&format!("generation_config.json sets {key} to {value}, which is not applied{advice}"));
        }
        Ok(sampling)
    }

    /// Returns the strings of `--stop`.
    pub fn stops(&self) -> &[String] {
        &self.stop
    }

    /// Returns the limits of the cache and of a decoding step.
    pub fn budget(&self) -> Budget {
        Budget { cache_tokens: self.cache_tokens, rows: self.rows, ..Budget::default() }
    }

    /// Returns the options that the answers depend on.
    pub fn origins(&self, sampling: &Sampling) -> Result<Origins> {
        Ok(Origins::from([
            ("sampling".to_owned(), serde_json::to_value(sampling)?),
            ("stop".to_owned(), json!(self.stop)),
            ("stop-token".to_owned(), json!(self.stop_token)),
        ]))
    }
}

/// A policy that samples answers, with its tokenizer.
pub struct Policy {
    /// The model, frozen in its computing type.
    pub model: LanguageModel,
    /// The tokenizer of the policy.
    pub tokenizer: Tokenizer,
    /// Its frozen weights, for reward models over the same base.
    pub pool: WeightPool,
    /// The digest of its files and of those of its base.
    digest: String,
    /// The method that quantised its linear weights on loading.
    quantise: Option<Quantisation>,
}

impl Policy {
    /// Loads a model, or an adapter with its base.
    ///
    /// # Errors
    /// Fails if the folder holds no language model or a file cannot be read.
    pub fn open(
        machine: &Machine,
        hub: &Hub,
        backend: &dyn Backend,
        model: &Path,
        storage: QuantizeArgs,
    ) -> Result<Self> {
        let dir = hub.model_or_adapter("--model", model, Weights::Read)?;
        let at = || format!("--model {}", dir.display());
        let quantise = storage.for_model(&dir);
        let pool = WeightPool::default();
        let how = Loading::frozen(backend, machine.dtype).quantised(quantise).sharing(Some(&pool));
        let model = LanguageModel::load_as(&dir, how).with_context(at)?;
        let tokenizer = Tokenizer::from_dir(&tokenizer_dir(&dir)?).with_context(at)?;
        Ok(Self { model, tokenizer, pool, digest: digest::with_base(&dir)?, quantise })
    }

    /// Returns the stop conditions of this policy's answers; `decode` gives the text of tokens.
    ///
    /// # Errors
    /// Fails if a stop token is outside the vocabulary, or a stop string has a special token and other text.
    pub fn stop<'a>(
        &self,
        args: &SamplingArgs,
        decode: &'a (dyn Fn(&[u32]) -> String + 'a),
    ) -> Result<Stop<'a>> {
        let mut ids = self.model.stop_ids()?;
        ids.extend(self.tokenizer.eos().map(|eos| eos.id));
        ids.extend(&args.stop_token);
        let vocabulary = self.model.config().vocabulary;
        if let Some(id) = args.stop_token.iter().find(|id| **id as usize >= vocabulary) {
            return usage(Err(anyhow::anyhow!("--stop-token {id}: the vocabulary has {vocabulary} tokens")));
        }
        let strings = usage(split_stops(&args.stop, &self.tokenizer.special_tokens(), &mut ids))?;
        let stop = Stop::at(ids);
        Ok(if strings.is_empty() { stop } else { stop.and_strings(&strings, decode) })
    }

    /// Prints a note if answers to these prompts may exceed the positions that the model's configuration names.
    pub fn note_positions(&self, prompts: &[Prompt], max_tokens: usize) {
        let config = self.model.config();
        let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0) + max_tokens;
        if longest > config.max_positions && !config.has_learned_positions() {
            say(&format!(
                "a prompt and its answer may have {longest} tokens; config.json names {} positions",
                config.max_positions
            ));
        }
    }

    /// Returns the text of tokens; invalid bytes become replacement characters.
    pub fn text(&self, ids: &[u32]) -> String {
        self.tokenizer.decode_plain(ids).unwrap_or_default()
    }

    /// Returns the texts of a prompt's answers, without the string that ended them.
    ///
    /// # Errors
    /// Fails if the tokenizer lacks a token.
    pub fn texts(&self, prompt: &[u32], samples: &[Sample]) -> Result<Vec<AnswerTexts>> {
        let of = |sample: &Sample| {
            let mut texts = AnswerTexts::decode(&self.tokenizer, prompt, &sample.ids)?;
            if let Finish::Text(end) = &sample.finish
                && let Some(at) = texts.completion.find(end.as_str())
            {
                texts.completion.truncate(at);
            }
            Ok(texts)
        };
        samples.iter().map(of).collect()
    }

    /// Returns the files that the answers depend on.
    pub fn origins(&self, machine: &Machine) -> Origins {
        let mut origins = Origins::from([
            ("model".to_owned(), json!(self.digest)),
            ("backend".to_owned(), json!(machine.backend)),
            ("device".to_owned(), json!(machine.device.to_string())),
            ("dtype".to_owned(), json!(machine.dtype.to_string())),
        ]);
        origins.extend(self.quantise.map(|method| ("quantize".to_owned(), json!(method))));
        origins
    }
}

/// Shows a run's progress on its bar, and stops the run if it failed or was interrupted.
pub fn follow(bar: &Bar, progress: &Progress, failed: bool, interrupted: &AtomicBool) -> ControlFlow<()> {
    bar.note(&format!("{} answers, {} decoding", progress.samples, progress.active));
    match failed || interrupted.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// Adds the stop strings that are special tokens to `ids`, and returns the others: the text of an answer has no
/// special tokens.
///
/// # Errors
/// Fails if a string has a special token and other text.
fn split_stops(stops: &[String], special: &[SpecialToken], ids: &mut BTreeSet<u32>) -> Result<Vec<String>> {
    let mut strings = Vec::new();
    for stop in stops {
        if let Some(token) = special.iter().find(|token| token.text == *stop) {
            ids.insert(token.id);
        } else if let Some(token) = special.iter().find(|token| stop.contains(&token.text)) {
            let text = &token.text;
            bail!(
                "--stop {stop:?}: it has the special token {text:?} and other text; expected {text:?} alone, or \
                 text without it"
            );
        } else {
            strings.push(stop.clone());
        }
    }
    Ok(strings)
}

#[cfg(test)]
mod tests;
