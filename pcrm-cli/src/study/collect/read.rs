//! Reads the files that runs leave.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use pcrm_eval::worlds::WorldPrompt;
use pcrm_rl::online::Change;
use serde_json::Value;

use super::Pair;

/// Reads the true rewards of answers to the same prompts before and after training.
pub(super) fn before_and_after(path: &Path) -> Result<Vec<(f64, f64)>> {
    let mut asked: HashMap<String, Option<WorldPrompt>> = HashMap::new();
    let mut pairs = Vec::new();
    for line in lines(path)? {
        let change: Change = serde_json::from_value(line).with_context(|| path.display().to_string())?;
        let asked = asked.entry(change.prompt).or_insert_with_key(|prompt| WorldPrompt::of_prompt(prompt));
        let of = asked.as_ref().with_context(|| format!("{}: a prompt from no world", path.display()))?;
        pairs.push((of.true_reward(&change.before), of.true_reward(&change.after)));
    }
    Ok(pairs)
}

/// Reads the true rewards of answers scored by the truth, in the order of prompts and samples.
pub(super) fn truths_of_samples(path: &Path) -> Result<Vec<f64>> {
    let score = |line: Value| line["score"].as_f64().with_context(|| format!("{}: no score", path.display()));
    lines(path)?.into_iter().map(score).collect()
}

pub(super) fn read_pairs(path: &Path) -> Result<Vec<Pair>> {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let pair = |line: Value| -> Result<Pair> {
        let number = |key: &str| line[key].as_f64().with_context(|| format!("{}: no {key}", path.display()));
        let next = numbers.len();
        let prompt = *numbers.entry(line["prompt"].as_str().unwrap_or_default().to_owned()).or_insert(next);
        Ok((prompt, number("true_chosen")? - number("true_rejected")?, number("preference_probability")?))
    };
    lines(path)?.into_iter().map(pair).collect()
}

/// Reads the measures of a report on held-out pairs.
pub(super) fn measured(path: &Path) -> Result<Vec<(String, f64)>> {
    let report = json(path)?;
    let found = [
        ("accuracy", &report["accuracy"]["value"]),
        ("log_loss", &report["log_loss"]),
        ("ece", &report["ece"]),
        ("log_loss_scaled", &report["scaled"]["log_loss"]["value"]),
        ("ece_scaled", &report["scaled"]["ece"]["value"]),
        ("temperature", &report["scaled"]["temperature"]),
        ("kl_per_token", &report["policy"]["kl_per_token"]),
    ];
    Ok(found
        .into_iter()
        .filter_map(|(name, value)| value.as_f64().map(|value| (name.to_owned(), value)))
        .collect())
}

/// Reads n, KL, score and true reward of every point.
pub(super) fn best_points(place: &Path) -> Result<Vec<[f64; 4]>> {
    let of = |point: &Value| {
        let number = |value: &Value| value.as_f64();
        Some([
            number(&point["n"])?,
            number(&point["kl"])?,
            number(&point["score"]["value"])?,
            number(&point["truth"]["value"])?,
        ])
    };
    Ok(curve_points(place)?.iter().filter_map(of).collect())
}

pub(super) fn curve_points(place: &Path) -> Result<Vec<Value>> {
    let curve = json(&place.join("curve.json"))?;
    Ok(curve["points"].as_array().cloned().unwrap_or_default())
}

fn json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

pub(super) fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| path.display().to_string())).collect()
}
