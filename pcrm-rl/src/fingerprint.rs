//! The fingerprint of a run, by option name, and the conditions for resuming with changed options.

mod change;

use std::collections::{BTreeMap, BTreeSet};

use pcrm_core::schedule::Shape;
use serde::Serialize;
use serde_json::Value;

use crate::options::{TrainerConfig, Warmup};

/// Every option that affects results, and digests of a run's inputs, by name.
pub type Fingerprint = BTreeMap<String, Value>;

/// Options that do not affect results.
const WITHOUT_EFFECT: [&str; 5] = ["log-every", "save-every", "keep", "final-weights", "optimizer-states"];

/// Options that do not affect results but determine which exchanges the processes of a run make.
const EXCHANGES: [&str; 2] = ["save-every", "final-weights"];

/// Options that set the length of a run.
const LENGTH: [&str; 2] = ["epochs", "max-steps"];

/// Options whose names on the command line differ from their fields.
const NAMES: [(&str, &str); 12] = [
    ("batch/pairs", "batch"),
    ("batch/tokens", "batch-tokens"),
    ("warmup/steps", "warmup-steps"),
    ("warmup/ratio", "warmup-ratio"),
    ("adamw/weight_decay", "weight-decay"),
    ("adamw/beta1", "adam-beta1"),
    ("adamw/beta2", "adam-beta2"),
    ("adamw/eps", "adam-epsilon"),
    ("score-at", "score"),
    ("loss/form", "loss"),
    ("loss/ties/davidson/nu", "tie-strength"),
    ("loss/ties/rao-kupper/theta", "tie-strength"),
];

/// A key of fingerprints from before they were written by option name.
const BEFORE_OPTION_NAMES: &str = "epochs, max-steps";

/// Returns the fingerprint of a run's options, built from the JSON of the trainer's and the objective's. An
/// option missing from an older fingerprint had its default.
pub fn of(trainer: &TrainerConfig, objective: &impl Serialize) -> Fingerprint {
    let mut print = Fingerprint::new();
    flatten(String::new(), json(trainer), &mut print);
    flatten(String::new(), json(objective), &mut print);
    print.retain(|name, _| !WITHOUT_EFFECT.contains(&name.as_str()));
    print
}

/// Adds the options that the processes of a run must have in common besides those in its fingerprint.
pub(crate) fn with_exchanges(mut print: Fingerprint, trainer: &TrainerConfig) -> Fingerprint {
    let mut all = Fingerprint::new();
    flatten(String::new(), json(trainer), &mut all);
    all.retain(|name, _| EXCHANGES.contains(&name.as_str()));
    print.extend(all);
    print.insert("bucket-bytes".to_owned(), trainer.bucket_bytes.into());
    print
}

/// Returns the JSON of a config. One that does not serialise has no options to compare.
fn json(config: &impl Serialize) -> Value {
    serde_json::to_value(config).unwrap_or(Value::Null)
}

/// Converts a reward model's fingerprint from before `--loss` to current options: then, `--robust E` or a
/// smoothing alone determined the form of the loss.
pub(crate) fn with_named_loss(mut before: Fingerprint) -> Fingerprint {
    let Some(robust) = before.remove("robust") else { return before };
    let smoothed = before.get("label-smoothing").is_some_and(|share| share.as_f64() != Some(0.0));
    let form = match (robust.as_f64() == Some(0.0), smoothed, before.contains_key("floor")) {
        (false, ..) => {
            before.insert("label-smoothing".to_owned(), robust);
            "robust"
        }
        (true, true, _) => "smoothed",
        (true, false, has_floor) => {
            before.remove("label-smoothing");
            if has_floor { "floor" } else { "bt" }
        }
    };
    before.insert("loss".to_owned(), form.into());
    before
}

