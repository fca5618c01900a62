//! The values that decide a run's numbers, by option name, and when a run may be resumed with other ones.

use std::collections::{BTreeMap, BTreeSet};

use pcrm_core::schedule::Shape;
use serde_json::{Value, json};

use crate::options::{TrainerConfig, Warmup};
use crate::order::BatchSize;
use crate::ties::TieModel;

/// Every option that changes a number, and digests of what a run reads, by name.
pub type Fingerprint = BTreeMap<String, Value>;

/// The options that say how long a run is.
const LENGTH: [&str; 2] = ["epochs", "max-steps"];

/// A key that fingerprints had before they were written by option name.
const BEFORE_OPTION_NAMES: &str = "epochs, max-steps";

/// The trainer's options as a fingerprint. Options that change no number (`log-every`, `save-every`, `keep`,
/// `final`) are left out; unset ones are null.
pub fn of(config: &TrainerConfig) -> Fingerprint {
    let (compute, loss) = (&config.compute, &config.compute.loss);
    let (batch, batch_tokens) = match config.batch {
        BatchSize::Pairs(pairs) => (Some(pairs), None),
        BatchSize::Tokens(tokens) => (None, Some(tokens)),
    };
    let (warmup_steps, warmup_ratio) = match config.warmup {
        Warmup::Steps(steps) => (Some(steps), None),
        Warmup::Ratio(ratio) => (None, Some(ratio)),
    };
    let (ties, tie_strength) = match loss.ties {
        TieModel::None => ("drop", None),
        TieModel::Davidson { nu } => ("davidson", Some(nu)),
        TieModel::RaoKupper { theta } => ("rao-kupper", Some(theta)),
    };
    let values = [
        ("seed", json!(config.seed)),
        ("epochs", json!(config.epochs)),
        ("max-steps", json!(config.max_steps)),
        ("batch", json!(batch)),
        ("batch-tokens", json!(batch_tokens)),
        ("order", json!(config.order)),
        ("score", json!(compute.score_at)),
        ("ranking", json!(loss.ranking)),
        ("ties", json!(ties)),
        ("tie-strength", json!(tie_strength)),
        ("label-smoothing", json!(loss.label_smoothing)),
        ("center-rewards", json!(loss.center_rewards)),
        ("ignore-margin", json!(!compute.use_margin)),
        ("micro-tokens", json!(compute.micro_tokens)),
        ("learning-rate", json!(config.learning_rate)),
        ("schedule", json!(config.schedule)),
        ("warmup-steps", json!(warmup_steps)),
        ("warmup-ratio", json!(warmup_ratio)),
        ("weight-decay", json!(config.adamw.weight_decay)),
        ("adam-beta1", json!(config.adamw.beta1)),
        ("adam-beta2", json!(config.adamw.beta2)),
        ("adam-epsilon", json!(config.adamw.eps)),
        ("max-grad-norm", json!(config.max_grad_norm)),
        ("eval-every", json!(config.eval_every)),
        ("patience", json!(config.patience)),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Why a run with the fingerprint `before` cannot be resumed with `now`; `None` if it can.
///
/// The length of a run may change where the steps made so far do not depend on it: under a constant learning
/// rate, without a warm-up that is a share of the run, and with `fixed_bounds`, which says that no constraint
/// loosens its bounds over the run.
pub(crate) fn refusal(
    before: &Fingerprint,
    now: &Fingerprint,
    config: &TrainerConfig,
    fixed_bounds: bool,
) -> Option<String> {
    if before.contains_key(BEFORE_OPTION_NAMES) {
        return Some(
            "was written by an older pcrm, whose runs cannot be resumed by this one; --model with this folder and \
             another --output begins a new run from its weights"
                .into(),
        );
    }
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let null = Value::Null;
    let value = |print: &'_ Fingerprint, name: &String| print.get(name).unwrap_or(&null).clone();
    let changed: Vec<&String> =
        names.into_iter().filter(|name| value(before, name) != value(now, name)).collect();
    if changed.is_empty() {
        return None;
    }
    let said = changed
        .iter()
        .map(|name| {
            format!("--{name} was {} and is now {}", shown(&value(before, name)), shown(&value(now, name)))
        })
        .collect::<Vec<_>>()
        .join("; ");
    if changed.iter().any(|name| !LENGTH.contains(&name.as_str())) {
        return Some(format!("belongs to a run with other options: {said}"));
    }
    let reason = match config.warmup {
        _ if config.schedule != Shape::Constant => {
            "the learning rate of every step depends on the length of the run unless --schedule is constant"
        }
        Warmup::Ratio(ratio) if ratio > 0.0 => {
            "--warmup-ratio is a share of the length of the run (--warmup-steps is not)"
        }
        _ if !fixed_bounds => "the constraint's bounds change over the length of the run",
        _ => return None,
    };
    Some(format!(
        "belongs to a run of another length: {said}; a run cannot be extended here, since {reason}. --model with this \
         folder and another --output begins a new run from its weights"
    ))
}

/// A value as a person would type it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "unset".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(before: &TrainerConfig, now: &TrainerConfig, fixed_bounds: bool) -> Option<String> {
        refusal(&of(before), &of(now), now, fixed_bounds)
    }

    fn constant() -> TrainerConfig {
        TrainerConfig { schedule: Shape::Constant, warmup: Warmup::Steps(3), ..TrainerConfig::default() }
    }

    /// Protects: every option has a key of its own, named as on the command line.
    #[test]
    fn options_are_named_as_they_are_typed() {
        let print = of(&TrainerConfig { max_steps: Some(7), ..TrainerConfig::default() });
        assert_eq!((&print["max-steps"], &print["schedule"]), (&json!(7), &json!("linear")));
        assert_eq!((&print["batch"], &print["batch-tokens"]), (&json!(16), &Value::Null));
        assert!(print.keys().all(|name| !name.contains([' ', ','])), "{print:?}");
    }

    /// Protects: what changed is said by option, with both values, and is never taken.
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
            let message = refused(&usual(), &now, true).unwrap_or_default();
            assert!(message.contains(expected) && message.contains("other options"), "{message:?}");
        }
        assert_eq!(refused(&usual(), &usual(), false), None);
    }

    /// Protects: a run is extended or shortened only where the steps that were made would have been the same.
    #[test]
    fn length_changes_only_where_steps_do_not_depend_on_it() {
        let longer = |config: TrainerConfig| TrainerConfig { epochs: 9.0, max_steps: Some(80), ..config };
        assert_eq!(refused(&constant(), &longer(constant()), true), None);
        let ratio = TrainerConfig { warmup: Warmup::Ratio(0.1), ..constant() };
        let linear = TrainerConfig { schedule: Shape::Linear, ..constant() };
        for (config, fixed_bounds, reason) in [
            (linear, true, "--schedule is constant"),
            (ratio, true, "--warmup-ratio"),
            (constant(), false, "constraint"),
        ] {
            let message = refused(&config, &longer(config.clone()), fixed_bounds).unwrap_or_default();
            assert!(
                message.contains(reason) && message.contains("--epochs was 1.0 and is now 9.0"),
                "{message:?}"
            );
        }
    }

    /// Protects: fingerprints of older versions are refused by what they are.
    #[test]
    fn old_fingerprints_are_refused() {
        let old = Fingerprint::from([(BEFORE_OPTION_NAMES.to_owned(), json!("1, None"))]);
        let message = refusal(&old, &of(&constant()), &constant(), true).unwrap_or_default();
        assert!(message.contains("older pcrm"), "{message:?}");
    }
}
