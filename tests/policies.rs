//! Losses and advantages of policies against TRL's own code: values, gradients and metrics.
//!
//! `golden/policy` has the numbers and the script that made them.

use std::fs;

use anyhow::{Context, Result, ensure};
use pcrm_rl::advantage::{Advantages, Episode, Rewards, ScoreShaping, TiedSamples, best_and_worst};
use pcrm_rl::loss::policy::{
    Advantage, AnswerRow, Correction, EntropyControl, GrpoConfig, LossPart, PolicyLoss, PpoConfig,
    RlooConfig, Sampled, Totals, ValueRow,
};
use pcrm_rl::loss::preference::{AnswerTokens, Pair, PreferenceConfig, PreferenceLoss};
use pcrm_rl::metrics::{Completion, Metrics, ScoredAnswer, Summary};
use serde_json::{Map, Value, json};

use crate::support::beside;

/// TRL computed these numbers in float64, and so does this code.
const TOLERANCE: f64 = 1e-11;

/// TRL averages the flags of clipped tokens in float32.
const OF_METRICS: f64 = 1e-6;

fn golden() -> Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(beside("golden/policy/losses.json"))?)?)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).map(|number| number.as_f64().unwrap_or(f64::NAN)).collect()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    list(value).map(numbers).collect()
}

/// Fails unless the numbers agree; where TRL has no finite number, any finite one passes.
fn check(what: &str, got: f64, want: f64) -> Result<()> {
    check_within(what, got, want, TOLERANCE)
}

fn check_within(what: &str, got: f64, want: f64, tolerance: f64) -> Result<()> {
    ensure!(got.is_finite(), "{what}: found {got}, expected a finite number");
    ensure!(
        want.is_nan() || (got - want).abs() <= tolerance * (1.0 + want.abs()),
        "{what}: {got}, expected {want}"
    );
    Ok(())
}

fn check_number(what: &str, got: f64, want: &Value) -> Result<()> {
    check(what, got, want.as_f64().unwrap_or(f64::NAN))
}

fn check_rows(what: &str, got: &[Vec<f64>], want: &Value) -> Result<()> {
    let want = rows(want);
    ensure!(got.len() == want.len(), "{what}: found {} rows, expected {}", got.len(), want.len());
    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
        ensure!(got.len() == want.len(), "{what} of answer {at} has {} numbers", got.len());
        for (token, (got, want)) in got.iter().zip(want).enumerate() {
            check(&format!("{what} of answer {at}, token {token}"), *got, *want)?;
        }
    }
    Ok(())
}

/// Fails unless every metric of TRL is recorded with its value. With `masked` answers, TRL counts them in the
/// mean of φ as 1, and this code leaves them out.
fn check_metrics(got: &Summary, want: &Value, masked: bool) -> Result<()> {
    for (name, want) in want.as_object().into_iter().flatten() {
        if want.is_null() || (masked && name == "vespo/phi_seq_mean") {
            continue;
        }
        let got = got.get(name).with_context(|| format!("{name} is not recorded"))?;
        check_within(name, got, want.as_f64().unwrap_or(f64::NAN), OF_METRICS)?;
    }
    Ok(())
}

/// Returns the options of a case under the names of our configs, without those that no config has.
fn options(case: &Value) -> Map<String, Value> {
    let mut options = Map::new();
    let mut correction = Map::new();
    for (name, value) in case["options"].as_object().into_iter().flatten() {
        let option = name.replace('_', "-");
        match name.as_str() {
            "old" | "rollout_tokens" => {}
            name if name.starts_with("importance_sampling_") && name != "importance_sampling_level" => {
                correction.insert(option, value.clone());
            }
            _ => {
                options.insert(option, value.clone());
            }
        }
    }
    if !correction.is_empty() {
        options.insert("rollout-correction".into(), correction.into());
    }
    options
}

/// The columns of a batch.
struct Batch {
    log_probs: Vec<Vec<f64>>,
    old: Vec<Vec<f64>>,
    reference: Vec<Vec<f64>>,
    sampling: Vec<Vec<f64>>,
    entropy: Vec<Vec<f64>>,
    advantages: Vec<f64>,
    truncated: Vec<bool>,
}

