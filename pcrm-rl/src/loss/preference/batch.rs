//! The loss of pairs by the log-probabilities of answer tokens, with its gradient by each of them.

use super::config::{PreferenceConfig, WeightedLoss};
use super::names::PreferenceLoss;
use crate::loss::beyond_bound;

/// The log-probabilities of an answer's tokens.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnswerTokens<'a> {
    /// ln π of the answer's tokens, including the end of the answer.
    pub policy: &'a [f64],
    /// ln π_ref of the same tokens; empty without a reference.
    pub reference: &'a [f64],
    /// ln π of the prompt's tokens after its first; empty unless prompts are learned
    /// ([`PreferenceConfig::learns_prompts`]).
    pub prompt: &'a [f64],
    /// Mean of ln π(token) − ln Σ π² over the answer's tokens, for WPO's weight; 0 without it.
    pub alignment: f64,
}

/// A comparison of two answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Index of the preferred answer.
    pub chosen: usize,
    /// Index of the other answer.
    pub rejected: usize,
    /// Δ*, infinite without a bound.
    pub bound: f64,
    /// Weight of the pair in the loss: 1, or its share in a set of several comparisons.
    pub weight: f64,
}

/// Sums over an answer's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Sums {
    /// Σ ln π
    pub policy: f64,
    /// Σ ln π_ref
    pub reference: f64,
    /// The number of tokens.
    pub tokens: f64,
}

impl Sums {
    /// Returns ln π − ln π_ref of the answer.
    pub fn log_ratio(&self) -> f64 {
        self.policy - self.reference
    }
}

/// The figures of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PairFigures {
    /// Σ ln π of the preferred answer and of the other; tokens beyond the shorter one's length are weighted
    /// by `ld_alpha`.
    pub log_probs: [f64; 2],
    /// Implicit rewards β·lr of both; without a reference β·ln π, per token if the loss is per token.
    pub rewards: [f64; 2],
    /// Δ, the argument of the first loss that has one; else the difference of the rewards.
    pub margin: f64,
}

/// The loss of some pairs, with its gradient.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PairsLoss {
    /// Sum of all terms, which training minimises.
    pub total: f64,
    /// Losses of the pairs without their bounds.
    pub ranking: f64,
    /// Terms of the constraint.
    pub constraint: f64,
    /// −ln π of learned tokens, with the weights of the losses (`sft`, `cpo`, `orpo`).
    pub likelihood: f64,
    /// d total / d ln π of every answer's tokens.
    pub gradient: Vec<Vec<f64>>,
    /// d total / d ln π of the prompt's tokens before every answer; empty unless they are learned.
    pub prompt_gradient: Vec<Vec<f64>>,
    /// The figures of every pair.
    pub judged: Vec<PairFigures>,
}

