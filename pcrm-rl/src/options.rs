//! The options of a run, with their defaults and valid ranges.

use pcrm_core::optim::{AdamWConfig, BUCKET_BYTES, Rule, StatePlace, WeightType};
use pcrm_core::schedule::Shape;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::order::{BatchSize, Order};

/// The length of warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Warmup {
    /// A number of steps.
    Steps(u64),
    /// A share of all steps.
    Ratio(f64),
}

impl Warmup {
    /// Returns the number of steps, in a run of `total` steps.
    pub fn steps(self, total: u64) -> u64 {
        match self {
            Self::Steps(steps) => steps,
            Self::Ratio(ratio) => (ratio * total as f64).ceil() as u64,
        }
    }
}

/// The weights saved in the run's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Final {
    /// The weights of the last step.
    #[default]
    Last,
    /// The weights of the best evaluation.
    Best,
}

/// The options of a run, with the defaults of `pcrm reward`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainerConfig {
    /// Seed of all random draws.
    pub seed: u64,
    /// Passes over the data; may be a fraction.
    pub epochs: f64,
    /// Maximum number of steps; may end the run before its epochs do.
    pub max_steps: Option<u64>,
    /// The size of a step.
    pub batch: BatchSize,
    /// The order of items.
    pub order: Order,
    /// Maximum number of tokens computed at once; larger batches are accumulated, with the same result.
    pub micro_tokens: usize,
    /// The number of parts of a step, each with its own gradient. A run has at least one lane per process,
    /// and the same number of lanes gives the same bits on any number of processes.
    #[serde(skip_serializing_if = "is_one")]
    pub lanes: usize,
    /// The most bytes of gradients that several processes exchange at once, while the backward pass computes
    /// others. They change no result, and are not saved.
    #[serde(skip)]
    pub bucket_bytes: usize,
    /// The largest learning rate.
    pub learning_rate: f64,
    /// Shape of the learning rate after warm-up.
    pub schedule: Shape,
    /// Steps over which the learning rate rises.
    pub warmup: Warmup,
    /// The update rule of the optimiser.
    pub optimizer: Rule,
    /// The memory that holds the optimiser's moments. It changes no result.
    pub optimizer_states: StatePlace,
    /// The type of the trained weights.
    pub weights: WeightType,
    /// Constants of the optimiser.
    pub adamw: AdamWConfig,
    /// Gradients of a larger global norm are scaled down to it.
    pub max_grad_norm: Option<f64>,
    /// Steps between lines of metrics.
    pub log_every: u64,
    /// Steps between evaluations; the last step is always evaluated if there are held-out data.
    pub eval_every: Option<u64>,
    /// Steps between checkpoints.
    pub save_every: Option<u64>,
    /// Number of checkpoints kept besides the best.
    pub keep: usize,
    /// Number of evaluations without a lower loss after which the run ends early.
    pub patience: Option<u64>,
    /// Weights saved in the run's folder.
    pub final_weights: Final,
}

/// Returns true for one lane, which is not serialised, so that the options equal those of earlier versions.
fn is_one(lanes: &usize) -> bool {
    *lanes == 1
}

impl Default for TrainerConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            epochs: 1.0,
            max_steps: None,
            batch: BatchSize::Pairs(16),
            order: Order::Shuffled,
            micro_tokens: 8192,
            lanes: 1,
            bucket_bytes: BUCKET_BYTES,
            learning_rate: 1e-4,
            schedule: Shape::Linear,
            warmup: Warmup::Ratio(0.0),
            optimizer: Rule::default(),
            optimizer_states: StatePlace::default(),
            weights: WeightType::default(),
            adamw: AdamWConfig::default(),
            max_grad_norm: Some(1.0),
            log_every: 1,
            eval_every: None,
            save_every: Some(100),
            keep: 2,
            patience: None,
            final_weights: Final::Last,
        }
    }
}

