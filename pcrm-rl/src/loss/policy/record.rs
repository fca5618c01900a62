//! The metrics of policy losses, with TRL's names, over the tokens of unmasked answers.

use super::evaluation::LossPart;
use super::rows::{Advantage, AnswerRow, Totals};
use super::surrogate::{Side, Surrogate};
use crate::metrics::{Metrics, Summary};

/// The trainer whose metric names a loss uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricNames {
    /// GRPO with two-sided clipping.
    Grpo,
    /// GRPO with the loss `cispo`.
    Cispo,
    /// GRPO with the loss `vespo`.
    Vespo,
    /// GRPO with the loss `sapo`, without clipping.
    Sapo,
    /// RLOO.
    Rloo,
    /// PPO.
    Ppo,
}

/// Sums over the tokens of an answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TokenSums {
    tokens: f64,
    /// True if ratio metrics are by token; false for one per answer.
    by_token: bool,
    low: f64,
    high: f64,
    kl: Option<f64>,
    phi: Option<f64>,
    ratio: f64,
    squares: f64,
}

impl TokenSums {
    pub fn new(row: &AnswerRow<'_>, ratio_of_token: bool) -> Self {
        let by_token = ratio_of_token || matches!(row.advantage, Advantage::OfTokens(_));
        Self { by_token, ..Self::default() }
    }

    pub fn token(&mut self, surrogate: &Surrogate, ratio: f64, log_ratio: f64, advantage: f64) {
        self.tokens += 1.0;
        match surrogate.side(ratio, advantage) {
            Side::Low => self.low += 1.0,
            Side::High => self.high += 1.0,
            Side::None => {}
        }
        self.ratio += ratio;
        self.squares += log_ratio * log_ratio;
    }

    pub fn kl(&mut self, estimate: f64) {
        *self.kl.get_or_insert(0.0) += estimate;
    }

    pub fn phi(&mut self, phi: f64) {
        self.phi = Some(phi);
    }

    /// Returns the weight of an answer in ratio metrics: its tokens, or 1.
    fn weight(&self) -> f64 {
        if self.by_token { self.tokens } else { 1.0 }
    }
}

/// The name of the mean entropy of the tokens in the loss, for losses over the tokens with the highest entropy.
const CHOSEN_ENTROPY: &str = "entropy/chosen";

/// Records the entropies of the tokens of an answer that are in the loss.
pub fn record_chosen(entropies: impl Iterator<Item = f64>, metrics: &mut Metrics) {
    let chosen: Vec<f64> = entropies.collect();
    if !chosen.is_empty() {
        let count = chosen.len() as f64;
        metrics.mean(CHOSEN_ENTROPY, chosen.iter().sum::<f64>() / count, count);
    }
}

/// Returns the mean entropy of the tokens in the loss of a step.
pub fn loss_entropy(step: &Summary) -> Option<f64> {
    [CHOSEN_ENTROPY, "entropy", "policy/entropy_avg"].into_iter().find_map(|name| step.get(name))
}

impl MetricNames {
    /// Records an answer.
    pub fn record_row(self, row: &AnswerRow<'_>, seen: &TokenSums, metrics: &mut Metrics) {
        let (tokens, weight) = (seen.tokens.max(1.0), seen.weight());
        let (low, high) = (seen.low / tokens, seen.high / tokens);
        if let Some(kl) = seen.kl {
            let name = if self == Self::Ppo { "policy/kl" } else { "kl" };
            metrics.mean(name, kl / tokens, tokens);
        }
        if let Some(entropy) = row.entropy {
            let name = if self == Self::Ppo { "policy/entropy_avg" } else { "entropy" };
            metrics.mean(name, entropy.iter().sum::<f64>() / tokens, tokens);
        }
        match self {
            Self::Grpo | Self::Rloo => {
                metrics.mean("clip_ratio/low_mean", low, weight);
                metrics.mean("clip_ratio/high_mean", high, weight);
                metrics.mean("clip_ratio/region_mean", low + high, weight);
                metrics.min("clip_ratio/low_min", low);
                metrics.max("clip_ratio/high_max", high);
            }
            Self::Cispo => metrics.mean("cispo_clip_ratio", high, weight),
            Self::Vespo => metrics.mean("vespo/phi_seq_mean", seen.phi.unwrap_or(1.0), 1.0),
            Self::Sapo => {}
            Self::Ppo => {
                metrics.mean("policy/clipfrac_avg", low + high, weight);
                metrics.mean("policy/approxkl_avg", 0.5 * seen.squares / tokens, tokens);
                metrics.mean("val/ratio", seen.ratio / tokens, tokens);
            }
        }
    }

    /// Records a masked answer.
    pub fn record_masked(self, metrics: &mut Metrics) {
        metrics.sum("completions/masked", 1.0);
    }

    /// Records the loss of a part of a step.
    pub fn record_loss(
        self,
        rows: usize,
        totals: &Totals,
        found: &LossPart,
        entropy_coefficient: f64,
        metrics: &mut Metrics,
    ) {
        if rows == 0 {
            return;
        }
        let rows = rows as f64;
        // Parts of a step sum to it: each is its share of the step's loss.
        let of_step = |value: f64| value * totals.rows / rows;
        metrics.mean("loss", of_step(found.total), rows);
        if self == Self::Ppo {
            metrics.mean("loss/policy_avg", of_step(found.policy), rows);
        } else if entropy_coefficient != 0.0 {
            metrics.mean("policy_loss", of_step(found.policy), rows);
        }
        if entropy_coefficient != 0.0 {
            metrics.mean("entropy_coef", entropy_coefficient, rows);
        }
        metrics.sum("clamps/log_ratio", found.clamped_ratios as f64);
        metrics.sum("clamps/kl", found.clamped_kl as f64);
    }
}
