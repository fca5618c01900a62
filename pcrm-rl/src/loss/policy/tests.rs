//! Whole policy losses: gradients by finite differences, additivity of parts, and edge cases.

use super::*;
use crate::metrics::Metrics;

/// The numbers of an answer, mutable for finite differences.
#[derive(Debug, Clone)]
struct Numbers {
    log_probs: Vec<f64>,
    old: Vec<f64>,
    reference: Vec<f64>,
    entropy: Vec<f64>,
    sampling: Vec<f64>,
    advantages: Vec<f64>,
    truncated: bool,
}

fn numbers(log_probs: &[f64], ratios: &[f64], apart: &[f64], advantage: f64) -> Numbers {
    let less = |by: &[f64]| log_probs.iter().zip(by).map(|(number, by)| number - by).collect::<Vec<f64>>();
    let entropy = log_probs.iter().map(|number| 0.5 + 0.3 * number.abs()).collect();
    Numbers {
        old: less(ratios),
        reference: less(apart),
        sampling: less(&ratios.iter().map(|ratio| ratio + 0.1).collect::<Vec<f64>>()),
        entropy,
        advantages: (0..log_probs.len()).map(|at| advantage - 0.2 * at as f64).collect(),
        log_probs: log_probs.to_vec(),
        truncated: false,
    }
}

/// Returns answers with ratios inside and outside of clips, of one token and of none, with advantages of both
/// signs.
fn step() -> Vec<Numbers> {
    vec![
        numbers(&[-0.7, -1.9, -0.2], &[0.05, 0.45, -0.35], &[0.3, -0.4, 0.1], 1.2),
        numbers(&[-2.4], &[0.15], &[0.6], -0.8),
        numbers(&[-0.9, -0.4, -1.1, -3.0], &[-0.5, 0.1, 0.55, -0.08], &[-0.2, 0.0, 0.9, 0.3], -0.5),
        numbers(&[], &[], &[], 1.0),
        Numbers { truncated: true, ..numbers(&[-1.3, -0.6], &[0.02, -0.06], &[0.4, 0.2], 0.6) },
    ]
}

fn row(of: &Numbers, by_token: bool) -> AnswerRow<'_> {
    AnswerRow {
        log_probs: &of.log_probs,
        old_log_probs: Some(&of.old),
        reference: Some(&of.reference),
        entropy: Some(&of.entropy),
        sampling: Some(&of.sampling),
        advantage: match by_token {
            true => Advantage::OfTokens(&of.advantages),
            false => Advantage::OfRow(of.advantages.first().copied().unwrap_or(1.0)),
        },
        truncated: of.truncated,
        unscored: false,
    }
}

fn rows(of: &[Numbers], by_token: bool) -> Vec<AnswerRow<'_>> {
    of.iter().map(|of| row(of, by_token)).collect()
}

/// Returns every loss with options that reach every branch.
fn losses() -> Vec<(String, PolicyLoss)> {
    let mut all = Vec::new();
    let names = ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"];
    for name in names {
        let loss_type: GrpoLoss = name.parse().unwrap();
        let usual = || GrpoConfig { loss_type, ..GrpoConfig::default() };
        let sequence = ImportanceLevel::Sequence;
        let corrected = |mode| GrpoConfig { rollout_correction: Some(Correction::of(mode)), ..usual() };
        let configs = [
            usual(),
            GrpoConfig { importance_sampling_level: sequence, beta: 0.3, ..usual() },
            GrpoConfig { beta: 0.3, use_bias_correction_kl: false, epsilon_high: Some(0.28), ..usual() },
            GrpoConfig { beta: 0.3, kl_estimator: KlEstimator::K2, delta: Some(1.5), ..usual() },
            GrpoConfig { beta: 0.3, mask_truncated_completions: true, ..usual() },
            GrpoConfig { top_entropy_quantile: 0.6, ..usual() },
            GrpoConfig { off_policy_mask_threshold: Some(0.01), ..usual() },
            corrected(CorrectionMode::TokenTruncate),
            corrected(CorrectionMode::TokenMask),
            GrpoConfig {
                entropy: EntropyControl { entropy_coef: 0.02, ..EntropyControl::default() },
                top_entropy_quantile: 0.6,
                ..usual()
            },
        ];
        all.extend(configs.into_iter().enumerate().map(|(at, of)| (format!("{name} {at}"), of.loss(16))));
    }
    all.push(("rloo".into(), RlooConfig::default().loss()));
    let ppo = PpoConfig {
        dual_clip: Some(1.2),
        kl_in: KlPlace::Loss,
        kl_estimator: KlEstimator::K3,
        ..PpoConfig::default()
    };
    all.push(("ppo".into(), ppo.loss()));
    all
}

