//! The fingerprint of a run, by option name, and the conditions for resuming with changed options.

use std::collections::{BTreeMap, BTreeSet};

use pcrm_core::schedule::Shape;
use serde::Serialize;
use serde_json::Value;

use crate::options::{TrainerConfig, Warmup};

/// Every option that affects results, and digests of a run's inputs, by name.
pub type Fingerprint = BTreeMap<String, Value>;

/// Options that do not affect results.
const WITHOUT_EFFECT: [&str; 4] = ["log-every", "save-every", "keep", "final-weights"];

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
    // A config that does not serialise has no options to compare.
    let json = |config: serde_json::Result<Value>| config.unwrap_or(Value::Null);
    flatten(String::new(), json(serde_json::to_value(trainer)), &mut print);
    flatten(String::new(), json(serde_json::to_value(objective)), &mut print);
    print.retain(|name, _| !WITHOUT_EFFECT.contains(&name.as_str()));
    print
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
        let said = changed
            .iter()
            .map(|name| format!("--{name} was {} and is now {}", shown(&then(name)), shown(&now(name))))
            .collect::<Vec<_>>()
            .join("; ");
        if changed.iter().any(|name| !LENGTH.contains(&name.as_str())) {
            return Some(format!("belongs to a run with other options: {said}"));
        }
        let reason = match config.warmup {
            _ if config.schedule != Shape::Constant => {
                "the learning rate of every step depends on the length of the run unless --schedule is \
                 constant"
            }
            Warmup::Ratio(ratio) if ratio > 0.0 => {
                "--warmup-ratio is a share of the length of the run (--warmup-steps is not)"
            }
            _ => self.depends_on_length?,
        };
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
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "unset".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::loss::{Form, LossConfig, TieModel, WrongShare};
    use crate::objective::reward::RewardConfig;
    use crate::order::BatchSize;

    const LOOSENS: Option<&str> = Some("the constraint's bounds change over the length of the run");

    fn print(trainer: &TrainerConfig) -> Fingerprint {
        of(trainer, &RewardConfig::default())
    }

    fn refused(before: &TrainerConfig, now: &TrainerConfig, depends: Option<&'static str>) -> Option<String> {
        let (before, print, defaults) = (print(before), print(now), print(&TrainerConfig::default()));
        let resumed =
            Resumed { before: &before, now: &print, defaults: &defaults, depends_on_length: depends };
        resumed.refusal(now)
    }

    fn constant() -> TrainerConfig {
        TrainerConfig { schedule: Shape::Constant, warmup: Warmup::Steps(3), ..TrainerConfig::default() }
    }

    /// Protects: every option has its own key, named as on the command line.
    #[test]
    fn options_are_named_as_they_are_typed() {
        let form = Form::Robust { label_smoothing: WrongShare::Given(0.2) };
        let loss = LossConfig { ties: TieModel::Davidson { nu: 1.5 }, form, ..LossConfig::default() };
        let reward = RewardConfig { loss, ..RewardConfig::default() };
        let print = of(&TrainerConfig { max_steps: Some(7), ..TrainerConfig::default() }, &reward);
        for (name, value) in [
            ("max-steps", json!(7)),
            ("schedule", json!("linear")),
            ("batch", json!(16)),
            ("warmup-ratio", json!(0.0)),
            ("adam-epsilon", json!(1e-8)),
            ("score", json!("last")),
            ("ties", json!("davidson")),
            ("tie-strength", json!(1.5)),
            ("ignore-margin", json!(false)),
            ("loss", json!("robust")),
            ("label-smoothing", json!(0.2)),
        ] {
            assert_eq!(print[name], value, "{name}");
        }
        assert!(!print.contains_key("keep") && !print.contains_key("batch-tokens"));
        assert!(print.keys().all(|name| !name.contains([' ', ','])), "{print:?}");
    }

    /// Protects: changed options are refused, named with both values.
    #[test]
    fn changed_options_are_named() {
        let usual = TrainerConfig::default;
        let cases = [
            (
                TrainerConfig { learning_rate: 0.002, ..usual() },
                "--learning-rate was 0.0001 and is now 0.002",
            ),
            (
                TrainerConfig { batch: BatchSize::Tokens(99), ..usual() },
                "--batch-tokens was unset and is now 99",
            ),
            (TrainerConfig { schedule: Shape::Cosine, ..usual() }, "--schedule was linear and is now cosine"),
            (TrainerConfig { patience: Some(2), ..usual() }, "--patience was unset and is now 2"),
        ];
        for (now, expected) in cases {
            let message = refused(&usual(), &now, None).unwrap_or_default();
            assert!(message.contains(expected) && message.contains("other options"), "{message:?}");
        }
        assert_eq!(refused(&usual(), &usual(), LOOSENS), None);
    }

    /// Protects: a run is extended or shortened only if the completed steps would have been the same.
    #[test]
    fn length_changes_only_where_steps_do_not_depend_on_it() {
        let longer = |config: TrainerConfig| TrainerConfig { epochs: 9.0, max_steps: Some(80), ..config };
        assert_eq!(refused(&constant(), &longer(constant()), None), None);
        let ratio = TrainerConfig { warmup: Warmup::Ratio(0.1), ..constant() };
        let linear = TrainerConfig { schedule: Shape::Linear, ..constant() };
        for (config, depends, reason) in [
            (linear, None, "--schedule is constant"),
            (ratio, None, "--warmup-ratio"),
            (constant(), LOOSENS, "constraint"),
        ] {
            let message = refused(&config, &longer(config.clone()), depends).unwrap_or_default();
            assert!(
                message.contains(reason) && message.contains("--epochs was 1.0 and is now 9.0"),
                "{message:?}"
            );
        }
    }

    /// Protects: fingerprints of older versions are refused with a reason.
    #[test]
    fn old_fingerprints_are_refused() {
        let old = Fingerprint::from([(BEFORE_OPTION_NAMES.to_owned(), json!("1, None"))]);
        let (now, defaults) = (print(&constant()), print(&TrainerConfig::default()));
        let resumed = Resumed { before: &old, now: &now, defaults: &defaults, depends_on_length: None };
        let message = resumed.refusal(&constant()).unwrap_or_default();
        assert!(message.contains("older pcrm"), "{message:?}");
    }

    /// Protects: an option that did not exist when a run began had its default, so new options break no run;
    /// names that earlier versions wrote, including null for unset, are still read.
    #[test]
    fn options_that_a_run_did_not_know_had_their_defaults() {
        let mut before = print(&constant());
        before.remove("center-rewards");
        before.extend([("batch-tokens".to_owned(), Value::Null), ("tie-strength".to_owned(), Value::Null)]);
        let (now, defaults) = (print(&constant()), print(&TrainerConfig::default()));
        let resumed = Resumed { before: &before, now: &now, defaults: &defaults, depends_on_length: None };
        assert_eq!(resumed.refusal(&constant()), None);
        let form = Form::Robust { label_smoothing: WrongShare::Given(0.1) };
        let robust = LossConfig { form, ..LossConfig::default() };
        let now = of(&constant(), &RewardConfig { loss: robust, ..RewardConfig::default() });
        let resumed = Resumed { before: &before, now: &now, defaults: &defaults, depends_on_length: None };
        let message = resumed.refusal(&constant()).unwrap_or_default();
        assert!(message.contains("--loss was bt and is now robust"), "{message:?}");
    }

    /// Protects: runs from before `--loss`, with `--robust` or smoothing, resume with the loss they had.
    #[test]
    fn losses_before_they_had_names_are_read() {
        let older = |robust: f64, smoothing: f64, floor: Option<f64>| {
            let mut before = print(&constant());
            before.remove("loss");
            before.extend([
                ("robust".to_owned(), json!(robust)),
                ("label-smoothing".to_owned(), json!(smoothing)),
            ]);
            before.extend(floor.map(|floor| ("floor".to_owned(), json!(floor))));
            with_named_loss(before)
        };
        let given = WrongShare::Given;
        for (before, form) in [
            (older(0.0, 0.0, None), Form::Bt),
            (older(0.2, 0.0, None), Form::Robust { label_smoothing: given(0.2) }),
            (older(0.0, 0.1, None), Form::Smoothed { label_smoothing: given(0.1) }),
            (older(0.0, 0.0, Some(-0.5)), Form::Floor { floor: -0.5 }),
        ] {
            let loss = LossConfig { form, ..LossConfig::default() };
            assert_eq!(
                before,
                of(&constant(), &RewardConfig { loss, ..RewardConfig::default() }),
                "{form:?}"
            );
        }
    }
}
