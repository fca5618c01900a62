//! The figures of a run for the model index, from the evaluation of its saved weights.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use pcrm_rl::metrics;
use serde_json::Value;
use toml::Table;

/// The file with the options of a run.
const OPTIONS: &str = "config.toml";

/// Figures of an evaluation: the key in `metrics.jsonl`, the Hub's type, and the name.
const FIGURES: [(&str, &str, &str); 8] = [
    ("eval_accuracy", "accuracy", "Pairwise accuracy"),
    ("eval_rewards/accuracies", "accuracy", "Pairwise accuracy of the implicit reward"),
    ("eval_ranking_loss", "loss", "Ranking loss, nats per pair"),
    ("eval_loss", "loss", "Loss"),
    ("eval_margin", "margin", "Mean margin"),
    ("eval_rewards/margins", "margin", "Mean margin of the implicit reward"),
    ("eval_reward", "reward", "Mean reward"),
    ("eval_objective/kl", "kl", "KL divergence from the reference, nats"),
];

/// A figure: the Hub's type, the name and the value.
pub type Figure = (&'static str, &'static str, f64);

/// Returns the evaluation figures of the saved weights, from the run's metrics; none if it is unknown which
/// evaluation is theirs. A loss that equals one before it is left out.
///
/// # Errors
/// Fails if the metrics or the options of the run cannot be read.
pub fn of(run: &Path, step: Option<u64>) -> Result<Vec<Figure>> {
    let path = run.join("metrics.jsonl");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let lines = metrics::read(&path)?;
    let step = match step {
        Some(step) => Some(step),
        None => kept(run, &lines)?,
    };
    let evaluated = |line: &&Value| line.get("eval_loss").is_some() || line.get("eval_reward").is_some();
    let of_step = |line: &&Value| step.is_some_and(|step| line["step"] == step);
    let Some(line) = lines.iter().rev().filter(evaluated).find(of_step) else { return Ok(Vec::new()) };
    let mut figures: Vec<Figure> = Vec::new();
    for (key, kind, name) in FIGURES {
        let Some(value) = line.get(key).and_then(Value::as_f64) else { continue };
        if !figures.iter().any(|(before, _, known)| kind == "loss" && *before == kind && *known == value) {
            figures.push((kind, name, value));
        }
    }
    Ok(figures)
}

/// Returns the step of the saved weights, or `None` if the folder does not hold the run's options or an
/// evaluation of those weights.
///
/// # Errors
/// Fails if the options cannot be read.
fn kept(run: &Path, metrics: &[Value]) -> Result<Option<u64>> {
    let path = run.join(OPTIONS);
    let options: Table = match fs::read_to_string(&path) {
        Ok(text) => text.parse().with_context(|| path.display().to_string())?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let keeps_best = match options.get("final").and_then(toml::Value::as_str) {
        Some(which) => which == "best",
        None => options.contains_key("patience"),
    };
    let steps = metrics.iter().filter_map(|line| line["step"].as_u64());
    Ok(if keeps_best { best(metrics) } else { steps.max() })
}

/// Returns the step of the first evaluation with the lowest loss.
fn best(metrics: &[Value]) -> Option<u64> {
    let loss = |line: &Value| Some((line["step"].as_u64()?, line["eval_loss"].as_f64()?));
    metrics.iter().filter_map(loss).min_by(|a, b| a.1.total_cmp(&b.1)).map(|(step, _)| step)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Protects: the step is that of the weights which the options keep, and unknown without the options.
    #[test]
    fn the_options_tell_which_weights_are_saved() {
        let metrics = [(5, 0.6), (10, 0.5), (15, 0.5), (20, 0.7)];
        let mut metrics: Vec<Value> =
            metrics.iter().map(|(step, loss)| json!({"step": step, "eval_loss": loss})).collect();
        metrics.push(json!({"step": 21, "loss": 0.1}));
        let of = |options: &str| {
            let run = tempfile::tempdir().unwrap();
            fs::write(run.path().join(OPTIONS), options).unwrap();
            kept(run.path(), &metrics).unwrap()
        };
        assert_eq!(of("final = \"best\"\n"), Some(10));
        assert_eq!(of("patience = 2\n"), Some(10));
        assert_eq!(of("patience = 2\nfinal = \"last\"\n"), Some(21));
        assert_eq!(of("model = \"base\"\n"), Some(21));
        assert_eq!(kept(tempfile::tempdir().unwrap().path(), &metrics).unwrap(), None);
    }

    /// Protects: the model index has the figures of the saved weights, even after all checkpoints are removed. It
    /// omits figures of other steps, repeated losses, and runs with unknown options.
    #[test]
    fn the_index_has_the_figures_of_the_saved_weights() {
        let run = tempfile::tempdir().unwrap();
        let lines = [
            json!({"step": 5, "eval_loss": 0.5, "eval_ranking_loss": 0.5, "eval_rewards/accuracies": 0.75,
                "eval_rewards/margins": 0.25, "eval_objective/kl": 2.0}),
            json!({"step": 40, "eval_loss": 0.75, "eval_ranking_loss": 0.625}),
        ];
        fs::write(run.path().join("metrics.jsonl"), lines.map(|line| line.to_string()).join("\n")).unwrap();
        let found = |step: Option<u64>| -> Vec<(&str, f64)> {
            let figures = of(run.path(), step).unwrap();
            figures.into_iter().map(|(kind, _, value)| (kind, value)).collect()
        };
        let best = vec![("accuracy", 0.75), ("loss", 0.5), ("margin", 0.25), ("kl", 2.0)];
        let last = vec![("loss", 0.625), ("loss", 0.75)];
        assert_eq!(
            (found(Some(5)), found(Some(40)), found(Some(41)), found(None)),
            (best.clone(), last, vec![], vec![])
        );
        fs::write(run.path().join("config.toml"), "final = \"best\"\n").unwrap();
        assert_eq!(found(None), best);
    }
}
