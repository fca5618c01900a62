use pcrm_core::constraint::{from_tagged, parse};

use super::*;
use crate::testing::pair_of_lengths;

fn schedule(fields: &str) -> Box<dyn Constraint> {
    parse(&format!(r#"{{"kind": "schedule", {fields}}}"#)).unwrap()
}

/// Protects: f/`to` of every shape at the start, on the way, at the end and after it, computed by hand.
#[test]
fn factors_follow_the_schedule() {
    let linear = r#""from": 2, "to": 0.5, "over": 0.5"#;
    let cosine = r#""from": 3, "shape": "cosine""#;
    let step = r#""from": 0.25, "to": 2, "shape": "step", "over": 0.4"#;
    for (fields, progress, expected) in [
        (linear, 0.0, 4.0),
        (linear, 0.25, 2.5), // halfway from 2 to 0.5 is 1.25
        (linear, 0.5, 1.0),
        (linear, 1.0, 1.0),
        (cosine, 0.0, 3.0),
        (cosine, 0.25, 2.0 + std::f64::consts::FRAC_1_SQRT_2),
        (cosine, 0.5, 2.0),
        (cosine, 1.0, 1.0),
        (step, 0.0, 0.125),
        (step, 0.399, 0.125),
        (step, 0.4, 1.0),
    ] {
        let factor = schedule(fields).factor(progress).unwrap();
        assert!((factor - expected).abs() < 1e-12, "{fields} at {progress}: {factor}, not {expected}");
    }
    assert_eq!(parse("length_ratio").unwrap().factor(0.3), None);
}

/// Protects: bounds are the final ones, also where they are shown over s; similarities are the part's.
#[test]
fn bounds_are_those_of_the_end() {
    let ids = [7; 8];
    let pairs = [pair_of_lengths(1, &ids[..3], &ids[..5]), pair_of_lengths(2, &ids, &ids)];
    let (priors, part) = (Priors::default(), parse("length_ratio").unwrap());
    let halved = schedule(r#""from": 4, "to": 0.5"#);
    let bounds = halved.checked_bounds(&pairs, &priors).unwrap();
    assert_eq!(bounds, [9.138_935, 2.490_01]);
    assert_eq!(halved.bound_at(1.0), Some(2.490_01));
    assert_eq!(halved.similarities(&pairs, &priors).unwrap(), part.similarities(&pairs, &priors).unwrap());
    assert_eq!(schedule(r#""of": "none""#).checked_bounds(&pairs, &priors).unwrap(), [f32::INFINITY; 2]);
    let giant = schedule(r#""of": {"kind": "fixed", "bound": 1e30}, "from": 1e20"#);
    let error = giant.checked_bounds(&pairs, &priors).unwrap_err();
    assert!(matches!(error, Error::Pair { at: 0, .. }), "{error:?}");
    let error = error.to_string();
    assert!(error.contains("pair 0 has the bound 1"), "{error}");
    assert!(error.contains("which times 100000000000000000000 is inf; expected a positive"), "{error}");
}

/// Protects: the tagged form with its defaults, and its round trip.
#[test]
fn the_tagged_form_round_trips() {
    let tagged = parse("schedule").unwrap().to_tagged().unwrap();
    let of = json!({"kind": "length_ratio", "beta1": 20.0, "beta2": 0.001, "beta3": -15.0});
    let defaults =
        json!({"kind": "schedule", "of": of, "from": 2.0, "to": 1.0, "shape": "linear", "over": 1.0});
    assert_eq!(tagged, defaults);
    assert_eq!(from_tagged(tagged.clone()).unwrap().to_tagged().unwrap(), tagged);
}

/// Protects: refusals name the field and the expectation.
#[test]
fn refusals_say_what_was_expected() {
    for (fields, expected) in [
        (r#""of": "schedule""#, "of: \"schedule\" changes over training already"),
        (r#""of": "fixd""#, "of: unknown constraint \"fixd\"; known: calibrated, combine"),
        (r#""of": {"kind": "fixed", "bound": 0}"#, "of: constraint \"fixed\": bound: found 0"),
        (r#""of": 3"#, "of: constraint: expected an object with \"kind\", found 3"),
        (r#""from": 0"#, "from: found 0, expected a positive finite number"),
        (r#""to": -1"#, "to: found -1, expected a positive finite number"),
        (r#""over": 0"#, "over: found 0, expected a share above 0, at most 1"),
        (r#""over": 1.5"#, "over: found 1.5, expected a share above 0, at most 1"),
        (r#""shape": "step""#, "over: found 1, expected a share below 1"),
        (r#""shape": "log""#, "unknown variant `log`, expected one of `linear`, `cosine`, `step`"),
        (r#""until": 1"#, "unknown field `until`"),
    ] {
        let error = parse(&format!(r#"{{"kind": "schedule", {fields}}}"#)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("constraint \"schedule\": {expected}")), "{error}");
    }
}