impl Batch {
    fn of(value: &Value) -> Self {
        let [log_probs, old, reference, sampling, entropy] =
            ["log_probs", "old", "reference", "sampling", "entropy"].map(|name| rows(&value[name]));
        let truncated = list(&value["truncated"]).map(|truncated| *truncated == true).collect();
        Self {
            log_probs,
            old,
            reference,
            sampling,
            entropy,
            advantages: numbers(&value["advantages"]),
            truncated,
        }
    }

    fn rows(&self, old: bool, sampling: bool) -> Vec<AnswerRow<'_>> {
        let row = |at: usize| AnswerRow {
            log_probs: &self.log_probs[at],
            old_log_probs: old.then(|| &self.old[at][..]),
            reference: Some(&self.reference[at]),
            entropy: Some(&self.entropy[at]),
            sampling: sampling.then(|| &self.sampling[at][..]),
            advantage: Advantage::OfRow(self.advantages[at]),
            truncated: self.truncated[at],
            unscored: false,
        };
        (0..self.log_probs.len()).map(row).collect()
    }
}

fn check_case(golden: &Value, case: &Value) -> Result<()> {
    let batch = Batch::of(&golden["batches"][case["batch"].as_str().context("batch")?]);
    let grpo = case["trainer"] == "grpo";
    let (loss, correction): (PolicyLoss, Option<Correction>) = match grpo {
        true => {
            let config: GrpoConfig = serde_json::from_value(options(case).into())?;
            config.check()?;
            let longest = golden["longest"].as_u64().context("longest")?;
            (config.loss(usize::try_from(longest)?), config.rollout_correction)
        }
        false => {
            let config: RlooConfig = serde_json::from_value(options(case).into())?;
            config.check()?;
            (config.loss(), None)
        }
    };
    let rows = batch.rows(case["options"]["old"] != false, correction.is_some());
    let mut totals = loss.totals(&rows)?;
    if let [tokens, steps] = numbers(&case["options"]["rollout_tokens"])[..] {
        totals = totals.of_rollout(tokens, steps);
    }
    let mut metrics = Metrics::default();
    let found = loss.evaluate(&rows, &totals, &mut metrics)?;
    check_number("loss", found.total, &case["loss"])?;
    check_rows("gradient", &found.d_log_probs, &case["gradient"])?;
    if !case["entropy_gradient"].is_null() {
        check_rows("gradient by entropy", &found.d_entropy, &case["entropy_gradient"])?;
    }
    let masked = case["options"]["mask_truncated_completions"] == true;
    check_metrics(&metrics.summary(), &case["metrics"], masked)?;
    if let Some(correction) = correction {
        let weights = |at: usize| correction.weights(&batch.old[at], &batch.sampling[at]);
        let weights: Vec<Vec<f64>> = (0..batch.old.len()).map(weights).collect();
        check_rows("weight", &weights, &case["weights"])?;
    }
    check_parts(&loss, &rows, &totals, &found)
}

/// Fails unless the parts of a step, one answer each, add up to the whole step.
fn check_parts(loss: &PolicyLoss, rows: &[AnswerRow<'_>], totals: &Totals, whole: &LossPart) -> Result<()> {
    let mut sum = 0.0;
    for (at, row) in rows.iter().enumerate() {
        let part = loss.evaluate(std::slice::from_ref(row), totals, &mut Metrics::default())?;
        ensure!(
            part.d_log_probs[0] == whole.d_log_probs[at],
            "answer {at} has a different gradient by itself"
        );
        sum += part.total;
    }
    check("loss of parts", sum, whole.total)
}

/// Protects: every loss of GRPO and RLOO with every option has TRL's value, metrics and gradient for every
/// token; answers of one token, equal log-probabilities and log-ratios of ±1e4 give finite numbers.
#[test]
fn policy_losses_and_gradients_are_those_of_trl() -> Result<()> {
    let golden = golden()?;
    let cases = golden["cases"].as_array().context("cases")?;
    ensure!(cases.len() >= 86, "losses.json has {} cases", cases.len());
    for loss in ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"] {
        ensure!(cases.iter().any(|case| case["options"]["loss_type"] == loss), "{loss} has no golden value");
    }
    cases.iter().try_for_each(|case| check_case(&golden, case).with_context(|| case["name"].to_string()))
}