impl TrainerConfig {
    /// Checks every option that can be checked without data; `evaluates` is true if the run has held-out
    /// data. Errors name options as the command line does.
    ///
    /// # Errors
    /// Fails if a number is out of range, options contradict each other, or an option would have no effect.
    pub fn check(&self, evaluates: bool) -> Result<()> {
        const POSITIVE: &str = "a positive number";
        const FROM_ZERO: &str = "a number from 0 up";
        const COUNT: &str = "a positive whole number";
        let adamw = &self.adamw;
        number("epochs", self.epochs, self.epochs > 0.0, POSITIVE)?;
        number("learning-rate", self.learning_rate, self.learning_rate > 0.0, POSITIVE)?;
        if let Warmup::Ratio(ratio) = self.warmup {
            number("warmup-ratio", ratio, (0.0..=1.0).contains(&ratio), "a number between 0 and 1")?;
        }
        number("weight-decay", adamw.weight_decay, adamw.weight_decay >= 0.0, FROM_ZERO)?;
        let decayed = self.learning_rate * adamw.weight_decay;
        if decayed > 1.0 {
            let message = format!(
                "{}: at --learning-rate {} a step takes {} of each weight off it; expected at most {}",
                shown(adamw.weight_decay),
                shown(self.learning_rate),
                shown(decayed),
                shown(1.0 / self.learning_rate)
            );
            return refuse("weight-decay", message);
        }
        for (field, beta) in [("adam-beta1", adamw.beta1), ("adam-beta2", adamw.beta2)] {
            // Moments are f32: a value that rounds to 1 there is no decay.
            number(field, beta, beta >= 0.0 && (beta as f32) < 1.0, "a number from 0 to below 1")?;
        }
        number("adam-epsilon", adamw.eps, adamw.eps as f32 > 0.0, POSITIVE)?;
        self.check_rule()?;
        if let Some(most) = self.max_grad_norm {
            number("max-grad-norm", most, most > 0.0, "a positive number, or 0 for no clipping")?;
        }
        let (batch, size) = match self.batch {
            BatchSize::Pairs(pairs) => ("batch", pairs),
            BatchSize::Tokens(tokens) => ("batch-tokens", tokens),
        };
        let counts = [
            ("max-steps", self.max_steps),
            (batch, Some(size as u64)),
            ("micro-tokens", Some(self.micro_tokens as u64)),
            ("lanes", Some(self.lanes as u64)),
            ("log-every", Some(self.log_every)),
            ("eval-every", self.eval_every),
            ("save-every", self.save_every),
            ("keep", Some(self.keep as u64)),
            ("patience", self.patience),
        ];
        if let Some((field, _)) = counts.iter().find(|(_, count)| *count == Some(0)) {
            return refuse(field, format!("0: expected {COUNT}"));
        }
        self.check_evaluation(evaluates)
    }

    /// Refuses constants of AdamW, and moments in host memory, for another optimiser.
    fn check_rule(&self) -> Result<()> {
        if (self.optimizer, self.optimizer_states) == (Rule::Adafactor, StatePlace::Host) {
            let message =
                "host: has no effect with --optimizer adafactor, whose moments of rows and columns are small";
            return refuse("optimizer-states", message.into());
        }
        let (given, usual) = (&self.adamw, AdamWConfig::default());
        let constants = [
            ("adam-beta1", given.beta1, usual.beta1),
            ("adam-beta2", given.beta2, usual.beta2),
            ("adam-epsilon", given.eps, usual.eps),
        ];
        match constants.iter().find(|(_, given, usual)| given != usual) {
            Some((field, given, _)) if self.optimizer == Rule::Adafactor => {
                refuse(field, format!("{}: has no effect with --optimizer {}", shown(*given), self.optimizer))
            }
            _ => Ok(()),
        }
    }

    /// Refuses options on evaluations if there are none.
    fn check_evaluation(&self, evaluates: bool) -> Result<()> {
        let asked = [
            ("eval-every", self.eval_every.is_some()),
            ("patience", self.patience.is_some()),
            ("final", self.final_weights == Final::Best),
        ];
        match asked.iter().find(|(_, asked)| *asked) {
            Some((field, _)) if !evaluates => {
                refuse(field, "needs held-out data: expected --eval-split or --eval-data".into())
            }
            Some((field, _)) if self.eval_every.is_none() => {
                refuse(field, "needs several evaluations: expected --eval-every".into())
            }
            _ => Ok(()),
        }
    }
}

/// Refuses a number that is infinite (also as f32, the type of weights), NaN, or not `fitting`.
pub(crate) fn number(field: &'static str, value: f64, fitting: bool, expected: &str) -> Result<()> {
    match fitting && (value as f32).is_finite() {
        true => Ok(()),
        false => refuse(field, format!("{}: expected {expected}", shown(value))),
    }
}

/// Formats a number in few digits: 1e300 instead of three hundred digits.
pub(crate) fn shown(value: f64) -> String {
    match value == 0.0 || !value.is_finite() || (1e-7..1e16).contains(&value.abs()) {
        true => value.to_string(),
        false => format!("{value:e}"),
    }
}

/// Returns the error of an invalid option.
pub(crate) fn refuse<T>(field: &'static str, message: String) -> Result<T> {
    Err(Error::Invalid { field, message })
}

#[cfg(test)]
mod tests;
