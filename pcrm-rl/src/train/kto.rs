//! Training a policy on single desirable or undesirable answers.

use pcrm_core::data::encode::{EncodedCompletion, EncodedSet};
use pcrm_core::model::LanguageModel;
use serde_json::json;

use super::Setting;
use crate::error::Result;
use crate::fingerprint::{self, Fingerprint};
use crate::loss::preference::kto::KtoConfig;
use crate::objective::kto::{Kto, LabelledAnswers};
use crate::offline::{Observer, Run, Trained, train};
use crate::options::{TrainerConfig, number};
use crate::reference::{Computed, LogProbCache, Reference, log_probs};

/// Answers with their labels.
pub type Labelled = (Vec<EncodedCompletion>, Vec<bool>);

/// The data of a run, and its reference.
#[derive(Debug)]
pub struct KtoData {
    /// Training answers.
    pub train: Labelled,
    /// Evaluation answers.
    pub eval: Option<Labelled>,
    /// Model that the policy is compared with.
    pub reference: Reference,
    /// Maximum number of tokens of a sequence, noted in the saved model's config.
    pub max_length: usize,
}

/// The options for training a policy: steps and loss.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KtoOptions {
    /// Options of the steps.
    pub trainer: TrainerConfig,
    /// Options of the loss.
    pub kto: KtoConfig,
}

impl KtoOptions {
    /// Checks every option that can be checked without data; `evaluates` is true if the run has held-out
    /// data.
    ///
    /// # Errors
    /// Fails if a number is out of range.
    pub fn check(&self, evaluates: bool) -> Result<()> {
        self.trainer.check(evaluates)?;
        let KtoConfig { beta, desirable_weight, undesirable_weight, .. } = self.kto;
        for (field, value) in [
            ("beta", beta),
            ("desirable-weight", desirable_weight),
            ("undesirable-weight", undesirable_weight),
        ] {
            number(field, value, value > 0.0, "a positive number")?;
        }
        Ok(())
    }
}

/// Trains a policy and saves it in the run's folder; also returns the number of answers computed by the
/// reference. `identity` names the run's inputs (data, model, reference); a run resumes only with the same
/// options and identity.
///
/// # Errors
/// Fails if a model cannot be opened; otherwise same as [`train`].
pub fn kto(
    setting: Setting<'_>,
    options: &KtoOptions,
    data: KtoData,
    identity: Fingerprint,
    cache: &LogProbCache,
    observer: &mut dyn Observer,
) -> Result<(Trained<LanguageModel>, Computed)> {
    let KtoData { train: to_learn, eval, reference, max_length } = data;
    let Setting { backend, base, .. } = setting;
    let mut computed = Computed::default();
    let compared = reference.base(base)?;
    let mut labelled = |(items, labels): Labelled, observer: &mut dyn Observer| -> Result<LabelledAnswers> {
        let answers = LabelledAnswers::new(&items, labels, max_length);
        let Some(base) = &compared else { return Ok(answers) };
        let mut numbers = |sets: &[EncodedSet]| {
            let sets: Vec<&EncodedSet> = sets.iter().collect();
            let (numbers, counts) =
                log_probs(backend, base, &sets, options.trainer.micro_tokens, cache, observer)?;
            computed.answers += counts.answers;
            computed.computed += counts.computed;
            Ok::<_, crate::Error>(numbers)
        };
        let (own, mismatched) = (numbers(&answers.own)?, numbers(&answers.mismatched)?);
        answers.beside(own, mismatched)
    };
    let train_on = labelled(to_learn, observer)?;
    let eval = eval.map(|eval| labelled(eval, observer)).transpose()?;
    let mut fingerprint = fingerprint::of(&options.trainer, &options.kto);
    fingerprint.extend(identity);
    let notes = json!({"max_length": max_length, "loss": options.kto});
    let model = base.open_language(backend)?.with_config(|config| {
        config.raw.insert("pcrm".into(), notes);
    });
    let run = Run {
        backend,
        objective: &Kto { config: options.kto },
        model,
        tokenizer: setting.tokenizer,
        train: &train_on,
        eval: eval.as_ref(),
        dir: setting.dir,
        fingerprint,
        stop: setting.stop,
    };
    Ok((train(run, &options.trainer, observer)?, computed))
}