fn evaluate(loss: &PolicyLoss, of: &[Numbers], by_token: bool, totals: &Totals) -> LossPart {
    loss.evaluate(&rows(of, by_token), totals, &mut Metrics::default()).unwrap()
}

/// Returns true for `cispo` and `vespo`, whose weights carry no gradient: differences move the sampling
/// policy along, so that ratios stay fixed. A KL penalty's ratio does carry a gradient, so this checks only a
/// part; golden values cover the whole.
fn is_detached(name: &str) -> bool {
    name.starts_with("cispo") || name.starts_with("vespo")
}

/// Protects: the gradient of every loss, with every option, by every log-probability and entropy, by
/// differences.
#[test]
fn gradients_are_differences() {
    const BY: f64 = 1e-6;
    for (name, loss) in losses() {
        for by_token in [false, true] {
            let start = step();
            let totals = loss.totals(&rows(&start, by_token)).unwrap();
            let found = evaluate(&loss, &start, by_token, &totals);
            for (row, numbers) in start.iter().enumerate() {
                for token in 0..numbers.log_probs.len() {
                    let moved = |by: f64| {
                        let mut of = start.clone();
                        of[row].log_probs[token] += by;
                        if is_detached(&name) {
                            of[row].old[token] += by;
                            of[row].sampling[token] += by;
                        }
                        evaluate(&loss, &of, by_token, &totals).total
                    };
                    let slope = (moved(BY) - moved(-BY)) / (2.0 * BY);
                    let got = found.d_log_probs[row][token];
                    assert!(
                        (is_detached(&name) && loss.needs_reference()) || (slope - got).abs() < 1e-7,
                        "{name}, answer {row}, token {token}: {got}, by differences {slope}"
                    );
                    if loss.entropy_coefficient != 0.0 {
                        let moved = |by: f64| {
                            let mut of = start.clone();
                            of[row].entropy[token] += by;
                            evaluate(&loss, &of, by_token, &totals).total
                        };
                        let slope = (moved(BY) - moved(-BY)) / (2.0 * BY);
                        let got = found.d_entropy[row][token];
                        // The entropy at the threshold decides whether its token counts.
                        let at_threshold = totals.threshold == Some(start[row].entropy[token]);
                        assert!(at_threshold || (slope - got).abs() < 1e-7, "{name}: {got}, not {slope}");
                    }
                }
            }
        }
    }
}

/// Protects: a step split into micro-batches in any way has the loss, gradients and metrics of the whole
/// step.
#[test]
fn micro_batches_add_up() {
    for (name, loss) in losses() {
        let step = step();
        let all = rows(&step, false);
        let totals = loss.totals(&all).unwrap().of_rollout(25.0, 2.0);
        let mut whole_metrics = Metrics::default();
        let whole = loss.evaluate(&all, &totals, &mut whole_metrics).unwrap();
        for cut in [1, 2, 3] {
            let mut metrics = Metrics::default();
            let parts: Vec<LossPart> =
                all.chunks(cut).map(|part| loss.evaluate(part, &totals, &mut metrics).unwrap()).collect();
            let total: f64 = parts.iter().map(|part| part.total).sum();
            assert!((total - whole.total).abs() < 1e-12, "{name}: {total} of parts, {} at once", whole.total);
            let of_parts = |of: fn(LossPart) -> Vec<Vec<f64>>| {
                parts.clone().into_iter().flat_map(of).collect::<Vec<_>>()
            };
            assert_eq!(of_parts(|part| part.d_log_probs), whole.d_log_probs, "{name}");
            assert_eq!(of_parts(|part| part.d_entropy), whole.d_entropy, "{name}");
            let (parts, whole) = (metrics.summary(), whole_metrics.summary());
            for (metric, value) in whole.iter() {
                let part = parts.get(metric).unwrap_or(f64::NAN);
                assert!((part - value).abs() < 1e-12, "{name}, {metric}: {part} of parts, {value} at once");
            }
        }
    }
}

/// Protects: the coefficient of the entropy bonus follows the entropy of the tokens that the loss is over, as in
/// TRL, not that of all.
#[test]
fn the_entropy_of_chosen_tokens_steers() {
    let step = step();
    let all = rows(&step, false);
    let measured = |share: f64| {
        let loss = GrpoConfig { top_entropy_quantile: share, ..GrpoConfig::default() }.loss(16);
        let (totals, mut metrics) = (loss.totals(&all).unwrap(), Metrics::default());
        loss.evaluate(&all, &totals, &mut metrics).unwrap();
        (loss_entropy(&metrics.summary()).unwrap(), totals)
    };
    let entropies = || all.iter().flat_map(|row| row.entropy.unwrap()).copied();
    let mean = |least: f64| {
        let chosen: Vec<f64> = entropies().filter(|entropy| *entropy >= least).collect();
        chosen.iter().sum::<f64>() / chosen.len() as f64
    };
    assert!((measured(1.0).0 - mean(0.0)).abs() < 1e-12);
    let (found, totals) = measured(0.4);
    assert!((found - mean(totals.threshold.unwrap())).abs() < 1e-12 && found > mean(0.0), "{found}");
}

