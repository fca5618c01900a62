//! Training a reward model: fits the constraint, bounds the pairs, and trains the model.

use std::path::PathBuf;

use pcrm_core::constraint::{Constraint, Priors};
use pcrm_core::data::encode::{EncodeOptions, EncodedSet, Padding, encode_sets};
use pcrm_core::data::preference::{ReadOptions, load_preferences};
use pcrm_core::model::{ModelConfig, RewardModel};
use pcrm_core::text::Tokenizer;
use pcrm_eval::wrong_labels::WrongLabels;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::bounds::bounds;
use super::fitting::{FOLDS, fitted, note_wrong_labels, wrong_labels};
use super::{Base, Setting};
use crate::crossfit::{Crossfit, Evidence, Fitted, MarginCache};
use crate::error::Result;
use crate::fingerprint::{self, Fingerprint};
use crate::loss::{RankingForm, WrongShare};
use crate::objective::reward::{Reward, RewardConfig};
use crate::offline::{Observer, Run, Trained, train};
use crate::options::TrainerConfig;
use crate::pairs::Pairs;

/// The options for training a reward model: steps and loss.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardOptions {
    /// Options of the steps.
    pub trainer: TrainerConfig,
    /// Options of the loss.
    pub reward: RewardConfig,
}

impl RewardOptions {
    /// Checks every option that can be checked without data; `evaluates` is true if the run has held-out
    /// data.
    ///
    /// # Errors
    /// Fails if a number is out of range or options contradict each other.
    pub fn check(&self, evaluates: bool) -> Result<()> {
        self.trainer.check(evaluates)?;
        self.reward.check()
    }

    /// Returns the options as a fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint::of(&self.trainer, &self.reward)
    }
}

/// The data of a run, with its constraint: settled ([`Constraint::settle`]) but possibly unfitted.
pub struct RewardData {
    /// Bound of margins.
    pub constraint: Box<dyn Constraint>,
    /// Training sets.
    pub train: Vec<EncodedSet>,
    /// Evaluation sets.
    pub eval: Option<Vec<EncodedSet>>,
    /// Padding id of the saved model: `transformers` scores the token before it.
    pub pad: Option<u32>,
    /// Maximum number of tokens of a sequence, noted in the saved model's config.
    pub max_length: usize,
}

impl RewardData {
    /// Reads preference files as training data, with sequences of at most `max_length` tokens.
    ///
    /// # Errors
    /// Fails if a file cannot be read or there is no usable pair.
    pub fn read(
        base: &Base,
        tokenizer: &Tokenizer,
        files: &[PathBuf],
        constraint: Box<dyn Constraint>,
        max_length: usize,
    ) -> Result<Self> {
        let pad = Padding::of(&ModelConfig::from_dir(&base.dir)?, tokenizer).id;
        let options = EncodeOptions { max_length: Some(max_length), ..EncodeOptions::new(pad) };
        let (sets, _) = load_preferences(files, ReadOptions::default())?;
        let (train, _) = encode_sets(&sets, tokenizer, &options)?;
        Ok(Self { constraint, train, eval: None, pad, max_length })
    }
}

/// A run ready for its first step, with its constraint fitted.
pub struct RewardRun<'a> {
    setting: Setting<'a>,
    /// Options as requested, for the run's fingerprint.
    asked: &'a RewardOptions,
    /// Options with the estimated share of wrong labels.
    options: RewardOptions,
    model: RewardModel,
    /// Constraint that bounds the pairs.
    pub constraint: Box<dyn Constraint>,
    /// Evidence that the constraint was fitted to, if the run fitted it.
    pub evidence: Option<Evidence>,
    /// Estimated share of wrong labels in the run's pairs, if requested.
    pub wrong_labels: Option<WrongLabels>,
    /// Training pairs, with their bounds.
    pub train: Pairs,
    /// Evaluation pairs, with their bounds.
    pub eval: Option<Pairs>,
}

