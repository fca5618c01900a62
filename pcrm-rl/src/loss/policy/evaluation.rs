//! The loss of sampled answers, with its gradient by every log-probability and entropy.

use super::aggregation::Aggregation;
use super::correction::{self, Correction};
use super::entropy::quantile;
use super::kl::{FAR, KlEstimator};
use super::record::{MetricNames, TokenSums, record_chosen};
use super::rows::{self, AnswerRow, Needs, Totals};
use super::surrogate::{Surrogate, Term};
use crate::error::Result;
use crate::metrics::Metrics;

/// The importance ratio of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ratio {
    /// π(token) / π_old(token).
    Token,
    /// The geometric mean of the token ratios over the answer, for all its tokens (GSPO).
    SequenceMean,
    /// The product of the token ratios, for all the answer's tokens (RLOO).
    SequenceSum,
}

/// The KL term of a loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Penalty {
    pub coefficient: f64,
    pub estimator: KlEstimator,
    /// Weights k3 by ρ, which makes its gradient unbiased.
    pub corrected: bool,
}

/// A policy loss ready to evaluate, built from [`GrpoConfig`](super::GrpoConfig),
/// [`PpoConfig`](super::PpoConfig) or [`RlooConfig`](super::RlooConfig).
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyLoss {
    pub(super) ratio: Ratio,
    pub(super) surrogate: Surrogate,
    pub(super) aggregation: Aggregation,
    pub(super) penalty: Option<Penalty>,
    pub(super) correction: Option<Correction>,
    pub(super) mask_truncated: bool,
    /// Share of tokens, by highest entropy, that contribute to the loss.
    pub(super) top_entropy: f64,
    pub(super) off_policy_threshold: Option<f64>,
    pub(super) entropy_coefficient: f64,
    pub(super) family: MetricNames,
}

/// The loss of a part of a step, with its gradient. Parts sum to the step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LossPart {
    /// Sum of all terms, which training minimises.
    pub total: f64,
    /// The loss without the entropy bonus.
    pub policy: f64,
    /// KL term with its coefficient; included in `policy`.
    pub kl: f64,
    /// d total / d ln π of every answer's tokens.
    pub d_log_probs: Vec<Vec<f64>>,
    /// d total / d entropy of every answer's tokens; empty without a bonus.
    pub d_entropy: Vec<Vec<f64>>,
    /// Number of tokens, or answers, whose log-ratio was clamped to 20.
    pub clamped_ratios: usize,
    /// Number of tokens whose difference from the reference was clamped to ±20.
    pub clamped_kl: usize,
}

/// The ratio of a token, or of a whole answer.
#[derive(Debug, Clone, Copy)]
struct Weighed {
    /// ln ρ
    log: f64,
    ratio: f64,
    clamped: bool,
}

impl Weighed {
    /// Creates the ratio, clamped to e^20 so that no product overflows. A ratio near 0 needs no clamp.
    fn of(log: f64) -> Self {
        let near = log.min(FAR);
        Self { log: near, ratio: near.exp(), clamped: near != log }
    }
}

impl PolicyLoss {
    /// Returns the loss with a correction of samples from another engine or an older policy.
    pub fn with_correction(mut self, correction: Correction) -> Self {
        self.correction = Some(correction);
        self
    }

    /// Returns the loss with another coefficient of the entropy bonus, for an adaptive coefficient.
    pub fn with_entropy_coefficient(mut self, coefficient: f64) -> Self {
        self.entropy_coefficient = coefficient;
        self
    }

    /// Returns the loss with another coefficient of the KL term, for an adaptive coefficient; no effect on a
    /// loss without a KL term.
    pub fn with_kl_coefficient(mut self, coefficient: f64) -> Self {
        self.penalty = self.penalty.map(|penalty| Penalty { coefficient, ..penalty });
        self
    }

    /// Returns true if the loss compares the policy with a reference.
    pub fn needs_reference(&self) -> bool {
        self.penalty.is_some()
    }

    /// Returns true if the loss needs entropies, for a bonus or to choose tokens.
    pub fn needs_entropy(&self) -> bool {
        self.entropy_coefficient != 0.0 || self.top_entropy < 1.0
    }

    /// Returns true if the loss needs the entropies of a whole step before any part of it is computed.
    pub fn needs_threshold(&self) -> bool {
        self.top_entropy < 1.0
    }