/// Protects: log-ratios of ±1e4, equal log-probabilities and steps without tokens give finite numbers; ratios
/// are exactly 1 if the policy has not moved, and clamps are counted.
#[test]
fn answers_at_the_edges_stay_finite() {
    let far = |log_probs: f64, other: f64, advantage: f64| Numbers {
        old: vec![other],
        reference: vec![other],
        sampling: vec![other],
        ..numbers(&[log_probs], &[0.0], &[0.0], advantage)
    };
    let extreme = [far(-0.5, -1e4, 1.0), far(-1e4, -0.5, 1.0), far(-0.5, -1e4, -1.0), far(-1e4, -0.5, -1.0)];
    for (name, loss) in losses() {
        let all = rows(&extreme, false);
        let mut metrics = Metrics::default();
        let found = loss.evaluate(&all, &loss.totals(&all).unwrap(), &mut metrics).unwrap();
        assert!(found.total.is_finite(), "{name}: {found:?}");
        assert!(found.d_log_probs.concat().iter().all(|slope| slope.is_finite()), "{name}: {found:?}");
        assert_eq!(metrics.summary().get("clamps/log_ratio"), Some(2.0), "{name}");
        let none = loss.evaluate(&[], &loss.totals(&[]).unwrap(), &mut metrics).unwrap();
        assert_eq!((none.total, none.d_log_probs.len()), (0.0, 0));
        let empty = [numbers(&[], &[], &[], 1.0)];
        let empty = rows(&empty, false);
        let nothing = loss.evaluate(&empty, &loss.totals(&empty).unwrap(), &mut metrics).unwrap();
        assert_eq!((nothing.total, nothing.d_log_probs), (0.0, vec![Vec::new()]), "{name}");
    }
    let still =
        [AnswerRow { log_probs: &[-0.3, -7.1], advantage: Advantage::OfRow(2.0), ..AnswerRow::default() }];
    let loss = PpoConfig::default().loss();
    let mut metrics = Metrics::default();
    let found = loss.evaluate(&still, &loss.totals(&still).unwrap(), &mut metrics).unwrap();
    assert_eq!((found.total, metrics.summary().get("val/ratio")), (-2.0, Some(1.0)));
    assert_eq!(found.d_log_probs, [vec![-1.0; 2]]);
}

