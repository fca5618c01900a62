//! Losses of pairs and of labelled answers against TRL's own code: values, and gradients of every
//! log-probability.
//!
//! `golden/dpo` has the numbers and the script that made them.

use std::fs;

use anyhow::{Context, Result, ensure};
use pcrm_rl::loss::preference::kto::KtoConfig;
use pcrm_rl::loss::preference::{AnswerTokens, Pair, PreferenceConfig, PreferenceLoss};
use serde_json::{Value, json};

use crate::support::beside;

fn golden() -> Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(beside("golden/dpo/losses.json"))?)?)
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().into_iter().flatten().map(|number| number.as_f64().unwrap_or(f64::NAN)).collect()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().into_iter().flatten().map(numbers).collect()
}

/// Fails unless the numbers agree; where TRL has no finite number, any finite one passes.
fn check(what: &str, got: f64, want: f64, tolerance: f64) -> Result<()> {
    ensure!(got.is_finite(), "{what}: found {got}, expected a finite number");
    ensure!(
        want.is_nan() || (got - want).abs() <= tolerance * (1.0 + want.abs()),
        "{what}: {got}, expected {want}"
    );
    Ok(())
}

/// Returns the loss of a case.
fn config(case: &Value) -> Result<PreferenceConfig> {
    let weights = numbers(&case["weights"]);
    let losses = case["losses"].as_array().context("losses")?;
    let weighted = losses.iter().zip(weights).map(|(loss, weight)| json!({"loss": loss, "weight": weight}));
    let mut options = serde_json::Map::new();
    options.insert("loss".into(), weighted.collect());
    for (name, value) in case["options"].as_object().into_iter().flatten() {
        if name != "bound" {
            options.insert(name.replace('_', "-"), value.clone());
        }
    }
    Ok(serde_json::from_value(options.into())?)
}

fn check_case(batches: &Value, case: &Value) -> Result<()> {
    let batch = &batches[case["batch"].as_str().context("batch")?];
    let config = config(case)?;
    let bound = case["options"]["bound"].as_f64().unwrap_or(f64::INFINITY);
    config.check(bound.is_finite())?;
    let [chosen, rejected, ref_chosen, ref_rejected, alignment] =
        ["chosen", "rejected", "ref_chosen", "ref_rejected", "alignment"].map(|name| rows(&batch[name]));
    let prompt = numbers(&case["prompt"]);
    let answers: Vec<AnswerTokens<'_>> = [(&chosen, &ref_chosen, 0), (&rejected, &ref_rejected, 1)]
        .into_iter()
        .flat_map(|(policy, reference, side)| {
            let (alignment, prompt) = (&alignment, &prompt);
            policy.iter().zip(reference).enumerate().map(move |(at, (policy, reference))| AnswerTokens {
                policy,
                reference,
                prompt,
                alignment: alignment[at][side],
            })
        })
        .collect();
    let count = chosen.len();
    let pair = |at| Pair { chosen: at, rejected: count + at, bound, weight: 1.0 };
    let pairs: Vec<Pair> = (0..count).map(pair).collect();
    let tokens: usize = chosen.iter().map(Vec::len).sum();
    let learned = [tokens as f64, (tokens + count * prompt.len()) as f64];
    let found = config.evaluate(&answers, &pairs, 1.0 / count as f64, learned);
    // TRL computes the alpha-divergence, the smoothing of exo_pair and the odds of orpo only in float32.
    let tolerance = match (case["options"]["f_divergence_type"].as_str(), case["losses"][0].as_str()) {
        (Some("alpha_divergence"), _) => 2e-6,
        (_, Some("exo_pair" | "orpo")) => 1e-6,
        _ => 1e-11,
    };
    check("loss", found.total, case["loss"].as_f64().unwrap_or(f64::NAN), tolerance)?;
    let expected = rows(&case["gradient"]);
    ensure!(expected.len() == found.gradient.len(), "{} gradients", expected.len());
    for (at, (got, want)) in found.gradient.iter().zip(&expected).enumerate() {
        ensure!(got.len() == want.len(), "answer {at} has {} gradients", got.len());
        for (got, want) in got.iter().zip(want) {
            check(&format!("gradient of answer {at}"), *got, *want, tolerance)?;
        }
    }
    for (got, want) in found.prompt_gradient.iter().zip(rows(&case["prompt_gradient"])) {
        for (got, want) in got.iter().zip(want) {
            check("gradient of the prompt", *got, want, tolerance)?;
        }
    }
    let mean = |of: &dyn Fn(&pcrm_rl::loss::preference::PairFigures) -> f64| {
        found.judged.iter().map(of).sum::<f64>() / count as f64
    };
    for (name, got) in [
        ("rewards/chosen", mean(&|of| of.rewards[0])),
        ("rewards/rejected", mean(&|of| of.rewards[1])),
        ("rewards/margins", mean(&|of| of.rewards[0] - of.rewards[1])),
        ("rewards/accuracies", mean(&|of| f64::from(u8::from(of.rewards[0] > of.rewards[1])))),
        ("logps/chosen", mean(&|of| of.log_probs[0])),
        ("logps/rejected", mean(&|of| of.log_probs[1])),
    ] {
        let want = case["metrics"][name].as_f64().unwrap_or(f64::NAN);
        check(name, got, want, tolerance.max(1e-6))?;
    }
    Ok(())
}