/// Adds every value of a config under the name of its option.
fn flatten(path: String, value: Value, print: &mut Fingerprint) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let inner = if path.is_empty() { field.clone() } else { format!("{path}/{field}") };
                match path.as_str() {
                    "loss/ties" => drop(print.insert("ties".to_owned(), field.into())),
                    "loss/form" => drop(print.insert("loss".to_owned(), field.into())),
                    _ => {}
                }
                flatten(inner, value, print);
            }
        }
        value => {
            let named = NAMES.iter().find(|(field, _)| *field == path).map(|(_, option)| *option);
            let last = path.rsplit('/').next().unwrap_or(&path).replace('_', "-");
            print.insert(named.map_or(last, str::to_owned), value);
        }
    }
}

/// A run to resume, and the options that it is compared with.
pub(crate) struct Resumed<'a> {
    /// Fingerprint of the existing run.
    pub before: &'a Fingerprint,
    /// Fingerprint of the current options.
    pub now: &'a Fingerprint,
    /// Fingerprint of all defaults.
    pub defaults: &'a Fingerprint,
    /// Reason why a step's loss depends on the run's length, if it does.
    pub depends_on_length: Option<&'static str>,
}

impl Resumed<'_> {
    /// Returns the reason why the run cannot be resumed; `None` if it can.
    ///
    /// The length of a run may change if the steps so far do not depend on it: with a constant learning rate,
    /// without a warm-up given as a share of the run, and if no loss depends on it.
    pub(crate) fn refusal(&self, config: &TrainerConfig) -> Option<String> {
        if self.before.contains_key(BEFORE_OPTION_NAMES) {
            return Some(
                "was written by an older pcrm, whose runs cannot be resumed by this one; to start a new run \
                 from its weights, set --model to this folder and --output to another one"
                    .into(),
            );
        }
        let names: BTreeSet<&String> = self.before.keys().chain(self.now.keys()).collect();
        let (then, now) = (|name| self.value(self.before, name), |name| self.value(self.now, name));
        let changed: Vec<&String> = names.into_iter().filter(|name| then(name) != now(name)).collect();
        if changed.is_empty() {
            return None;
        }
        let reason = match config.warmup {
            _ if config.schedule != Shape::Constant => Some(
                "the learning rate of every step depends on the length of the run unless --schedule is \
                 constant",
            ),
            Warmup::Ratio(ratio) if ratio > 0.0 => {
                Some("--warmup-ratio is a share of the length of the run (--warmup-steps is not)")
            }
            _ => self.depends_on_length,
        };
        let is_length = |name: &&String| LENGTH.contains(&name.as_str());
        let said = changed
            .iter()
            .filter(|name| reason.is_some() || !is_length(name))
            .flat_map(|name| change::described(name, &then(name), &now(name)))
            .collect::<Vec<_>>()
            .join("; ");
        if !changed.iter().all(is_length) {
            return Some(format!("belongs to a run with other options: {said}"));
        }
        let reason = reason?;
        Some(format!(
            "belongs to a run of another length: {said}; a run cannot be extended here, since {reason}. \
             To start a new run from its weights, set --model to this folder and --output to another one"
        ))
    }

    /// Returns an option's value: the default if the fingerprint lacks it, unset if the alternative option is
    /// set.
    fn value(&self, print: &Fingerprint, name: &str) -> Value {
        // --batch and --batch-tokens exclude each other, and so do both warm-ups: setting one unsets the
        // other.
        const EITHER: [[&str; 2]; 2] = [["batch", "batch-tokens"], ["warmup-steps", "warmup-ratio"]];
        let excluded = EITHER
            .iter()
            .flat_map(|[a, b]| [(a, b), (b, a)])
            .any(|(own, other)| *own == name && print.get(*other).is_some_and(|value| !value.is_null()));
        let default = || self.defaults.get(name).filter(|_| !excluded).cloned();
        print.get(name).cloned().or_else(default).unwrap_or(Value::Null)
    }
}

/// Formats a value as a user would type it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "unset".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
