//! Supervised fine-tuning of a language model.

use pcrm_core::model::LanguageModel;
use serde_json::json;

use super::Setting;
use crate::error::Result;
use crate::fingerprint::{self, Fingerprint};
use crate::objective::sft::{Completions, Sft, SftConfig};
use crate::offline::{Observer, Run, Trained, train};
use crate::options::TrainerConfig;

/// The data of a run.
#[derive(Debug)]
pub struct SftData {
    /// The completions to learn from.
    pub train: Completions,
    /// The completions to evaluate on.
    pub eval: Option<Completions>,
    /// The most tokens of a sequence, which the saved model's config notes.
    pub max_length: usize,
}

/// Trains a language model and saves it in the run's folder. `identity` names what the run reads (data, model); a run
/// resumes only with the same options and identity.
///
/// # Errors
/// A model that cannot be opened, and those of [`train`].
pub fn sft(
    setting: Setting<'_>,
    config: &TrainerConfig,
    data: &SftData,
    identity: Fingerprint,
    observer: &mut dyn Observer,
) -> Result<Trained<LanguageModel>> {
    let mut fingerprint = fingerprint::of(config, &SftConfig::default());
    fingerprint.extend(identity);
    let notes = json!({"max_length": data.max_length});
    let model = setting.base.open_language(setting.backend)?.with_config(|config| {
        config.raw.insert("pcrm".into(), notes);
    });
    let run = Run {
        backend: setting.backend,
        objective: &Sft,
        model,
        tokenizer: setting.tokenizer,
        train: &data.train,
        eval: data.eval.as_ref(),
        dir: setting.dir,
        fingerprint,
        stop: setting.stop,
    };
    train(run, config, observer)
}
