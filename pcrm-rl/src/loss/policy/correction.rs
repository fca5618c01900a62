//! Off-policy correction for samples of another engine or an older policy: importance weights by token or
//! answer, and a mask of answers that drifted too far.

use serde::{Deserialize, Serialize};

use super::rows::AnswerRow;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::options::{number, refuse};

/// The use of the ratio π_old / π_sampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CorrectionMode {
    /// By token; ratios are clamped to the bounds.
    TokenTruncate,
    /// By token; tokens with ratios beyond the bounds are masked.
    TokenMask,
    /// By answer, the product over its tokens; ratios are clamped to the bounds.
    SequenceTruncate,
    /// By answer; answers with ratios beyond the bounds are masked.
    SequenceMask,
}

impl CorrectionMode {
    /// Returns true if every token has its own weight.
    pub fn is_by_token(self) -> bool {
        matches!(self, Self::TokenTruncate | Self::TokenMask)
    }

    fn truncates(self) -> bool {
        matches!(self, Self::TokenTruncate | Self::SequenceTruncate)
    }
}

/// The correction of samples with log-probabilities from another engine (`vllm_importance_sampling_*` of
/// TRL).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Correction {
    /// The use of the ratio.
    pub importance_sampling_mode: CorrectionMode,
    /// The highest ratio.
    #[serde(default = "three", skip_serializing_if = "Option::is_none")]
    pub importance_sampling_clip_max: Option<f64>,
    /// The lowest ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance_sampling_clip_min: Option<f64>,
}

fn three() -> Option<f64> {
    Some(3.0)
}

impl Correction {
    /// Creates a correction with TRL's bounds: at most 3.
    pub fn of(importance_sampling_mode: CorrectionMode) -> Self {
        Self {
            importance_sampling_mode,
            importance_sampling_clip_max: three(),
            importance_sampling_clip_min: None,
        }
    }

    /// Refuses empty ranges.
    ///
    /// # Errors
    /// Fails if the bounds are out of order or not positive, or if a truncating mode has no bound.
    pub fn check(&self) -> Result<()> {
        let (low, high) = (self.importance_sampling_clip_min, self.importance_sampling_clip_max);
        for (field, bound) in [("importance-sampling-clip-min", low), ("importance-sampling-clip-max", high)]
        {
            if let Some(bound) = bound {
                number(field, bound, bound > 0.0, "a positive number")?;
            }
        }
        if let (Some(low), Some(high)) = (low, high)
            && low >= high
        {
            let message = format!("{low}: expected less than importance-sampling-clip-max, {high}");
            return refuse("importance-sampling-clip-min", message);
        }
        if self.importance_sampling_mode.truncates() && low.is_none() && high.is_none() {
            let message =
                "none, nor importance-sampling-clip-min: ratios are truncated at one of them; expected one";
            return refuse("importance-sampling-clip-max", message.into());
        }
        Ok(())
    }

    /// Returns the weight of every token of an answer; by answer, the same for all. A token that the engine
    /// did not score counts as having equal log-probabilities.
    pub fn weights(&self, old: &[f64], sampling: &[f64]) -> Vec<f64> {
        let differences: Vec<f64> =
            old.iter().zip(sampling).map(|(old, other)| difference(*old, *other)).collect();
        match self.importance_sampling_mode.is_by_token() {
            true => differences.into_iter().map(|apart| self.bounded(apart.exp())).collect(),
            false => vec![self.bounded(differences.iter().sum::<f64>().exp()); old.len()],
        }
    }

    fn bounded(&self, ratio: f64) -> f64 {
        let low = self.importance_sampling_clip_min.unwrap_or(f64::NEG_INFINITY);
        let high = self.importance_sampling_clip_max.unwrap_or(f64::INFINITY);
        match self.importance_sampling_mode.truncates() {
            true => ratio.max(low).min(high),
            false if ratio < low || ratio > high => 0.0,
            false => ratio,
        }
        .min(f64::MAX)
    }

