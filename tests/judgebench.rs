//! Scores of five published reward models on JudgeBench, against reference values made with scipy.
//!
//! The data is not in the repository: `PCRM_DATA` names its folder (default: `../shared/data` beside the
//! workspace). Without the data, the tests print a note and pass.

use std::path::{Path, PathBuf};

use pcrm_eval::compare::ModelComparison;
use pcrm_eval::{Bootstrap, Evaluation, PairScore, RewardReport};
use serde_json::Value;

struct JudgeBench {
    rows: Vec<Value>,
    golden: Value,
}

impl JudgeBench {
    fn open() -> Option<Self> {
        let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
        let folder = std::env::var_os("PCRM_DATA").map_or_else(default, PathBuf::from).join("judgebench");
        if !folder.exists() {
            eprintln!("nothing checked: {} is absent; set PCRM_DATA to the data's folder", folder.display());
            return None;
        }
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let rows = read("reward_model_scores.jsonl")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        Some(Self { rows, golden: serde_json::from_str(&read("golden_metrics.json")).unwrap() })
    }

    fn models(&self) -> Vec<&String> {
        self.golden["models"].as_object().unwrap().keys().collect()
    }

    fn evaluation(&self, model: &str) -> Evaluation {
        let mut evaluation = Evaluation::default();
        for row in &self.rows {
            let score = |at: usize| row["scores"][model][at].as_f64().unwrap();
            let better = usize::from(row["label"] == "B>A");
            let pair =
                PairScore { chosen: score(better), rejected: score(1 - better), ..PairScore::default() };
            // The reference combines the parts of a source: mmlu-pro-law, mmlu-pro-math.
            let source = row["source"].as_str().unwrap();
            let whole = ["livebench", "livecodebench", "mmlu-pro"]
                .into_iter()
                .find(|whole| source.starts_with(whole));
            evaluation.add_pair(pair, whole, None);
        }
        evaluation
    }
}

#[track_caller]
fn close(ours: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!(
        (ours - expected).abs() <= 1e-12 * expected.abs().max(1.0),
        "{what}: {ours}, expected {expected}"
    );
}

/// Protects: accuracy, ties, loss, margin and accuracy by source match the reference for all five models.
#[test]
fn five_published_models_give_the_reference_numbers() {
    let Some(bench) = JudgeBench::open() else { return };
    assert_eq!(bench.models().len(), 5);
    for model in bench.models() {
        let golden = &bench.golden["models"][model];
        let bootstrap = Bootstrap { resamples: 0, ..Bootstrap::default() };
        let report = RewardReport::of(&bench.evaluation(model), &bootstrap).unwrap();
        assert_eq!(report.pairs as u64, bench.golden["n"].as_u64().unwrap());
        assert_eq!(Some(report.strict_accuracy), golden["accuracy_strict"].as_f64(), "{model}");
        assert_eq!(Some(report.ties as u64), golden["ties"].as_u64(), "{model}");
        close(report.log_loss, &golden["bt_loss"], model);
        close(report.margins.mean, &golden["mean_margin"], model);
        let sources = golden["by_source"].as_object().unwrap();
        assert_eq!(report.subsets.len(), sources.len());
        for subset in &report.subsets {
            let golden = &sources[&subset.name];
            assert_eq!(Some(subset.slice.pairs as u64), golden["n"].as_u64());
            assert_eq!(
                Some(subset.slice.strict_accuracy),
                golden["accuracy"].as_f64(),
                "{model} {}",
                subset.name
            );
        }
    }
}

/// Protects: the correlation of any two models over all 700 scores is scipy's.
#[test]
fn models_correlate_as_scipy_says() {
    let Some(bench) = JudgeBench::open() else { return };
    let pairwise = bench.golden["pairwise"].as_object().unwrap();
    assert_eq!(pairwise.len(), 10);
    for (names, golden) in pairwise {
        let (first, second) = names.split_once(" | ").unwrap();
        let bootstrap = Bootstrap { resamples: 0, ..Bootstrap::default() };
        let comparison =
            ModelComparison::new(&bench.evaluation(first), &bench.evaluation(second), &bootstrap).unwrap();
        close(comparison.pearson.unwrap(), &golden["pearson"], names);
        close(comparison.spearman.unwrap(), &golden["spearman"], names);
        close(comparison.kendall.unwrap(), &golden["kendall_tau_b"], names);
    }
}
