//! Rank correlations on human ratings of dialogue, against reference values made with scipy.
//!
//! The data is not in the repository: `PCRM_DATA` names its folder (default: `../shared/data` beside the
//! workspace). Without it the test says so and passes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pcrm_eval::correlation::{kendall, spearman};
use serde_json::Value;

fn data() -> PathBuf {
    std::env::var_os("PCRM_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from)
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Protects: heavily tied real ratings give scipy's ρ and τ-b, per dialogue and pooled.
#[test]
fn topical_chat_correlations_equal_scipy() {
    let ratings = data().join("unieval_human_ratings/topical_chat.json");
    let golden = data().join("golden_metrics/rank_correlations.json");
    for path in [&ratings, &golden] {
        if !path.exists() {
            eprintln!("nothing checked: {} is absent; PCRM_DATA names the data's folder", path.display());
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
        assert!((ours - expected).abs() < 1e-12, "{what}: {ours} where {expected} is expected");
    };
    close(spearman(&pooled.0, &pooled.1).unwrap().unwrap(), &golden["pooled_spearman"], "pooled");
    for (name, measure) in [("spearman", spearman as fn(&[f64], &[f64]) -> _), ("kendall_tau_b", kendall)] {
        let defined: Vec<f64> = groups.values().filter_map(|(x, y)| measure(x, y).unwrap()).collect();
        assert_eq!(defined.len() as u64, golden[name]["groups_used"].as_u64().unwrap());
        close(defined.iter().sum::<f64>() / defined.len() as f64, &golden[name]["mean"], name);
    }
}