/// Protects: the mean gradient of ρ-corrected k3 and of k2, over the policy's own samples, is the gradient of
/// the KL divergence; that of k1 is 0, which is why k1 is refused.
#[test]
fn the_gradient_of_the_penalty_is_that_of_the_divergence() {
    let logits = [0.3_f64, -0.9, 1.1];
    let reference = [0.5_f64, 0.2, 0.3].map(f64::ln);
    let log_probs = |logits: &[f64; 3]| {
        let all = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        logits.map(|logit| logit - all)
    };
    let divergence = |logits: &[f64; 3]| {
        log_probs(logits).iter().zip(&reference).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
    };
    let now = log_probs(&logits);
    for (kl_estimator, unbiased) in
        [(KlEstimator::K1, false), (KlEstimator::K2, true), (KlEstimator::K3, true)]
    {
        let config = PpoConfig {
            kl_in: KlPlace::Loss,
            kl_estimator,
            kl: crate::advantage::KlControl { kl_coef: 1.0, ..Default::default() },
            ..PpoConfig::default()
        };
        assert_eq!(config.check().is_ok(), unbiased);
        let loss = config.loss();
        for place in 0..3 {
            // Σ over samples of π(sample)·(d penalty / d ln π)·(d ln π / d logit).
            let mean: f64 = (0..3)
                .map(|sample| {
                    let row = AnswerRow {
                        log_probs: &now[sample..=sample],
                        reference: Some(&reference[sample..=sample]),
                        ..AnswerRow::default()
                    };
                    let totals = loss.totals(&[row]).unwrap();
                    let found = loss.evaluate(&[row], &totals, &mut Metrics::default()).unwrap();
                    let own = f64::from(u8::from(sample == place));
                    now[sample].exp() * found.d_log_probs[0][0] * (own - now[place].exp())
                })
                .sum();
            let moved = |by: f64| {
                let mut logits = logits;
                logits[place] += by;
                divergence(&logits)
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let expected = if unbiased { slope } else { 0.0 };
            assert!((mean - expected).abs() < 1e-9, "{kl_estimator}: {mean}, expected {expected}");
        }
    }
}

fn said(result: crate::Result<()>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

/// Protects: numbers out of range, options without effect and invalid combinations are refused, naming the
/// option.
#[test]
fn undefined_losses_are_refused() {
    let usual = GrpoConfig::default;
    let vespo = || GrpoConfig { loss_type: GrpoLoss::Vespo, ..usual() };
    for (config, expected) in [
        (GrpoConfig { beta: -1.0, ..usual() }, "beta: -1: "),
        (GrpoConfig { kl_estimator: KlEstimator::K1, ..usual() }, "kl-estimator: k1: in a loss"),
        (GrpoConfig { epsilon: 1.0, ..usual() }, "epsilon: 1: "),
        (GrpoConfig { epsilon_high: Some(0.0), ..usual() }, "epsilon-high: 0: "),
        (GrpoConfig { delta: Some(0.9), ..usual() }, "delta: 0.9: "),
        (GrpoConfig { delta: Some(3.0), ..vespo() }, "delta: 3: has no effect on vespo"),
        (GrpoConfig { top_entropy_quantile: 0.0, ..usual() }, "top-entropy-quantile: 0: "),
        (
            GrpoConfig { off_policy_mask_threshold: Some(-0.5), ..usual() },
            "off-policy-mask-threshold: -0.5: ",
        ),
        (GrpoConfig { sapo_temperature_pos: f64::NAN, ..usual() }, "sapo-temperature-pos: NaN: "),
        (
            GrpoConfig { sapo_temperature_neg: 2.0, ..vespo() },
            "sapo-temperature-neg: 2: has no effect on vespo",
        ),
        (GrpoConfig { vespo_k_pos: 1.0, ..usual() }, "vespo-k-pos: 1: has no effect on dapo"),
        (
            GrpoConfig { importance_sampling_level: ImportanceLevel::Sequence, ..vespo() },
            "importance-sampling-level: sequence: vespo",
        ),
        (
            GrpoConfig { rollout_correction: Some(Correction::of(CorrectionMode::SequenceMask)), ..vespo() },
            "importance-sampling-mode: vespo",
        ),
    ] {
        let message = said(config.check());
        assert!(message.starts_with(expected), "{message:?}, not {expected:?}");
    }
    let ppo = PpoConfig::default;
    for (config, expected) in [
        (PpoConfig { kl_estimator: KlEstimator::K2, ..ppo() }, "kl-estimator: k2: "),
        (PpoConfig { kl_in: KlPlace::Loss, ..ppo() }, "kl-estimator: k1: "),
        (PpoConfig { dual_clip: Some(1.0), ..ppo() }, "dual-clip: 1: "),
        (PpoConfig { lam: 1.1, ..ppo() }, "lam: 1.1: "),
        (PpoConfig { cliprange: 0.0, ..ppo() }, "cliprange: 0: "),
    ] {
        let message = said(config.check());
        assert!(message.starts_with(expected), "{message:?}, not {expected:?}");
    }
    let fine = [said(usual().check()), said(ppo().check()), said(RlooConfig::default().check())];
    assert_eq!(fine.concat(), "");
    let gspo = GrpoConfig { importance_sampling_level: ImportanceLevel::Sequence, ..usual() };
    assert!(gspo.warnings()[0].contains("weighs an answer by its length"));
}

/// Protects: configs deserialise from the flat options of a command line, unknown options are refused, and a
/// serialised config deserialises again.
#[test]
fn configs_are_flat_and_closed() {
    let text = r#"{"loss-type": "dr_grpo", "entropy-coef": 0.01, "scale-rewards": "none"}"#;
    let config: GrpoConfig = serde_json::from_str(text).unwrap();
    assert_eq!((config.entropy.entropy_coef, config.loss_type), (0.01, GrpoLoss::DrGrpo));
    let again: GrpoConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    assert!(serde_json::from_str::<GrpoConfig>(r#"{"entropy-coeff": 0.01}"#).is_err());
    let ppo: PpoConfig = serde_json::from_str(r#"{"kl-coef": 0.1, "reward-clip-range": [-5, 5]}"#).unwrap();
    assert_eq!((ppo.kl.kl_coef, ppo.shaping.reward_clip_range), (0.1, Some([-5.0, 5.0])));
    assert!(serde_json::from_str::<PpoConfig>(r#"{"klcoef": 0.1}"#).is_err());
    let rloo: RlooConfig = serde_json::from_str(r#"{"missing-eos-penalty": 1.0}"#).unwrap();
    assert_eq!(rloo.shaping.missing_eos_penalty, Some(1.0));
    assert!(serde_json::from_str::<RlooConfig>(r#"{"gamma": 0.1}"#).is_err());
}