impl<'a> RewardRun<'a> {
    /// Fits the constraint if needed, bounds the pairs, and opens the model.
    ///
    /// # Errors
    /// Fails if the constraint cannot be fitted to the pairs or cannot bound them, if the loss is undefined
    /// on the data, or if the model cannot be opened.
    pub fn new(
        setting: Setting<'a>,
        options: &'a RewardOptions,
        data: RewardData,
        priors: &Priors,
        cache: MarginCache,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let Setting { backend, base, tokenizer, dir, resume, stop } = setting;
        let RewardData { constraint, train, eval, pad, max_length } = data;
        let asked = options;
        let mut options = asked.clone();
        let wrong_labels = match asked.reward.loss.form.wrong_share() {
            Some(WrongShare::Estimated(_)) => {
                options.reward.loss.form = RankingForm::Bt;
                let (options, cache) = (&options, cache.clone());
                let crossfit = Crossfit { backend, base, tokenizer, options, folds: FOLDS, cache, stop };
                Some(wrong_labels(&crossfit, &train, observer)?)
            }
            _ => None,
        };
        options.reward.loss.form = match &wrong_labels {
            Some(found) => asked.reward.loss.form.with_wrong_share(found.share),
            None => asked.reward.loss.form,
        };
        let (constraint, evidence) = match constraint.is_unfitted() {
            false => (constraint, None),
            true => {
                let (options, folds) = (&options, constraint.folds());
                let crossfit = Crossfit { backend, base, tokenizer, options, folds, cache, stop };
                let Fitted { constraint, evidence } =
                    fitted(&crossfit, constraint.as_ref(), &train, priors, dir, resume, observer)?;
                (constraint, Some(evidence))
            }
        };
        let bounded = |sets: Vec<EncodedSet>| -> Result<Pairs> {
            let bounds = bounds(constraint.as_ref(), &sets, priors)?;
            Ok(Pairs::new(sets, bounds))
        };
        let (train, eval) = (bounded(train)?, eval.map(bounded).transpose()?);
        options.reward.check_data(&train)?;
        let mut notes = json!({
            "constraint": constraint.to_tagged()?,
            "score": format!("{:?}", options.reward.score_at),
            "max_length": max_length,
        });
        if let Some(evidence) = &evidence {
            notes["evidence"] = evidence.summary();
        }
        note_wrong_labels(&mut notes, wrong_labels.as_ref())?;
        let model = base.open(backend)?.with_config(|config| {
            config.pad = pad;
            config.raw.insert("pcrm".into(), notes);
        });
        Ok(Self { setting, asked, options, model, constraint, evidence, wrong_labels, train, eval })
    }

    /// Returns the number of the model's parameters, frozen ones included.
    pub fn parameters(&self) -> usize {
        self.model.params().elements()
    }

    /// Returns the number of parameters that training changes.
    pub fn trained_parameters(&self) -> usize {
        self.model.params().trained().elements()
    }

    /// Returns the fitted constraint in the form of `--constraint`.
    ///
    /// # Errors
    /// Fails if the constraint does not serialise.
    pub fn tagged(&self) -> Result<Value> {
        Ok(self.constraint.to_tagged()?)
    }

    /// Trains the model and saves it in the run's folder. `identity` names the run's inputs (data, model,
    /// constraint); a run resumes only with the same options and identity.
    ///
    /// # Errors
    /// Same as [`train`].
    pub fn train(&self, identity: Fingerprint, observer: &mut dyn Observer) -> Result<Trained<RewardModel>> {
        let mut fingerprint = self.asked.fingerprint();
        fingerprint.extend(identity);
        let objective = Reward { config: self.options.reward, schedule: Some(self.constraint.as_ref()) };
        let run = Run {
            backend: self.setting.backend,
            objective: &objective,
            model: self.model.clone(),
            tokenizer: self.setting.tokenizer,
            train: &self.train,
            eval: self.eval.as_ref(),
            dir: self.setting.dir,
            fingerprint,
            stop: self.setting.stop,
        };
        train(run, &self.options.trainer, observer)
    }
}
