use super::*;
use crate::testing::pair_of_lengths;

fn bounds(text: &str) -> Vec<f32> {
    let ids = [7; 8];
    let pairs = [pair_of_lengths(1, &ids[..3], &ids[..5]), pair_of_lengths(2, &ids, &ids)];
    parse(text).unwrap().checked_bounds(&pairs, &Priors::default()).unwrap()
}

fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// Protects: each combination, pair by pair (`length_ratio` gives 18.277870 and 4.980020 here).
#[test]
fn bounds_are_combined_pair_by_pair() {
    for (how, expected) in [
        (r#""how": "min""#, [8.0, 4.980_02]),
        (r#""how": "mean""#, [13.138_935, 6.490_01]),
        (r#""how": "product""#, [146.222_96, 39.840_16]),
        (r#""how": "sum", "weights": [0.5, 2]"#, [25.138_935, 18.490_01]),
    ] {
        let of = r#"["length_ratio", {"kind": "fixed", "bound": 8}]"#;
        let found = bounds(&format!(r#"{{"kind": "combine", {how}, "of": {of}}}"#));
        let close = found.iter().zip(expected).all(|(found, expected)| (found / expected - 1.0).abs() < 1e-6);
        assert!(close, "{how}: {found:?}, expected {expected:?}");
    }
}

/// Protects: nesting, and that "no bound" is the largest bound.
#[test]
fn parts_may_be_combined_and_unbounded() {
    let nested = r#"{"kind": "combine", "of": ["none",
        {"kind": "combine", "how": "mean", "of": [{"kind": "fixed", "bound": 2}, "fixed"]}]}"#;
    assert_eq!(bounds(nested), [2.5, 2.5]);
    assert_eq!(bounds(r#"{"kind": "combine", "how": "mean", "of": ["none", "fixed"]}"#), [f32::INFINITY; 2]);
}

/// Protects: the tagged form with its parts' kinds and defaults, and its round trip.
#[test]
fn the_tagged_form_round_trips() {
    let text = r#"{"kind": "combine", "how": "sum", "weights": [1.0, 2.0], "of": ["none", "fixed"]}"#;
    let tagged = parse(text).unwrap().to_tagged().unwrap();
    let of = json!([{"kind": "none"}, {"kind": "fixed", "bound": 3.0}]);
    assert_eq!(tagged, json!({"kind": "combine", "how": "sum", "weights": [1.0, 2.0], "of": of}));
    assert_eq!(from_tagged(tagged.clone()).unwrap().to_tagged().unwrap(), tagged);
    let defaults = parse("combine").unwrap().to_tagged().unwrap();
    assert_eq!((&defaults["how"], &defaults["of"][1]["kind"]), (&json!("min"), &json!("edit")));
}

/// Protects: refusals name the field, the part and the expectation.
#[test]
fn refusals_say_what_was_expected() {
    let of = r#""of": ["fixed", "none"]"#;
    for (fields, expected) in [
        (format!(r#""how": "max", {of}"#), "how: found \"max\", expected \"min\", \"mean\""),
        (r#""of": []"#.to_owned(), "of: found no constraint"),
        (r#""of": "fixed""#.to_owned(), "of: found \"fixed\", expected a list"),
        (r#""of": ["none", "schedule"]"#.to_owned(), "of: part 1: \"schedule\" changes over training"),
        (
            r#""of": ["none", {"kind": "fixed", "bound": -1}]"#.to_owned(),
            "of: part 1: constraint \"fixed\": bound",
        ),
        (format!(r#""how": "sum", {of}"#), "weights: found null, expected a list"),
        (format!(r#""how": "sum", "weights": [1], {of}"#), "weights: found 1 numbers, expected 2"),
        (format!(r#""how": "sum", "weights": [1, 0], {of}"#), "weights: found 0, expected a positive"),
        (format!(r#""weights": [1, 2], {of}"#), "weights: only \"how\": \"sum\" takes them"),
    ] {
        let error = refusal(&format!(r#"{{"kind": "combine", {fields}}}"#));
        assert!(error.starts_with(&format!("constraint \"combine\": {expected}")), "{error}");
    }
}