fn rewards(golden: &Value, name: &str) -> Result<Rewards> {
    let rows: Vec<Vec<Option<f64>>> =
        list(&golden["rewards"][name]).map(|row| list(row).map(Value::as_f64).collect()).collect();
    let functions = rows[0].len();
    let weights = &golden["weights"][name];
    let weights = if weights.is_null() { vec![1.0; functions] } else { numbers(weights) };
    Ok(Rewards::new((0..functions).map(|at| format!("f{at}")).collect(), weights, rows)?)
}

fn check_advantages(golden: &Value, case: &Value) -> Result<()> {
    let rewards = rewards(golden, case["rewards"].as_str().context("rewards")?)?;
    let mut metrics = Metrics::default();
    let mut options = options(case);
    let found: Advantages = match case["trainer"] == "grpo" {
        true => {
            let config: GrpoConfig = serde_json::from_value(options.into())?;
            let found = config.advantages.of(&rewards, 4)?;
            rewards.record(&mut metrics);
            found.record(&mut metrics);
            found
        }
        false => {
            options.entry("beta").or_insert_with(|| json!(0.0));
            let config: RlooConfig = serde_json::from_value(options.into())?;
            config.check()?;
            let [log_probs, reference] =
                ["log_probs", "reference"].map(|name| self::rows(&golden["rloo_answers"][name]));
            let answer = |at: usize| match config.beta == 0.0 {
                true => Sampled { ended: true, ..Sampled::default() },
                false => Sampled { log_probs: &log_probs[at], reference: &reference[at], ended: true },
            };
            let answers: Vec<Sampled<'_>> = (0..rewards.len()).map(answer).collect();
            config.advantages(&rewards, &answers, 4, &mut metrics)?
        }
    };
    check_rows("advantage", std::slice::from_ref(&found.values), &json!([case["advantages"]]))?;
    check_metrics(&metrics.summary(), &case["metrics"], false)
}

/// Protects: the advantages of GRPO and RLOO are TRL's, with several functions, missing rewards and groups
/// without signal, and so are the figures of the rewards.
#[test]
fn advantages_are_those_of_trl() -> Result<()> {
    let golden = golden()?;
    let cases = golden["advantages"].as_array().context("advantages")?;
    ensure!(cases.len() >= 25, "losses.json has {} cases of advantages", cases.len());
    cases
        .iter()
        .try_for_each(|case| check_advantages(&golden, case).with_context(|| case["name"].to_string()))
}

fn check_ppo(answers: &Value, case: &Value) -> Result<()> {
    let config: PpoConfig = serde_json::from_value(options(case).into())?;
    config.check()?;
    let [log_probs, reference, values, new_log_probs, new_values] =
        ["log_probs", "reference", "values", "new_log_probs", "new_values"].map(|name| rows(&answers[name]));
    let scores = numbers(&answers["scores"]);
    let episode = |at: usize| Episode {
        log_probs: &log_probs[at],
        reference: &reference[at],
        values: &values[at],
        score: scores[at],
        ended: answers["ended"][at] == true,
    };
    let episodes: Vec<Episode<'_>> = (0..scores.len()).map(episode).collect();
    let mut metrics = Metrics::default();
    let found = config.returns(&episodes, config.kl.kl_coef, &mut metrics)?;
    check_number("kl", found.kl, &case["kl"])?;
    check_rows("advantage", &found.advantages, &case["advantages"])?;
    check_rows("return", &found.returns, &case["returns"])?;
    let row = |at: usize| AnswerRow {
        log_probs: &new_log_probs[at],
        old_log_probs: Some(&log_probs[at]),
        advantage: Advantage::OfTokens(&found.advantages[at]),
        ..AnswerRow::default()
    };
    let rows: Vec<AnswerRow<'_>> = (0..scores.len()).map(row).collect();
    let value_row = |at: usize| ValueRow {
        values: &new_values[at],
        old_values: &values[at],
        returns: &found.returns[at],
    };
    let value_rows: Vec<ValueRow<'_>> = (0..scores.len()).map(value_row).collect();
    let totals = config.loss().totals(&rows)?;
    let policy = config.loss().evaluate(&rows, &totals, &mut metrics)?;
    let value = config.value_loss().evaluate(&value_rows, totals.tokens, &mut metrics)?;
    check_number("loss", policy.total + value.total, &case["loss"])?;
    check_rows("gradient", &policy.d_log_probs, &case["gradient"])?;
    check_rows("gradient by value", &value.d_values, &case["value_gradient"])?;
    let summary = metrics.summary();
    for (name, of_case) in [
        ("loss/policy_avg", "policy_loss"),
        ("loss/value_avg", "value_loss"),
        ("policy/clipfrac_avg", "policy_clipfrac"),
        ("val/clipfrac_avg", "value_clipfrac"),
        ("objective/kl", "kl"),
    ] {
        let want = case[of_case].as_f64().unwrap_or(f64::NAN);
        check_within(name, summary.get(name).context("not recorded")?, want, OF_METRICS)?;
    }
    let scores = summary.get("objective/scores").context("objective/scores")?;
    let kl = summary.get("objective/kl").context("objective/kl")?;
    check(
        "rlhf_reward",
        summary.get("objective/rlhf_reward").unwrap_or(f64::NAN),
        scores - config.kl.kl_coef * kl,
    )
}

