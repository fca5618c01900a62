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
    /// Training completions.
    pub train: Completions,
    /// Evaluation completions.
    pub eval: Option<Completions>,
    /// Maximum number of tokens of a sequence, noted in the saved model's config.
    pub max_length: usize,
}

/// Trains a language model and saves it in the run's folder. `identity` names the run's inputs (data, model);
/// a run resumes only with the same options and identity.
///
/// # Errors
/// Fails if the model cannot be opened; otherwise same as [`train`].
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
