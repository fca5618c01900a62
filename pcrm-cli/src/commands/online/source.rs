//! The source of sampled answers: options of servers and files, and opening it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use pcrm_core::digest;
use pcrm_core::model::LanguageModel;
use pcrm_rl::loss::policy::{Correction, CorrectionMode};
use pcrm_rl::online::{Algorithm, Prompts, RolloutConfig};
use pcrm_rl::rollout::source::{Access, FileSource, Protocol, RolloutSource, Served, SourceKind, SourceName};
use serde_json::{Value, json};

use crate::numbers::{positive, real, whole};
use crate::usage::usage;
use crate::warnings::Warnings;

/// The folder in a run's folder with the weights that a server loads.
const WEIGHTS: &str = "rollouts";

/// The bound of ratios unless an option says otherwise.
const CLIP_MAX: f64 = 2.0;

/// Options of where answers are sampled.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Rollouts on servers")]
pub struct SourceArgs {
    /// Sample answers with: own (this program), vllm:URL or sglang:URL (a server that sees --output), or
    /// file:PATH (samples that another program made)
    #[arg(long, value_name = "SOURCE", default_value = "own", value_parser = named)]
    pub rollouts: SourceName,
    /// Let a server sample N rollouts ahead, while the policy is updated: answers come from a policy that is
    /// N rollouts old
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole::<usize>)]
    staleness: usize,
    /// Stop when a server's log-probabilities differ from the trainer's by more than X per token on average
    #[arg(long, value_name = "X", default_value_t = RolloutConfig::default().max_mismatch, value_parser = real)]
    max_mismatch: f64,
    /// Correct samples of servers and files by the ratio π / π_sampler, by token or by answer, truncated or
    /// masked [default: token_truncate, in rloo sequence_truncate, in online-dpo none]
    #[arg(long, value_name = "MODE")]
    importance_sampling_mode: Option<CorrectionChoice>,
    /// Truncate these ratios at X, or mask those above X
    #[arg(long, value_name = "X", default_value_t = CLIP_MAX, value_parser = real)]
    importance_sampling_clip_max: f64,
    /// Truncate these ratios from below at X, or mask those below X
    #[arg(long, value_name = "X", value_parser = real)]
    importance_sampling_clip_min: Option<f64>,
    /// Wait at most S seconds for the answers to a prompt, and for loading weights
    #[arg(long, value_name = "S", default_value_t = Access::default().timeout, value_parser = real)]
    rollouts_timeout: f64,
    /// Send a request to a server at most N times
    #[arg(long, value_name = "N", default_value_t = Access::default().attempts, value_parser = positive::<u32>)]
    rollouts_attempts: u32,
    /// Send a server the requests for N prompts at once
    #[arg(long, value_name = "N", default_value_t = Access::default().concurrency, value_parser = positive::<usize>)]
    rollouts_concurrency: usize,
    /// Read the key of a server from this environment variable
    #[arg(long, value_name = "NAME")]
    rollouts_api_key_env: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum CorrectionChoice {
    TokenTruncate,
    TokenMask,
    SequenceTruncate,
    SequenceMask,
    None,
}

fn named(text: &str) -> Result<SourceName, String> {
    text.parse().map_err(|error: pcrm_rl::Error| match error {
        pcrm_rl::Error::Invalid { message, .. } => message,
        other => other.to_string(),
    })
}

impl SourceArgs {
    /// Returns the options in the trainer's form.
    pub fn config(&self, algorithm: &Algorithm) -> RolloutConfig {
        let kind = self.rollouts.kind();
        let usual = RolloutConfig::usual_correction(kind, algorithm);
        let mode = match self.importance_sampling_mode {
            Option::None => usual.map(|usual| usual.importance_sampling_mode),
            Some(CorrectionChoice::None) => Option::None,
            Some(CorrectionChoice::TokenTruncate) => Some(CorrectionMode::TokenTruncate),
            Some(CorrectionChoice::TokenMask) => Some(CorrectionMode::TokenMask),
            Some(CorrectionChoice::SequenceTruncate) => Some(CorrectionMode::SequenceTruncate),
            Some(CorrectionChoice::SequenceMask) => Some(CorrectionMode::SequenceMask),
        };
        RolloutConfig {
            source: kind,
            staleness: self.staleness,
            correction: mode.map(|importance_sampling_mode| Correction {
                importance_sampling_mode,
                importance_sampling_clip_max: Some(self.importance_sampling_clip_max),
                importance_sampling_clip_min: self.importance_sampling_clip_min,
            }),
            max_mismatch: self.max_mismatch,
        }
    }