/// Protects: every loss that TRL names, alone, weighted and with every option, has TRL's value and gradient
/// for every token; answers of one token, equal log-probabilities and log-ratios of ±1e4 give finite numbers.
#[test]
fn losses_and_gradients_are_those_of_trl() -> Result<()> {
    let golden = golden()?;
    let cases = golden["cases"].as_array().context("cases")?;
    ensure!(cases.len() >= 70, "losses.json has {} cases", cases.len());
    for loss in [
        "sigmoid",
        "cdpo",
        "hinge",
        "ipo",
        "exo_pair",
        "nca_pair",
        "robust",
        "bco_pair",
        "sppo_hard",
        "aot",
        "aot_unpaired",
        "apo_zero",
        "apo_down",
        "discopop",
        "sft",
        "sigmoid_norm",
        "simpo",
        "cpo",
        "orpo",
    ] {
        loss.parse::<PreferenceLoss>()?;
        let has =
            |case: &Value| case["losses"].as_array().is_some_and(|losses| losses.contains(&json!(loss)));
        ensure!(cases.iter().any(has), "{loss} has no golden value");
    }
    cases
        .iter()
        .try_for_each(|case| check_case(&golden["batches"], case).with_context(|| case["name"].to_string()))
}

/// Protects: KTO's loss, gradient, clamped reference point and mean over both kinds of answers are TRL's.
#[test]
fn losses_of_labelled_answers_are_those_of_trl() -> Result<()> {
    let golden = golden()?;
    for case in golden["labelled"].as_array().context("labelled")? {
        let mut options = serde_json::Map::new();
        options.insert("kto-loss".into(), case["loss_type"].clone());
        for (name, value) in case["options"].as_object().into_iter().flatten() {
            options.insert(name.replace('_', "-"), value.clone());
        }
        let config: KtoConfig = serde_json::from_value(options.into())?;
        let kl = config.reference_point(&numbers(&case["mismatched"]));
        if case["loss_type"] == "kto" {
            check("kl", kl, case["kl"].as_f64().unwrap_or(f64::NAN), 1e-6)?;
        }
        let ratios = numbers(&case["log_ratios"]);
        let labels = case["labels"].as_array().context("labels")?;
        let found: Vec<_> = ratios
            .iter()
            .zip(labels)
            .map(|(ratio, label)| config.answer(*ratio, *label == true, kl))
            .collect();
        let share = 1.0 / found.len() as f64;
        let name = case["name"].to_string();
        let total: f64 = found.iter().map(|of| share * of.value).sum();
        check(&name, total, case["loss"].as_f64().unwrap_or(f64::NAN), 1e-11)?;
        for (of, want) in found.iter().zip(numbers(&case["gradient"])) {
            check(&name, share * of.slope, want, 1e-11)?;
        }
    }
    Ok(())
}
