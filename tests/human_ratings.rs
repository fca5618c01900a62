//! Rank correlations on human ratings of dialogue, against reference values made with scipy.
//!
//! The data is not in the repository: `PCRM_DATA` names its folder (default: `../shared/data` beside the
//! workspace). Without the data, the tests print a note and pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pcrm_eval::correlation::{kendall, spearman};
use pcrm_eval::human::{Correlations, human_agreement};
use pcrm_eval::{AnswerSet, Bootstrap, Labels};
use serde_json::Value;

fn data() -> PathBuf {
    std::env::var_os("PCRM_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from)
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Protects: real ratings with many ties give scipy's ρ and τ-b, per dialogue and pooled.
#[test]
fn topical_chat_correlations_equal_scipy() {
    let ratings = data().join("unieval_human_ratings/topical_chat.json");
    let golden = data().join("golden_metrics/rank_correlations.json");
    for path in [&ratings, &golden] {
        if !path.exists() {
            eprintln!("nothing checked: {} is absent; set PCRM_DATA to the data's folder", path.display());
            return;
        }
    }
    let golden = read(&golden)["topical_chat"].clone();
    let mut groups: BTreeMap<String, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    let mut pooled = (Vec::new(), Vec::new());
    for output in read(&ratings).as_array().unwrap() {
        let words = output["system_output"].as_str().unwrap().split_whitespace().count() as f64;
        let overall = output["scores"]["overall"].as_f64().unwrap();
        let group = groups.entry(output["source"].as_str().unwrap().to_owned()).or_default();
        for (lengths, scores) in [group, &mut pooled] {
            lengths.push(words);
            scores.push(overall);
        }
    }
    let close = |ours: f64, expected: &Value, what: &str| {
        let expected = expected.as_f64().unwrap();
        assert!((ours - expected).abs() < 1e-12, "{what}: {ours}, expected {expected}");
    };
    close(spearman(&pooled.0, &pooled.1).unwrap().unwrap(), &golden["pooled_spearman"], "pooled");
    for (name, measure) in [("spearman", spearman as fn(&[f64], &[f64]) -> _), ("kendall_tau_b", kendall)] {
        let defined: Vec<f64> = groups.values().filter_map(|(x, y)| measure(x, y).unwrap()).collect();
        assert_eq!(defined.len() as u64, golden[name]["groups_used"].as_u64().unwrap());
        close(defined.iter().sum::<f64>() / defined.len() as f64, &golden[name]["mean"], name);
    }
}

/// Protects: agreement with people on four sets of ratings is scipy's, pooled and within prompts; sets with
/// one answer per prompt have none within prompts.
#[test]
fn agreement_on_four_sets_of_ratings_equals_scipy() {
    let folder = data().join("unieval_human_ratings");
    if !folder.exists() {
        eprintln!("nothing checked: {} is absent; set PCRM_DATA to the data's folder", folder.display());
        return;
    }
    let golden: Value = serde_json::from_str(include_str!("golden/eval/human_ratings.json")).unwrap();
    for (name, golden) in golden.as_object().unwrap() {
        let mut groups: BTreeMap<String, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
        for output in read(&folder.join(format!("{name}.json"))).as_array().unwrap() {
            let group = groups.entry(output["source"].as_str().unwrap().to_owned()).or_default();
            group.0.push(output["system_output"].as_str().unwrap().split_whitespace().count() as f64);
            group.1.push(output["scores"][golden["score"].as_str().unwrap()].as_f64().unwrap());
        }
        let set = |(id, (scores, human)): (String, (Vec<f64>, Vec<f64>))| AnswerSet {
            id,
            subset: None,
            prompt: None,
            scores,
            lengths: Vec::new(),
            labels: Labels::Human(human),
        };
        let sets: Vec<AnswerSet> = groups.into_iter().map(set).collect();
        let bootstrap = Bootstrap { resamples: 20, ..Bootstrap::default() };
        let agreement = human_agreement(&sets, &bootstrap).unwrap().unwrap();
        assert_eq!(Some(agreement.prompts as u64), golden["prompts"].as_u64(), "{name}");
        assert_eq!(Some(agreement.prompts_used as u64), golden["prompts_used"].as_u64(), "{name}");
        let check = |ours: Correlations, golden: &Value| {
            for (measure, ours) in
                [("pearson", ours.pearson), ("spearman", ours.spearman), ("kendall", ours.kendall)]
            {
                match (ours, golden[measure].as_f64()) {
                    (Some(ours), Some(expected)) => {
                        let ours = ours.value;
                        assert!(
                            (ours - expected).abs() < 1e-12,
                            "{name} {measure}: {ours}, expected {expected}"
                        );
                    }
                    (ours, expected) => assert!(ours.is_none() && expected.is_none(), "{name} {measure}"),
                }
            }
        };
        check(agreement.pooled, &golden["pooled"]);
        check(agreement.per_prompt, &golden["per_prompt"]);
    }
}
