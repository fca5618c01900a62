//! Measurements of the pairs and their answers, with the policy and its reference.

use anyhow::Result;
use pcrm_core::data::encode::EncodedSet;
use pcrm_core::model::LanguageModel;
use pcrm_core::tree::within_budget;
use pcrm_rl::answers::predicted;
use pcrm_rl::loss::preference::{AnswerTokens, Pair, PairFigures, PreferenceConfig};
use pcrm_rl::reference::{next_token_kl, token_log_probs};

use super::policy::PolicyFigures;
use crate::progress::bar;

/// Measurements of the pairs and their answers, in order.
pub struct PairMeasures {
    pub judged: Vec<PairFigures>,
    /// The summed divergence of each answer's tokens, by set and answer.
    kl: Option<Vec<Vec<f64>>>,
}

/// Computes both models' log-probabilities of all answers, and their divergence, at most `micro_tokens`
/// tokens at once.
pub fn measured(
    config: &PreferenceConfig,
    policy: &LanguageModel,
    reference: Option<&LanguageModel>,
    sets: &[EncodedSet],
    micro_tokens: usize,
) -> Result<PairMeasures> {
    pcrm_rl::score::within_vocabulary(sets, policy.config().vocabulary)?;
    let mut found = PairMeasures { judged: Vec::new(), kl: reference.map(|_| Vec::new()) };
    let (bar, mut done) = (bar(sets.len() as u64, "evaluating"), 0);
    let host = |of: Vec<Vec<f32>>| -> Vec<Vec<f64>> {
        of.into_iter().map(|of| of.into_iter().map(f64::from).collect()).collect()
    };
    for part in within_budget(sets, micro_tokens, EncodedSet::unique_tokens) {
        let part: Vec<&EncodedSet> = part.iter().collect();
        let ours = host(token_log_probs(policy, &part)?);
        let theirs = match reference {
            Some(reference) => {
                pcrm_rl::score::within_vocabulary(part.iter().copied(), reference.config().vocabulary)?;
                host(token_log_probs(reference, &part)?)
            }
            None => vec![Vec::new(); ours.len()],
        };
        let answers: Vec<AnswerTokens<'_>> = ours
            .iter()
            .zip(&theirs)
            .map(|(policy, reference)| AnswerTokens { policy, reference, ..AnswerTokens::default() })
            .collect();
        let mut first = 0;
        for set in &part {
            let pairs = set.comparisons.iter().map(|comparison| Pair {
                chosen: first + comparison.chosen as usize,
                rejected: first + comparison.rejected as usize,
                bound: f64::INFINITY,
                weight: 1.0,
            });
            found.judged.extend(config.judge(&answers, &pairs.collect::<Vec<_>>()));
            first += set.answers.len();
        }
        if let (Some(kl), Some(reference)) = (&mut found.kl, reference) {
            let mut sums =
                host(next_token_kl(policy, reference, &part)?).into_iter().map(|of| of.iter().sum::<f64>());
            kl.extend(part.iter().map(|set| sums.by_ref().take(set.answers.len()).collect::<Vec<_>>()));
        }
        done += part.len();
        bar.set_position(done as u64);
    }
    bar.finish_and_clear();
    Ok(found)
}

impl PairMeasures {
    /// Returns the means over the answers and over their tokens.
    pub fn policy(&self, config: &PreferenceConfig, sets: &[EncodedSet]) -> PolicyFigures {
        let count = self.judged.len().max(1) as f64;
        let mean = |of: &dyn Fn(&PairFigures) -> f64| self.judged.iter().map(of).sum::<f64>() / count;
        // The indices of each pair's two answers.
        let pairs = || {
            sets.iter().enumerate().flat_map(|(at, set)| {
                set.comparisons.iter().map(move |pair| (at, [pair.chosen as usize, pair.rejected as usize]))
            })
        };
        let tokens = |at: usize, answer: usize| predicted(&sets[at].answers[answer]).len() as f64;
        let mean_tokens = |side: usize| pairs().map(|(at, two)| tokens(at, two[side])).sum::<f64>() / count;
        let divergence = |side: usize| {
            let kl = self.kl.as_ref()?;
            let sum: f64 = pairs().map(|(at, two)| kl[at][two[side]]).sum();
            Some(sum / (mean_tokens(side) * count))
        };
        let of_all = self.kl.as_ref().map(|kl| {
            let places = sets.iter().flat_map(|set| set.answers.iter().map(|answer| predicted(answer).len()));
            kl.concat().iter().sum::<f64>() / places.sum::<usize>().max(1) as f64
        });
        PolicyFigures {
            beta: config.beta,
            kl_per_token: of_all,
            kl_per_token_chosen: divergence(0),
            kl_per_token_rejected: divergence(1),
            logps_chosen: mean(&|of| of.log_probs[0]),
            logps_rejected: mean(&|of| of.log_probs[1]),
            rewards_chosen: mean(&|of| of.rewards[0]),
            rewards_rejected: mean(&|of| of.rewards[1]),
            tokens_chosen: mean_tokens(0),
            tokens_rejected: mean_tokens(1),
        }
    }
}
