//! Training a reward model: the constraint gets its numbers, the pairs their bounds, and the model is trained on both.

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
use super::fitting::{fitted, wrong_labels};
use super::{Base, Setting};
use crate::crossfit::{Crossfit, Evidence, Fitted, MarginCache};
use crate::error::{Error, Result};
use crate::fingerprint::{self, Fingerprint};
use crate::loss::{Form, WrongShare};
use crate::objective::reward::{Reward, RewardConfig};
use crate::offline::{Observer, Run, Trained, train};
use crate::options::TrainerConfig;
use crate::pairs::Pairs;

/// The judges that a share of wrong labels is found with.
const FOLDS: usize = 5;

/// The options of a reward model's training: of its steps and of its loss.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardOptions {
    /// The steps.
    pub trainer: TrainerConfig,
    /// The loss.
    pub reward: RewardConfig,
}

impl RewardOptions {
    /// Checks every option that can be checked without data; `evaluates` says whether the run has held-out data.
    ///
    /// # Errors
    /// A number outside its range, options that do not go together.
    pub fn check(&self, evaluates: bool) -> Result<()> {
        self.trainer.check(evaluates)?;
        self.reward.check()
    }

    /// The options as a fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint::of(&self.trainer, &self.reward)
    }
}

/// The data of a run, and its constraint, settled ([`Constraint::settle`]) and perhaps still to be fitted.
pub struct RewardData {
    /// The bound of margins.
    pub constraint: Box<dyn Constraint>,
    /// The sets to learn from.
    pub train: Vec<EncodedSet>,
    /// The sets to evaluate on.
    pub eval: Option<Vec<EncodedSet>>,
    /// The padding id of the saved model: `transformers` scores the token before it.
    pub pad: Option<u32>,
    /// The most tokens of a sequence, which the saved model's config notes.
    pub max_length: usize,
}

impl RewardData {
    /// Reads preference files, all to learn from, their sequences within `max_length` tokens.
    ///
    /// # Errors
    /// Files that cannot be read, and no usable pair.
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

/// A run with all its numbers, before the first step.
pub struct RewardRun<'a> {
    setting: Setting<'a>,
    /// The options as asked, which the run's fingerprint keeps.
    asked: &'a RewardOptions,
    /// The options with the share of wrong labels that was found.
    options: RewardOptions,
    model: RewardModel,
    /// The constraint that bounds the pairs.
    pub constraint: Box<dyn Constraint>,
    /// The evidence that the run fitted it to, where it did.
    pub evidence: Option<Evidence>,
    /// The share of wrong labels that the run found in its pairs, where it was asked to.
    pub wrong_labels: Option<WrongLabels>,
    /// The pairs to learn from, with their bounds.
    pub train: Pairs,
    /// The pairs to evaluate on, with their bounds.
    pub eval: Option<Pairs>,
}

impl<'a> RewardRun<'a> {
    /// Fits the constraint where it has no numbers yet, bounds the pairs, and opens the model.
    ///
    /// # Errors
    /// A constraint that cannot be fitted to the pairs or cannot bound them, data that the loss is not defined on, a model
    /// that cannot be opened.
    pub fn new(
        setting: Setting<'a>,
        options: &'a RewardOptions,
        data: RewardData,
        (priors, cache): (&Priors, MarginCache),
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let Setting { backend, base, tokenizer, dir, resume, stop } = setting;
        let RewardData { constraint, train, eval, pad, max_length } = data;
        let asked = options;
        let mut options = asked.clone();
        let wrong_labels = match asked.reward.loss.form.wrong_share() {
            Some(WrongShare::Asked(_)) => {
                options.reward.loss.form = Form::Bt;
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
                let asked = (constraint.as_ref(), train.as_slice());
                let Fitted { constraint, evidence } =
                    fitted(&crossfit, asked, priors, (dir, resume), observer)?;
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
        if let Some(found) = &wrong_labels {
            notes["wrong_labels"] = serde_json::to_value(found)
                .map_err(|error| Error::Invalid { field: "label-smoothing", message: error.to_string() })?;
        }
        let model = base.open(backend)?.with_config(|config| {
            config.pad = pad;
            config.raw.insert("pcrm".into(), notes);
        });
        Ok(Self { setting, asked, options, model, constraint, evidence, wrong_labels, train, eval })
    }

    /// The number of the model's parameters.
    pub fn parameters(&self) -> usize {
        self.model.params().elements()
    }

    /// The constraint with all its numbers, as `--constraint` takes it.
    ///
    /// # Errors
    /// A constraint that does not serialise.
    pub fn tagged(&self) -> Result<Value> {
        Ok(self.constraint.to_tagged()?)
    }

    /// Trains the model and saves it in the run's folder. `identity` names what the run reads (data, model, constraint);
    /// a run resumes only with the same options and identity.
    ///
    /// # Errors
    /// Those of [`train`].
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