    /// Returns the counts of a whole step, which divide its parts. Entropies are used if tokens are chosen by
    /// them.
    ///
    /// # Errors
    /// Fails if the columns of a row differ in length or a number is not finite.
    pub fn totals(&self, rows: &[AnswerRow<'_>]) -> Result<Totals> {
        rows::check(rows, Needs { reference: false, entropy: self.needs_threshold() })?;
        let kept = || rows.iter().filter(|row| !self.is_masked(row));
        let tokens = kept().map(|row| row.log_probs.len()).sum::<usize>() as f64;
        let mut totals =
            Totals { rows: rows.len() as f64, tokens, active: tokens, generated: tokens, threshold: None };
        if self.needs_threshold() {
            let entropies = || kept().flat_map(|row| row.entropy.unwrap_or_default()).copied();
            let threshold = quantile(entropies().collect(), 1.0 - self.top_entropy);
            totals.threshold = threshold;
            totals.active = entropies().filter(|entropy| Some(*entropy) >= threshold).count() as f64;
        }
        Ok(totals)
    }

    /// Returns true if the loss masks an answer.
    pub fn leaves_out(&self, ended: bool, unscored: bool) -> bool {
        unscored || (self.mask_truncated && !ended)
    }

    fn is_masked(&self, row: &AnswerRow<'_>) -> bool {
        self.leaves_out(!row.truncated, row.unscored)
    }

    /// Computes the loss of some answers of a step with its gradient. `totals` describe the whole step, so
    /// that the losses and gradients of its parts sum to the step's. A masked answer contributes nothing.
    ///
    /// # Errors
    /// Fails if a row lacks a column, if columns differ in length, or if a number is not finite.
    pub fn evaluate(
        &self,
        rows: &[AnswerRow<'_>],
        totals: &Totals,
        metrics: &mut Metrics,
    ) -> Result<LossPart> {
        rows::check(rows, Needs { reference: self.needs_reference(), entropy: self.needs_entropy() })?;
        if self.needs_threshold() && totals.threshold.is_none() && totals.tokens > 0.0 {
            let message = "totals have none; expected those of PolicyLoss::totals, over the whole step";
            crate::options::refuse("top-entropy-quantile", message.into())?;
        }
        let mut sum = LossPart::default();
        for row in rows {
            sum.d_log_probs.push(vec![0.0; row.log_probs.len()]);
            if self.entropy_coefficient != 0.0 {
                sum.d_entropy.push(vec![0.0; row.log_probs.len()]);
            }
            match self.is_masked(row) || row.log_probs.is_empty() {
                true => self.family.record_masked(metrics),
                false => self.add(row, totals, &mut sum, metrics),
            }
        }
        sum.total += sum.policy;
        self.family.record_loss(rows.len(), totals, &sum, self.entropy_coefficient, metrics);
        Ok(sum)
    }

    /// Adds an unmasked row; its gradient goes to the last entry.
    fn add(&self, row: &AnswerRow<'_>, totals: &Totals, sum: &mut LossPart, metrics: &mut Metrics) {
        let tokens = row.log_probs.len();
        let differences = || row.log_probs.iter().zip(row.old()).map(|(now, before)| now - before);
        // One ratio per token, or one for all tokens.
        let by_row = match self.ratio {
            Ratio::Token => None,
            Ratio::SequenceMean => Some((differences().sum::<f64>() / tokens as f64, 1.0 / tokens as f64)),
            Ratio::SequenceSum => Some((differences().sum::<f64>(), 1.0)),
        };
        let ratios: Vec<Weighed> = match by_row {
            None => differences().map(Weighed::of).collect(),
            Some((log, _)) => vec![Weighed::of(log)],
        };
        sum.clamped_ratios += ratios.iter().filter(|of| of.clamped).count();
        let corrections =
            self.correction.zip(row.sampling).map(|(of, sampling)| (of, of.weights(row.old(), sampling)));
        let (weight, share) =
            (self.answer_weight(row, corrections.as_ref()), self.aggregation.weight(tokens, totals));
        let drifted = self.off_policy_threshold.is_some_and(|threshold| correction::drifted(row, threshold));
        let mut through_row = 0.0;
        let mut seen = TokenSums::new(row, self.ratio == Ratio::Token);
        let at = sum.d_log_probs.len() - 1;
        for token in 0..tokens {
            let of = ratios[if by_row.is_none() { token } else { 0 }];
            let (log_prob, advantage) = (row.log_probs[token], row.advantage.at(token));
            let active = self.is_active(row, token, totals);
            let held = match &corrections {
                Some((_, weights)) if !matches!(self.surrogate, Surrogate::Vespo { .. }) => weights[token],
                _ => 1.0,
            };
            let kept = f64::from(u8::from(active && !(drifted && advantage < 0.0))) * held;
            let mut term = self.surrogate.term(of.ratio, log_prob, advantage, weight);
            term = Term {
                value: kept * term.value,
                by_ratio: kept * term.by_ratio,
                by_log_prob: kept * term.by_log_prob,
            };
            if let Some(penalty) = self.penalty {
                let (kl, clamped) = self.penalised(penalty, &mut term, row, token, of);
                sum.clamped_kl += usize::from(clamped);
                sum.kl += share * penalty.coefficient * kl;
                seen.kl(kl);
            }
            sum.policy += share * term.value;
            let by_ratio = if of.clamped { 0.0 } else { share * term.by_ratio };
            sum.d_log_probs[at][token] += share * term.by_log_prob;
            match by_row {
                None => sum.d_log_probs[at][token] += by_ratio,
                Some(_) => through_row += by_ratio,
            }
            if self.entropy_coefficient != 0.0 && active {
                let weight = self.entropy_coefficient / totals.active.max(1.0);
                sum.total -= weight * row.entropy.map_or(0.0, |entropy| entropy[token]);
                sum.d_entropy[at][token] -= weight;
            }
            seen.token(&self.surrogate, of.ratio, of.log, advantage);
        }
        if let Some((_, by_token)) = by_row {
            sum.d_log_probs[at].iter_mut().for_each(|slope| *slope += through_row * by_token);
        }
        if matches!(self.surrogate, Surrogate::Vespo { .. }) {
            seen.phi(self.surrogate.phi(row.advantage.at(0), weight));
        }
        self.family.record_row(row, &seen, metrics);
        if let Some(entropy) = row.entropy.filter(|_| self.needs_threshold()) {
            let chosen = (0..tokens).filter(|at| self.is_active(row, *at, totals));
            record_chosen(chosen.map(|at| entropy[at]), metrics);
        }
        correction::record_differences(row, metrics);
        if let Some((correction, weights)) = &corrections {
            correction.record(weights, metrics);
        }
    }

    /// Adds the KL term to a token's term. Returns the estimate, and true if it was clamped.
    fn penalised(
        &self,
        penalty: Penalty,
        term: &mut Term,
        row: &AnswerRow<'_>,
        token: usize,
        of: Weighed,
    ) -> (f64, bool) {
        let reference = row.reference.map_or(row.log_probs[token], |reference| reference[token]);
        let (kl, clamped) = penalty.estimator.in_loss(row.log_probs[token], reference);
        let weighs = penalty.corrected && penalty.estimator == KlEstimator::K3;
        let ratio = if weighs { of.ratio } else { 1.0 };
        let value = ratio * kl.value;
        term.value += penalty.coefficient * value;
        term.by_log_prob += penalty.coefficient * ratio * kl.slope;
        term.by_ratio += if weighs { penalty.coefficient * value } else { 0.0 };
        (value, clamped)
    }

    /// Returns true if a token's entropy is in the upper share.
    fn is_active(&self, row: &AnswerRow<'_>, token: usize, totals: &Totals) -> bool {
        match (totals.threshold, row.entropy) {
            (Some(threshold), Some(entropy)) if self.needs_threshold() => entropy[token] >= threshold,
            _ => true,
        }
    }

    /// Returns ln w of `vespo`: the sum of the tokens' log-ratios and log corrections, clamped between ln
    /// 1e-8 and 20.
    fn answer_weight(&self, row: &AnswerRow<'_>, corrections: Option<&(Correction, Vec<f64>)>) -> f64 {
        if !matches!(self.surrogate, Surrogate::Vespo { .. }) {
            return 0.0;
        }
        let least = 1e-8_f64.ln();
        let ratios = row.log_probs.iter().zip(row.old()).map(|(now, before)| (now - before).clamp(-FAR, FAR));
        let corrections = corrections.map_or(&[][..], |(_, weights)| weights);
        let corrected: f64 = corrections.iter().map(|weight| weight.ln().clamp(least, FAR)).sum();
        (ratios.sum::<f64>() + corrected).clamp(least, FAR)
    }
}
