use pcrm_core::data::prompt_id::PromptId;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::testing::pair_of_lengths;

/// Fits the constraint `text` to simulated wins with P(win) = `p(s)`, for pairs with random answer
/// lengths, each with its own prompt.
fn fitted(text: &str, p: impl Fn(f64) -> f64) -> Result<Value> {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let tokens = [7; 40];
    let prompts: Vec<String> = (0..3000).map(|at| format!("prompt {at}")).collect();
    let pair = |prompt| {
        let rejected = rng.random_range(4..=40);
        PairView {
            prompt,
            prompt_id: PromptId::of_text(prompt),
            ..pair_of_lengths(1, &tokens, &tokens[..rejected])
        }
    };
    let pairs: Vec<PairView<'_>> = prompts.iter().map(String::as_str).map(pair).collect();
    let win = |pair: &PairView<'_>| {
        let p = p(pair.rejected_ids.len() as f64 / 40.0);
        f32::from(u8::from(rng.random_bool(p)))
    };
    let wins: Vec<f32> = pairs.iter().map(win).collect();
    let form = parse(text)?;
    let constraint = form.fitted(&pairs, &wins, &Priors::seeded(3))?;
    assert_eq!(constraint.checked_bounds(&pairs, &Priors::default())?.len(), pairs.len());
    constraint.to_tagged()
}

/// Protects: where similarity predicts the strength of preferences, the result is the constraint itself
/// with β near those that generated the data and its other fields kept.
#[test]
fn fits_the_constraint_it_names() {
    let p = |s: f64| 1.0 / (1.0 + (-(0.8 / (s + 0.1) - 0.2) / 2.0).exp());
    let form = r#"{"kind": "calibrated", "of": "length_ratio", "beta2": 0.1, "bootstrap": 200}"#;
    let found = fitted(form, p).unwrap();
    assert_eq!((&found["kind"], &found["beta2"]), (&json!("length_ratio"), &json!(0.1)));
    let beta = |name: &str| found[name].as_f64().unwrap();
    assert!((beta("beta1") - 0.8).abs() < 0.3 && (beta("beta3") + 0.2).abs() < 0.4, "{found}");
    let cosine =
        r#"{"kind": "calibrated", "of": {"kind": "cosine", "similarity": "angular"}, "bootstrap": 100}"#;
    // Both texts are the same for every pair, so there is only one s.
    assert_eq!(fitted(cosine, p).unwrap()["kind"], "fixed");
}

/// Protects: a given β2 is written as it is, however small; rounded, it would be 0 and refused after all judges
/// were trained.
#[test]
fn a_given_beta2_is_not_rounded() {
    let p = |s: f64| 1.0 / (1.0 + (-(0.8 / (s + 0.1) - 0.2) / 2.0).exp());
    for beta2 in [1e-7, 0.123_456_789] {
        let form = format!(r#"{{"kind": "calibrated", "beta2": {beta2}, "bootstrap": 100}}"#);
        let found = fitted(&form, p).unwrap();
        assert_eq!((&found["kind"], &found["beta2"]), (&json!("length_ratio"), &json!(beta2)));
    }
}

/// Protects: an uninformative similarity gives one bound for all pairs, 2·logit of the share of wins, and
/// judges at chance give none.
#[test]
fn fits_fixed_or_nothing() {
    let found = fitted(r#"{"kind": "calibrated", "bootstrap": 200}"#, |_| 0.75).unwrap();
    assert_eq!(found["kind"], "fixed");
    let bound = found["bound"].as_f64().unwrap();
    assert!((bound - 2.0 * 3_f64.ln()).abs() < 0.3, "{bound}");
    let error = fitted(r#"{"kind": "calibrated", "bootstrap": 100}"#, |_| 0.45).unwrap_err().to_string();
    assert!(error.starts_with("constraint \"calibrated\": the judges prefer"), "{error}");
}

/// Protects: the unfitted form has no bounds and points to the commands that fit it; its tagged form
/// round-trips, with β2 taken from `of`.
#[test]
fn the_form_is_unfitted() {
    let form = parse(r#"{"kind": "calibrated", "of": {"kind": "edit", "beta2": 0.2}, "folds": 3}"#).unwrap();
    assert!(form.is_unfitted());
    let error = form.bounds(&[], &Priors::default()).unwrap_err().to_string();
    assert!(error.contains("is not fitted yet") && error.contains("pcrm calibrate"), "{error}");
    let tagged = form.to_tagged().unwrap();
    assert_eq!(
        (&tagged["beta2"], &tagged["folds"], &tagged["of"]["kind"]),
        (&json!(0.2), &json!(3), &json!("edit"))
    );
    assert_eq!(from_tagged(tagged.clone()).unwrap().to_tagged().unwrap(), tagged);
    let word = parse(r#"{"kind": "calibrated", "beta2": "fitted"}"#).unwrap().to_tagged().unwrap();
    assert_eq!(from_tagged(word.clone()).unwrap().to_tagged().unwrap()["beta2"], "fitted");
    assert_eq!((form.folds(), &tagged["bootstrap"]), (3, &json!(1000)));
}

/// Protects: refusals name the field and the expectation.
#[test]
fn refusals_say_what_was_expected() {
    for (fields, expected) in [
        (r#""of": "fixed""#, "of: found \"fixed\", which has no beta1, beta2 and beta3"),
        (r#""of": "calibrated""#, "of: found \"calibrated\", which has no beta1"),
        (r#""of": "lenght""#, "unknown constraint \"lenght\""),
        (r#""beta2": 0"#, "beta2: found 0, expected a number above 0 or \"fitted\""),
        (r#""beta2": "best""#, "beta2: found \"best\", expected a finite number"),
        (r#""folds": 1"#, "folds: found 1, expected at least 2"),
        (r#""folds": 1000000000000"#, "folds: found 1000000000000, expected at most 1000"),
        (r#""bootstrap": 1000000000000"#, "bootstrap: found 1000000000000, expected at most 1000000"),
        (r#""folds": 2.5"#, "folds: found 2.5, expected a whole number"),
        (r#""bootstrap": 10"#, "bootstrap: found 10, expected at least 100"),
        (r#""level": 95"#, "level: found 95, expected a number between 0 and 1"),
        (r#""beta1": 3"#, "unknown field `beta1`"),
    ] {
        let error = parse(&format!(r#"{{"kind": "calibrated", {fields}}}"#)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("constraint \"calibrated\": {expected}")), "{error}");
    }
}
