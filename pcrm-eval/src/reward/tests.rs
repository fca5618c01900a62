use serde_json::Value;

use super::*;
use crate::golden::{close, golden};

fn golden_pairs() -> Vec<PairScore> {
    serde_json::from_value(golden()["report"]["pairs"].clone()).unwrap()
}

/// Protects: every number of the report equals numpy's and scipy's on the same pairs, so the columns
/// match the measures.
#[test]
fn the_report_equals_numpy_and_scipy() {
    let report = serde_json::to_value(RewardReport::new(&golden_pairs()).unwrap()).unwrap();
    let expected = golden()["report"]["expected"].as_object().unwrap().clone();
    assert!(expected.len() >= 25);
    for (pointer, value) in expected {
        let ours = report.pointer(&pointer).and_then(Value::as_f64);
        close(ours.unwrap_or(f64::NAN), value.as_f64().unwrap(), &pointer);
    }
}

/// Protects: a report survives a round trip through JSON, so saved ones can be compared.
#[test]
fn reports_survive_json() {
    let pair = PairScore { chosen: 1.5, rejected: 0.25, chosen_tokens: 8, ..PairScore::default() };
    let report = RewardReport::new(&[pair, pair]).unwrap();
    assert_eq!((report.bounds, report.true_reward), (None, None));
    let json = serde_json::to_string(&report).unwrap();
    let again: RewardReport = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), json);
    assert!(json.contains("\"bounds\":null"), "{json}");
}

/// Protects: infinite bounds count as no bounds: the Bradley-Terry baseline has no mean bound of
/// infinity.
#[test]
fn infinite_bounds_are_no_bounds() {
    let pair = PairScore { chosen: 4.0, bound: Some(f64::INFINITY), ..PairScore::default() };
    assert_eq!(RewardReport::new(&[pair]).unwrap().bounds, None);
    let tight = PairScore { bound: Some(3.0), ..pair };
    let bounds = RewardReport::new(&[pair, tight]).unwrap().bounds;
    assert_eq!(bounds, Some(Bounds { pairs: 1, mean: 3.0, beyond: 1.0 }));
}

/// Protects: errors name the invalid pair.
#[test]
fn bad_pairs_are_named() {
    let good = PairScore { chosen: 1.0, ..PairScore::default() };
    let refusal = |bad: PairScore| RewardReport::new(&[good, good, bad]).unwrap_err().to_string();
    assert_eq!(
        refusal(PairScore { chosen: f64::NAN, ..good }),
        "score of the chosen answer of pair 2: found NaN, expected a finite number"
    );
    assert_eq!(
        refusal(PairScore { rejected: f64::INFINITY, ..good }),
        "score of the rejected answer of pair 2: found inf, expected a finite number"
    );
    assert_eq!(
        refusal(PairScore { bound: Some(-1.0), ..good }),
        "bound of pair 2: found -1, expected a positive number, or none for no bound"
    );
    assert_eq!(
        refusal(PairScore { true_chosen: Some(1.0), true_rejected: Some(f64::NAN), ..good }),
        "true reward of an answer of pair 2: found NaN, expected a finite number"
    );
    let error = RewardReport::new(&[]).unwrap_err().to_string();
    assert_eq!(error, "preference pairs: nothing to measure; at least one value is needed");
    // Ratings of single answers form no pairs.
    let mut rated = Evaluation::new(LengthUnit::Tokens);
    for (at, human) in [1.0, 2.0].into_iter().enumerate() {
        rated
            .add_set(AnswerSet {
                id: format!("q{at}"),
                subset: None,
                prompt: Some(format!("prompt {at}")),
                scores: vec![0.5],
                lengths: Vec::new(),
                labels: Labels::Human(vec![human]),
            })
            .unwrap();
    }
    let error = RewardReport::of(&rated, &Bootstrap::default()).unwrap_err().to_string();
    assert!(
        error.starts_with("pairs of answers to one prompt with different human scores: nothing"),
        "{error}"
    );
}