    /// Records `sampling/importance_sampling_ratio/{mean,min,max}` of an answer's weights.
    pub(super) fn record(&self, weights: &[f64], metrics: &mut Metrics) {
        let counted =
            if self.importance_sampling_mode.is_by_token() { weights.len() } else { weights.len().min(1) };
        for weight in &weights[..counted] {
            metrics.mean("sampling/importance_sampling_ratio/mean", *weight, 1.0);
            metrics.min("sampling/importance_sampling_ratio/min", *weight);
            metrics.max("sampling/importance_sampling_ratio/max", *weight);
        }
    }
}

/// Returns ln π_old − ln π_sampling of a token; 0 if the engine did not score it.
fn difference(old: f64, sampling: f64) -> f64 {
    let apart = old - sampling;
    if apart.is_nan() { 0.0 } else { apart }
}

/// Records `sampling/sampling_logp_difference/{mean,max}`, over the tokens that the engine scored.
pub(super) fn record_differences(row: &AnswerRow<'_>, metrics: &mut Metrics) {
    for (old, other) in row.old().iter().zip(row.sampling.unwrap_or_default()) {
        let apart = (old - other).abs();
        if !apart.is_nan() {
            metrics.mean("sampling/sampling_logp_difference/mean", apart, 1.0);
            metrics.max("sampling/sampling_logp_difference/max", apart);
        }
    }
}

/// Returns true if an answer has drifted from the policy that sampled it: the mean of ln π_sampling − ln π
/// over its tokens exceeds the threshold (DeepSeek-V3.2, arXiv 2512.02556). Its tokens with a negative
/// advantage are then masked.
pub(super) fn drifted(row: &AnswerRow<'_>, threshold: f64) -> bool {
    let sampled = row.sampling.unwrap_or(row.old());
    let sum: f64 = sampled.iter().zip(row.log_probs).map(|(before, now)| difference(*before, *now)).sum();
    sum / row.log_probs.len().max(1) as f64 > threshold
}

#[cfg(test)]
mod tests {
    use super::*;
    use CorrectionMode as M;

    /// Protects: the four modes by hand, the product (not the mean) over an answer's tokens, and unscored
    /// tokens.
    #[test]
    fn weights_are_by_token_or_by_answer() {
        let (old, sampling) = ([-1.0, -2.0, -0.5], [-1.5, -2.0 - 4.0_f64.ln(), f64::NAN]);
        let weights = |mode, low| {
            let bounds = Correction { importance_sampling_clip_min: low, ..Correction::of(mode) };
            bounds.weights(&old, &sampling)
        };
        let half = 0.5_f64.exp();
        assert_eq!(weights(M::TokenTruncate, None), [half, 3.0, 1.0]);
        assert_eq!(weights(M::TokenTruncate, Some(1.2)), [half, 3.0, 1.2]);
        assert_eq!(weights(M::TokenMask, Some(1.2)), [half, 0.0, 0.0]);
        assert_eq!(weights(M::SequenceTruncate, None), [3.0; 3]);
        assert_eq!(weights(M::SequenceMask, None), [0.0; 3]);
        let wide = Correction { importance_sampling_clip_max: None, ..Correction::of(M::SequenceMask) };
        assert!((wide.weights(&old, &sampling)[0] - 4.0 * half).abs() < 1e-12);
        assert!(wide.weights(&[1e4], &[-1e4])[0].is_finite());
    }

    /// Protects: bounds that leave nothing are refused, naming the option.
    #[test]
    fn empty_bounds_are_refused() {
        let of = |mode, low, high| Correction {
            importance_sampling_mode: mode,
            importance_sampling_clip_max: high,
            importance_sampling_clip_min: low,
        };
        for (faulty, expected) in [
            (of(M::TokenMask, Some(3.0), Some(3.0)), "importance-sampling-clip-min: 3: expected less"),
            (of(M::TokenTruncate, None, None), "importance-sampling-clip-max: none"),
            (of(M::TokenMask, None, Some(0.0)), "importance-sampling-clip-max: 0"),
        ] {
            let message = faulty.check().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.starts_with(expected), "{message}");
        }
        assert!(of(M::SequenceMask, None, None).check().is_ok());
        let read: Correction = serde_json::from_str(r#"{"importance-sampling-mode": "token_mask"}"#).unwrap();
        assert_eq!(read, Correction::of(M::TokenMask));
    }
}
