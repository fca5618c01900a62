use serde_json::json;

use super::*;
use crate::loss::{LossConfig, RankingForm, TieModel, WrongShare};
use crate::objective::reward::RewardConfig;
use crate::order::BatchSize;

const LOOSENS: Option<&str> = Some("the constraint's bounds change over the length of the run");

fn print(trainer: &TrainerConfig) -> Fingerprint {
    of(trainer, &RewardConfig::default())
}

fn refused(before: &TrainerConfig, now: &TrainerConfig, depends: Option<&'static str>) -> Option<String> {
    let (before, print, defaults) = (print(before), print(now), print(&TrainerConfig::default()));
    let resumed = Resumed { before: &before, now: &print, defaults: &defaults, depends_on_length: depends };
    resumed.refusal(now)
}

fn constant() -> TrainerConfig {
    TrainerConfig { schedule: Shape::Constant, warmup: Warmup::Steps(3), ..TrainerConfig::default() }
}

/// Protects: every option has its own key, named as on the command line.
#[test]
fn options_are_named_as_they_are_typed() {
    let form = RankingForm::Robust { label_smoothing: WrongShare::Given(0.2) };
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
        (TrainerConfig { learning_rate: 0.002, ..usual() }, "--learning-rate was 0.0001 and is now 0.002"),
        (TrainerConfig { batch: BatchSize::Tokens(99), ..usual() }, "--batch-tokens was unset and is now 99"),
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

/// Protects: beside another changed option, the length is named only if it is an obstacle itself.
#[test]
fn a_length_that_may_change_is_not_blamed() {
    let changed = |config: TrainerConfig| TrainerConfig { seed: 9, max_steps: Some(80), ..config };
    let message = refused(&constant(), &changed(constant()), None).unwrap_or_default();
    assert!(message.contains("--seed was 0 and is now 9") && !message.contains("--max-steps"), "{message:?}");
    let linear = TrainerConfig { schedule: Shape::Linear, ..constant() };
    let message = refused(&linear, &changed(linear.clone()), None).unwrap_or_default();
    assert!(message.contains("--seed was") && message.contains("--max-steps was unset"), "{message:?}");
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
    let form = RankingForm::Robust { label_smoothing: WrongShare::Given(0.1) };
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
        before
            .extend([("robust".to_owned(), json!(robust)), ("label-smoothing".to_owned(), json!(smoothing))]);
        before.extend(floor.map(|floor| ("floor".to_owned(), json!(floor))));
        with_named_loss(before)
    };
    let given = WrongShare::Given;
    for (before, form) in [
        (older(0.0, 0.0, None), RankingForm::Bt),
        (older(0.2, 0.0, None), RankingForm::Robust { label_smoothing: given(0.2) }),
        (older(0.0, 0.1, None), RankingForm::Smoothed { label_smoothing: given(0.1) }),
        (older(0.0, 0.0, Some(-0.5)), RankingForm::Floor { floor: -0.5 }),
    ] {
        let loss = LossConfig { form, ..LossConfig::default() };
        assert_eq!(before, of(&constant(), &RewardConfig { loss, ..RewardConfig::default() }), "{form:?}");
    }
}