/// Protects: PPO's rewards, whitening, advantages, returns, both losses and their gradients match TRL 1.10.
#[test]
fn ppo_is_that_of_trl() -> Result<()> {
    let golden = golden()?;
    let cases = golden["ppo"].as_array().context("ppo")?;
    ensure!(cases.len() >= 4, "losses.json has {} cases of PPO", cases.len());
    cases.iter().try_for_each(|case| {
        check_ppo(&golden["ppo_answers"], case).with_context(|| case["name"].to_string())
    })
}

/// Protects: the pairs of online DPO are TRL's, also for equal rewards.
#[test]
fn pairs_of_samples_are_those_of_trl() -> Result<()> {
    let golden = golden()?;
    let rewards: Vec<Option<f64>> = list(&golden["pairs"]["rewards"]).map(Value::as_f64).collect();
    let found = best_and_worst(&rewards, 2, TiedSamples::Keep)?;
    let places = |of: fn(&Pair) -> usize| found.pairs.iter().map(of).collect::<Vec<_>>();
    ensure!(json!(places(|pair| pair.chosen)) == golden["pairs"]["chosen"]);
    ensure!(json!(places(|pair| pair.rejected)) == golden["pairs"]["rejected"]);
    ensure!(found.tied == 1 && best_and_worst(&rewards, 2, TiedSamples::Drop)?.pairs.len() == 3);
    Ok(())
}

/// Protects: the dual clip and the KL terms of PPO's loss, which TRL lacks, follow their formulas in value
/// and gradient.
#[test]
fn options_that_trl_has_not_are_their_formulas() -> Result<()> {
    let golden = golden()?;
    let batch = Batch::of(&golden["batches"]["mixed"]);
    let rows = batch.rows(true, false);
    let cases = golden["written"].as_array().context("written")?;
    ensure!(cases.len() == 3);
    for case in cases {
        let config: PpoConfig = serde_json::from_value(options(case).into())?;
        config.check()?;
        let loss = config.loss();
        let found = loss.evaluate(&rows, &loss.totals(&rows)?, &mut Metrics::default())?;
        check_number("loss", found.total, &case["loss"])?;
        check_rows("gradient", &found.d_log_probs, &case["gradient"])?;
    }
    Ok(())
}

/// Protects: the adaptive coefficient of the entropy bonus has TRL's value at every step.
#[test]
fn the_entropy_coefficient_is_that_of_trl() -> Result<()> {
    let case = &golden()?["adaptive_entropy"];
    let mut options = options(case);
    options.insert("use-adaptive-entropy".into(), true.into());
    let control: EntropyControl = serde_json::from_value(options.into())?;
    control.check()?;
    let mut state = control.start();
    let [entropies, applied, after] = ["entropies", "applied", "after"].map(|name| numbers(&case[name]));
    for (step, entropy) in entropies.iter().enumerate() {
        check("applied", control.applied(state), applied[step])?;
        state = control.next(state, *entropy);
        check("after", state.value, after[step])?;
    }
    Ok(())
}

