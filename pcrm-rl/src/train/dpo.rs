//! Training a policy on pairs of answers: bounds, the reference's log-probabilities, and the run.

use pcrm_core::constraint::{Constraint, Priors};
use pcrm_core::data::encode::EncodedSet;
use pcrm_core::model::LanguageModel;
use pcrm_eval::wrong_labels::WrongLabels;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::bounds::bounds;
use super::fitting::{FOLDS, fitted, note_wrong_labels, wrong_labels};
use super::{RewardOptions, Setting};
use crate::crossfit::{Crossfit, Evidence, Fitted, MarginCache};
use crate::error::Result;
use crate::fingerprint::{self, Fingerprint};
use crate::loss::WrongShare;
use crate::loss::preference::PreferenceConfig;
use crate::objective::dpo::{Dpo, Preferences};
use crate::objective::reward::RewardConfig;
use crate::offline::{Observer, Run, Trained, train};
use crate::options::{TrainerConfig, refuse};
use crate::pairs::Pairs;
use crate::reference::{Computed, LogProbCache, Reference, log_probs};

/// The options for training a policy: steps and loss.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpoOptions {
    /// Options of the steps.
    pub trainer: TrainerConfig,
    /// Options of the loss.
    pub preference: PreferenceConfig,
}

impl DpoOptions {
    /// Checks every option that can be checked without data; `evaluates` is true if the run has held-out
    /// data, `bounded` if it has a constraint.
    ///
    /// # Errors
    /// Fails if a number is out of range or options contradict each other.
    pub fn check(&self, evaluates: bool, bounded: bool) -> Result<()> {
        self.trainer.check(evaluates)?;
        self.preference.check(bounded)
    }

    /// Returns the options as a fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint::of(&self.trainer, &self.preference)
    }
}

/// The data of a run, its settled but possibly unfitted constraint, and its reference.
pub struct DpoData {
    /// Bound of margins.
    pub constraint: Box<dyn Constraint>,
    /// Model that the policy is compared with.
    pub reference: Reference,
    /// Training sets.
    pub train: Vec<EncodedSet>,
    /// Evaluation sets.
    pub eval: Option<Vec<EncodedSet>>,
    /// Maximum number of tokens of a sequence, noted in the saved model's config.
    pub max_length: usize,
}

/// Caches shared between runs: margins of judges, log-probabilities of references.
#[derive(Debug, Clone, Default)]
pub struct Caches {
    /// Margins of cross-fitted judges.
    pub margins: MarginCache,
    /// Log-probabilities of references.
    pub log_probs: LogProbCache,
}

/// A run ready for its first step, with bounds and reference computed.
pub struct DpoRun<'a> {
    setting: Setting<'a>,
    /// Options as requested, for the run's fingerprint.
    asked: &'a DpoOptions,
    /// Options with the estimated share of wrong labels.
    options: DpoOptions,
    model: LanguageModel,
    /// Constraint that bounds the pairs.
    pub constraint: Box<dyn Constraint>,
    /// Evidence that the constraint was fitted to, if the run fitted it.
    pub evidence: Option<Evidence>,
    /// Estimated share of wrong labels in the run's pairs, if requested.
    pub wrong_labels: Option<WrongLabels>,
    /// Training pairs, with their bounds and their reference.
    pub train: Preferences,
    /// Evaluation pairs.
    pub eval: Option<Preferences>,
    /// Counts of answers computed by the reference.
    pub computed: Computed,
}