impl PreferenceConfig {
    /// Computes the loss of these pairs: Σ share·weight·(Σ_k w_k·(ℓ_k + bound's term)) + Σ_k w_k·(mean of −ln
    /// π per token).
    ///
    /// `share` is 1 / (number of items of the step). `learned` has the numbers of tokens over which −ln π is
    /// averaged, for the whole step: of preferred answers, and of preferred answers with their prompts, each
    /// weighted by its pair.
    pub fn evaluate(
        &self,
        answers: &[AnswerTokens<'_>],
        pairs: &[Pair],
        share: f64,
        learned: [f64; 2],
    ) -> PairsLoss {
        let mut sum = PairsLoss {
            gradient: answers.iter().map(|answer| vec![0.0; answer.policy.len()]).collect(),
            prompt_gradient: answers.iter().map(|answer| vec![0.0; answer.prompt.len()]).collect(),
            ..PairsLoss::default()
        };
        let sums: Vec<(Sums, Sums)> = pairs.iter().map(|pair| self.sums(answers, pair)).collect();
        for WeightedLoss { loss, weight } in &self.loss {
            let ranks = if loss.sorts() { self.sorted(*loss, &sums) } else { Vec::new() };
            for (at, (pair, (chosen, rejected))) in pairs.iter().zip(&sums).enumerate() {
                let part = match (ranks.get(at), self.margin(*loss, chosen, rejected)) {
                    (Some(rank), _) => Part::of(rank.value, [rank.d_chosen, rank.d_rejected]),
                    (None, Some(margin)) => {
                        let of = self.at(*loss, margin.value).unwrap_or_default();
                        let bound = beyond_bound(margin.value, pair.bound);
                        let slope = of.slope + bound.slope;
                        Part {
                            ranking: of.value,
                            constraint: bound.value,
                            slopes: [slope * margin.by_chosen, slope * margin.by_rejected],
                        }
                    }
                    (None, None) => match self.apart(*loss, chosen, rejected) {
                        Some(of) => Part::of(of.value, [of.d_chosen, of.d_rejected]),
                        None => continue, // only −ln π, added below
                    },
                };
                let factor = share * weight * pair.weight * self.likely(answers, pair);
                sum.ranking += factor * part.ranking;
                sum.constraint += factor * part.constraint;
                self.spread(answers, pair, part.slopes.map(|slope| factor * slope), &mut sum.gradient);
            }
        }
        self.add_likelihoods(answers, pairs, learned, &mut sum);
        sum.total = sum.ranking + sum.constraint + sum.likelihood;
        sum.judged = sums.iter().map(|(chosen, rejected)| self.judged(chosen, rejected)).collect();
        sum
    }

    /// Returns the figures of these pairs.
    pub fn judge(&self, answers: &[AnswerTokens<'_>], pairs: &[Pair]) -> Vec<PairFigures> {
        let figures = |pair: &Pair| {
            let (chosen, rejected) = self.sums(answers, pair);
            self.judged(&chosen, &rejected)
        };
        pairs.iter().map(figures).collect()
    }

    /// Returns the sums of a pair's two answers; tokens beyond the shorter one's length are weighted by
    /// `ld_alpha`.
    fn sums(&self, answers: &[AnswerTokens<'_>], pair: &Pair) -> (Sums, Sums) {
        let two = [pair.chosen, pair.rejected].map(|place| &answers[place]);
        let shorter = two[0].policy.len().min(two[1].policy.len());
        let total = |numbers: &[f64]| match self.ld_alpha {
            None => numbers.iter().sum(),
            Some(alpha) => {
                let (both, tail) = numbers.split_at(shorter.min(numbers.len()));
                both.iter().sum::<f64>() + alpha * tail.iter().sum::<f64>()
            }
        };
        let sums = |answer: &AnswerTokens<'_>| Sums {
            policy: total(answer.policy),
            reference: total(answer.reference),
            tokens: answer.policy.len() as f64,
        };
        (sums(two[0]), sums(two[1]))
    }

    /// Returns WPO's weight of a pair: the likelihood of its answers, each averaged over tokens.
    fn likely(&self, answers: &[AnswerTokens<'_>], pair: &Pair) -> f64 {
        match self.use_weighting {
            true => (answers[pair.chosen].alignment + answers[pair.rejected].alignment).exp(),
            false => 1.0,
        }
    }

    /// Adds to every token of both answers the slope of its answer's sum.
    fn spread(&self, answers: &[AnswerTokens<'_>], pair: &Pair, slopes: [f64; 2], gradient: &mut [Vec<f64>]) {
        let places = [pair.chosen, pair.rejected];
        let shorter = places.map(|place| answers[place].policy.len()).into_iter().min().unwrap_or(0);
        for (place, slope) in places.into_iter().zip(slopes) {
            for (at, token) in gradient[place].iter_mut().enumerate() {
                *token += if at < shorter { slope } else { self.ld_alpha.unwrap_or(1.0) * slope };
            }
        }
    }

    /// Adds the mean of −ln π over the tokens of preferred answers, and over these with their prompts.
    fn add_likelihoods(
        &self,
        answers: &[AnswerTokens<'_>],
        pairs: &[Pair],
        learned: [f64; 2],
        sum: &mut PairsLoss,
    ) {
        let [alone, with_prompt] = self.likelihoods();
        let by_token = |weight: f64, tokens: f64| if weight == 0.0 { 0.0 } else { weight / tokens };
        let (alone, whole) = (by_token(alone, learned[0]), by_token(with_prompt, learned[1]));
        if alone + whole == 0.0 {
            return;
        }
        for pair in pairs {
            let answer = &answers[pair.chosen];
            let (own, prompt) = (pair.weight * (alone + whole), pair.weight * whole);
            sum.likelihood -= own * answer.policy.iter().sum::<f64>();
            sum.likelihood -= prompt * answer.prompt.iter().sum::<f64>();
            sum.gradient[pair.chosen].iter_mut().for_each(|token| *token -= own);
            sum.prompt_gradient[pair.chosen].iter_mut().for_each(|token| *token -= prompt);
        }
    }

    fn judged(&self, chosen: &Sums, rejected: &Sums) -> PairFigures {
        use PreferenceLoss as L;
        let leading = self.losses().find(|loss| *loss != L::Sft).unwrap_or(L::Sft);
        let reward = |sums: &Sums| {
            self.beta
                * match leading {
                    L::Simpo | L::Orpo => sums.policy / sums.tokens.max(1.0),
                    L::Cpo => sums.policy,
                    _ => sums.log_ratio(),
                }
        };
        let rewards = [reward(chosen), reward(rejected)];
        let margin = self.losses().find_map(|loss| self.margin(loss, chosen, rejected));
        PairFigures {
            log_probs: [chosen.policy, rejected.policy],
            rewards,
            margin: margin.map_or(rewards[0] - rewards[1], |margin| margin.value),
        }
    }
}

/// The loss of one pair, with its derivatives by both sums.
struct Part {
    ranking: f64,
    constraint: f64,
    slopes: [f64; 2],
}

impl Part {
    fn of(ranking: f64, slopes: [f64; 2]) -> Self {
        Self { ranking, constraint: 0.0, slopes }
    }
}

#[cfg(test)]
mod tests;