fn check_online(answers: &Value, case: &Value) -> Result<()> {
    let [log_probs, reference] = ["log_probs", "reference"].map(|name| rows(&answers[name]));
    let ended: Vec<bool> = list(&answers["ended"]).map(|ended| *ended == true).collect();
    let beta = case["beta"].as_f64().context("beta")?;
    let shaping =
        ScoreShaping { missing_eos_penalty: case["missing_eos_penalty"].as_f64(), ..ScoreShaping::default() };
    let scores: Vec<f64> = numbers(&answers["rewards"])
        .into_iter()
        .zip(&ended)
        .map(|(score, ended)| shaping.shaped(score, *ended))
        .collect();
    let rewards: Vec<Option<f64>> = scores.iter().copied().map(Some).collect();
    let sampled = best_and_worst(&rewards, 2, TiedSamples::Keep)?;
    let loss = if case["loss_type"] == "ipo" { PreferenceLoss::IpoSum } else { PreferenceLoss::Sigmoid };
    let config = PreferenceConfig { beta, ..PreferenceConfig::of(loss) };
    config.check(true)?;
    let of = |(policy, reference)| AnswerTokens { policy, reference, ..AnswerTokens::default() };
    let answers: Vec<AnswerTokens<'_>> =
        log_probs.iter().map(|row| &row[..]).zip(reference.iter().map(|row| &row[..])).map(of).collect();
    let found = config.evaluate(&answers, &sampled.pairs, 1.0 / sampled.pairs.len() as f64, [0.0; 2]);
    check_number("loss", found.total, &case["loss"])?;
    check_rows("gradient", &found.gradient, &case["gradient"])?;
    let mut metrics = Metrics::default();
    sampled.record(&mut metrics);
    for at in 0..scores.len() {
        let surprise = -log_probs[at].iter().sum::<f64>();
        let kl = -surprise - reference[at].iter().sum::<f64>();
        let (score, ended) = (scores[at], ended[at]);
        metrics.outcome(&ScoredAnswer { score, kl, surprise, coefficient: beta, ended });
    }
    for judged in &found.judged {
        metrics.mean("logps/chosen", judged.log_probs[0], 1.0);
        metrics.mean("logps/rejected", judged.log_probs[1], 1.0);
        metrics.mean("rewards/chosen", judged.rewards[0], 1.0);
        metrics.mean("rewards/rejected", judged.rewards[1], 1.0);
        metrics.mean("rewards/margins", judged.rewards[0] - judged.rewards[1], 1.0);
        let right = f64::from(u8::from(judged.rewards[0] > judged.rewards[1]));
        metrics.mean("rewards/accuracies", right, 1.0);
    }
    metrics.mean("beta", beta, 1.0);
    check_metrics(&metrics.summary(), &case["metrics"], false)
}

/// Protects: sampled answers, their shaped scores and pairs, the loss with its gradient, and the metrics
/// match TRL's online DPO.
#[test]
fn online_dpo_is_that_of_trl() -> Result<()> {
    let golden = golden()?;
    let cases = golden["online"].as_array().context("online")?;
    ensure!(cases.len() >= 3, "losses.json has {} cases of online DPO", cases.len());
    cases.iter().try_for_each(|case| {
        check_online(&golden["online_answers"], case).with_context(|| case["name"].to_string())
    })
}

/// Protects: the figures of the lengths and endings of answers are TRL's.
#[test]
fn lengths_of_completions_are_those_of_trl() -> Result<()> {
    let case = &golden()?["completions"];
    let mut metrics = Metrics::default();
    let of = |(tokens, ended): (f64, &Value)| Completion {
        tokens: tokens as usize,
        ended: *ended == true,
        reward: None,
    };
    let answers: Vec<Completion> =
        numbers(&case["lengths"]).into_iter().zip(list(&case["ended"])).map(of).collect();
    metrics.completions(&answers);
    check_metrics(&metrics.summary(), &case["metrics"], false)
}
