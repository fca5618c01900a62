//! Evaluation on held-out prompts: rewards of answers with the same draws every time.

use super::rollout::{Draws, Prompts, Roller};
use crate::error::Result;
use crate::metrics::{Completion, Metrics};
use crate::rollout::Sampling;
use crate::rollout::source::RolloutSource;

/// Answers every prompt once and returns the metrics, including `reward` and `loss` = −reward.
pub(super) fn evaluate(
    roller: &mut Roller<'_>,
    source: &mut dyn RolloutSource,
    prompts: &Prompts,
    sampling: Sampling,
    step: u64,
) -> Result<Metrics> {
    let items: Vec<usize> = (0..prompts.numbered.len()).collect();
    let samples =
        roller.sample(source, prompts, &items, Draws { samples: 1, sampling, version: step, pass: 0 })?;
    let scored = roller.score(prompts, &items, &samples, step)?;
    let mut metrics = Metrics::default();
    for source in &scored.rewards.sources {
        for reward in source.rewards.iter().flatten() {
            metrics.mean(format!("rewards/{}/mean", source.name), f64::from(*reward), 1.0);
        }
    }
    let totals: Vec<f64> = scored.rewards.total.iter().flatten().map(|total| f64::from(*total)).collect();
    for total in &totals {
        metrics.mean("reward", *total, 1.0);
        metrics.mean("loss", -total, 1.0);
    }
    let answers = samples.iter().flatten().zip(&scored.rewards.total);
    let completions: Vec<Completion> = answers
        .map(|(sample, reward)| Completion {
            tokens: sample.ids.len(),
            ended: sample.finish.is_ended(),
            reward: reward.map(f64::from),
        })
        .collect();
    metrics.completions(&completions);
    if let Some(reference) = roller.reference {
        let tokens: Vec<f64> = samples.iter().flatten().map(|sample| sample.ids.len() as f64).collect();
        for (kl, tokens) in roller.divergences(prompts, &items, samples, reference)?.into_iter().zip(tokens) {
            metrics.mean("kl", kl / tokens.max(1.0), tokens);
            metrics.mean("objective/kl", kl, 1.0);
        }
    }
    Ok(metrics)
}