    /// Checks the options that the trainer does not see, together with the ones that it does.
    ///
    /// # Errors
    /// Fails with a usage error if a number is out of range, if an option has no effect, or if the key is not
    /// in the environment.
    pub fn check(&self, config: &RolloutConfig) -> Result<()> {
        usage((|| {
            let usual = Access::default();
            let (timeout, attempts) = (self.rollouts_timeout, self.rollouts_attempts);
            let concurrency = self.rollouts_concurrency;
            // Options of servers: the name, the value, and whether it is the default.
            for (name, value, is_usual) in [
                (
                    "max-mismatch",
                    self.max_mismatch.to_string(),
                    self.max_mismatch == RolloutConfig::default().max_mismatch,
                ),
                ("rollouts-timeout", timeout.to_string(), timeout == usual.timeout),
                ("rollouts-attempts", attempts.to_string(), attempts == usual.attempts),
                ("rollouts-concurrency", concurrency.to_string(), concurrency == usual.concurrency),
            ] {
                ensure!(
                    self.rollouts.kind().is_served() || is_usual,
                    "--{name} {value}: has no effect on --rollouts {}",
                    self.rollouts
                );
            }
            let clips = [
                ("max", Some(self.importance_sampling_clip_max).filter(|most| *most != CLIP_MAX)),
                ("min", self.importance_sampling_clip_min),
            ];
            for (which, clip) in clips {
                ensure!(
                    config.correction.is_some() || clip.is_none(),
                    "--importance-sampling-clip-{which} {}: has no effect, as samples are not corrected \
                     (--importance-sampling-mode)",
                    clip.unwrap_or_default()
                );
            }
            ensure!(
                (1e-3..=1e9).contains(&timeout),
                "--rollouts-timeout {timeout}: expected a positive number of seconds"
            );
            ensure!(
                self.rollouts_api_key_env.is_none() || self.rollouts.kind().is_served(),
                "--rollouts-api-key-env has no effect on --rollouts {}",
                self.rollouts
            );
            self.key().map(drop)
        })())
    }

    fn key(&self) -> Result<Option<String>> {
        let Some(name) = &self.rollouts_api_key_env else { return Ok(None) };
        let key = std::env::var(name).ok().filter(|key| !key.trim().is_empty());
        let key =
            key.with_context(|| format!("--rollouts-api-key-env {name}: is not set in the environment"))?;
        Ok(Some(key))
    }

    /// Returns the identity of the samples of a file; null for any other source.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn identity(&self) -> Result<Value> {
        match &self.rollouts {
            SourceName::File(path) => {
                Ok(json!(digest::file(path).with_context(|| format!("--rollouts {}", self.rollouts))?))
            }
            _ => Ok(Value::Null),
        }
    }

    /// Opens the source of a run in the folder `output`; `None` for this program. `ends` are the tokens that
    /// end an answer. Samples of a file to prompts that the run does not have give a warning.
    ///
    /// # Errors
    /// Fails if a file cannot be read, or if the server cannot take the weights of this policy.
    pub fn open(
        &self,
        output: &Path,
        policy: &LanguageModel,
        ends: &BTreeSet<u32>,
        prompts: &Prompts,
        warnings: &mut Warnings,
    ) -> Result<Option<Box<dyn RolloutSource>>> {
        let vocabulary = policy.config().vocabulary;
        let (protocol, url) = match &self.rollouts {
            SourceName::Own => return Ok(None),
            SourceName::File(path) => {
                let source = FileSource::open(path, ends, vocabulary)
                    .with_context(|| format!("--rollouts {}", self.rollouts))?;
                let (all, unused) =
                    source.unused(prompts.numbered.iter().map(|prompt| prompt.ids.as_slice()));
                if unused > 0 {
                    warnings.add(format!(
                        "--rollouts {}: {unused} of {all} answers are to prompts that are not trained on",
                        self.rollouts
                    ));
                }
                return Ok(Some(Box::new(source)));
            }
            SourceName::Vllm(url) => (Protocol::Vllm, url),
            SourceName::Sglang(url) => (Protocol::Sglang, url),
        };
        let access = Access {
            url: url.clone(),
            key: self.key()?,
            timeout: self.rollouts_timeout,
            attempts: self.rollouts_attempts,
            concurrency: self.rollouts_concurrency,
            ..Access::default()
        };
        let folder = output.join(WEIGHTS);
        let source = Served::new(protocol, &access, &folder, self.staleness, ends.clone(), vocabulary);
        usage(source.check(policy).map_err(Into::into))?;
        Ok(Some(Box::new(source)))
    }

    /// Returns a line about a source that is not this program.
    pub fn note(&self) -> Option<String> {
        let ahead = match self.staleness {
            0 => String::new(),
            ahead => format!(", {ahead} rollouts ahead"),
        };
        (self.rollouts.kind() != SourceKind::Own)
            .then(|| format!("answers are sampled by {}{ahead}", self.rollouts))
    }
}