impl<'a> DpoRun<'a> {
    /// Fits the constraint if needed, bounds the pairs, computes the reference's log-probabilities of all
    /// answers, and opens the policy.
    ///
    /// A constraint is fitted to the wins of reward models that start from the same model and are trained on
    /// the other folds, with this run's steps and `judges_rate` as their learning rate; a share of wrong
    /// labels is estimated from the margins of such models.
    ///
    /// # Errors
    /// Fails if the constraint or the share of wrong labels cannot be fitted, if the constraint cannot bound
    /// the pairs, if a required reference is missing, or if a model cannot be opened.
    pub fn new(
        setting: Setting<'a>,
        options: &'a DpoOptions,
        data: DpoData,
        priors: &Priors,
        caches: Caches,
        judges_rate: f64,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let Setting { backend, base, tokenizer, dir, resume, stop } = setting;
        let DpoData { constraint, reference, train, eval, max_length } = data;
        let micro_tokens = options.trainer.micro_tokens;
        let asked = options;
        let mut options = asked.clone();
        let judges = RewardOptions {
            trainer: TrainerConfig { learning_rate: judges_rate, ..options.trainer.clone() },
            reward: RewardConfig::default(),
        };
        let crossfit = |folds: usize| {
            let (options, cache) = (&judges, caches.margins.clone());
            Crossfit { backend, base, tokenizer, options, folds, cache, stop }
        };
        let estimates = options.preference.label_smoothing == WrongShare::ESTIMATE;
        if estimates || constraint.is_unfitted() {
            observer.note("judges are reward models, cross-fitted from the same model");
        }
        let wrong_labels = match estimates {
            true => Some(wrong_labels(&crossfit(FOLDS), &train, observer)?),
            false => None,
        };
        if let Some(found) = &wrong_labels {
            options.preference.label_smoothing = WrongShare::Given(found.share);
            options.preference.check(false)?;
        }
        let (constraint, evidence) = match constraint.is_unfitted() {
            false => (constraint, None),
            true => {
                let crossfit = crossfit(constraint.folds());
                let Fitted { constraint, evidence } =
                    fitted(&crossfit, constraint.as_ref(), &train, priors, dir, resume, observer)?;
                (constraint, Some(evidence))
            }
        };
        let compared = reference.base(base)?.filter(|_| !options.preference.is_without_reference());
        if compared.is_none() && !options.preference.is_without_reference() && reference != Reference::None {
            refuse("reference", "is needed by this loss".into())?;
        }
        let mut computed = Computed::default();
        let mut preferences = |sets: Vec<EncodedSet>, observer: &mut dyn Observer| -> Result<Preferences> {
            let bounds = bounds(constraint.as_ref(), &sets, priors)?;
            let reference = match &compared {
                Some(base) => {
                    let sets: Vec<&EncodedSet> = sets.iter().collect();
                    let (numbers, counts) =
                        log_probs(backend, base, &sets, micro_tokens, &caches.log_probs, observer)?;
                    computed.answers += counts.answers;
                    computed.computed += counts.computed;
                    Some(numbers)
                }
                None => None,
            };
            Preferences::new(Pairs::new(sets, bounds), reference)
        };
        let train = preferences(train, observer)?;
        let eval = eval.map(|sets| preferences(sets, observer)).transpose()?;
        let mut notes = json!({
            "constraint": constraint.to_tagged()?,
            "loss": options.preference,
            "reference": match &reference {
                Reference::Start => "start".to_owned(),
                Reference::Base => "base".to_owned(),
                Reference::Folder(dir) => dir.display().to_string(),
                Reference::None => "none".to_owned(),
            },
            "max_length": max_length,
        });
        if let Some(evidence) = &evidence {
            notes["evidence"] = evidence.summary();
        }
        note_wrong_labels(&mut notes, wrong_labels.as_ref())?;
        let model = base.open_language(backend)?.with_config(|config| {
            config.raw.insert("pcrm".into(), notes);
        });
        Ok(Self { setting, asked, options, model, constraint, evidence, wrong_labels, train, eval, computed })
    }

    /// Returns the number of the model's parameters, frozen ones included.
    pub fn parameters(&self) -> usize {
        self.model.params().elements()
    }

    /// Returns the number of parameters that training changes.
    pub fn trained_parameters(&self) -> usize {
        self.model.params().trained().elements()
    }

    /// Trains the policy and saves it in the run's folder. `identity` names the run's inputs (data, model,
    /// constraint, reference); a run resumes only with the same options and identity.
    ///
    /// # Errors
    /// Same as [`train`].
    pub fn train(
        &self,
        identity: Fingerprint,
        observer: &mut dyn Observer,
    ) -> Result<Trained<LanguageModel>> {
        let mut fingerprint = self.asked.fingerprint();
        fingerprint.extend(identity);
        let objective =
            Dpo { config: self.options.preference.clone(), schedule: Some(self.constraint.as_ref()) };
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
