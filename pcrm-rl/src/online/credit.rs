//! Credit assignment: advantages of answers or tokens, or pairs of answers, from the rewards of a rollout.

use pcrm_core::model::RewardModel;

use super::asked::Questions;
use super::config::Algorithm;
use super::pairs::{OnlineDpoConfig, PairTexts};
use super::rollout::{Prompts, Roller, Rollout};
use super::tree::{CriticValues, SampledAnswer, Tree};
use crate::advantage::{Advantages, Episode, Rewards, best_and_worst};
use crate::error::Result;
use crate::loss::policy::{PpoConfig, Sampled, explained_variance};
use crate::loss::preference::Pair;
use crate::metrics::{Completion, Metrics};
use crate::options::refuse;
use crate::reward_source::Combine;

impl Roller<'_> {
    /// Records the metrics that all algorithms share: lengths, ends and rewards.
    pub fn record(&self, rollout: &Rollout, metrics: &mut Metrics) -> Result<()> {
        let rewards = &rollout.scored.rewards;
        let completions: Vec<Completion> = rollout
            .samples
            .iter()
            .flatten()
            .zip(&rewards.total)
            .map(|(sample, reward)| Completion {
                tokens: sample.ids.len(),
                ended: sample.finish.is_ended(),
                reward: reward.map(f64::from),
            })
            .collect();
        metrics.completions(&completions);
        for (name, values) in &rewards.logs {
            values.iter().for_each(|value| metrics.mean(name.clone(), f64::from(*value), 1.0));
        }
        let unscored = rewards.total.iter().filter(|total| total.is_none()).count();
        metrics.sum("completions/unscored", unscored as f64);
        by_source(rollout, self.rewards.combine())?.record(metrics);
        Ok(())
    }

    /// Assigns credit to every answer by the algorithm; `coefficient` is the current coefficient of an
    /// adaptive KL penalty. Returns the mean over answers of the KL divergence from the reference, summed
    /// over tokens, if there is a reference.
    pub fn credit(
        &self,
        rollout: &Rollout,
        trees: &mut [Tree],
        critic: Option<&RewardModel>,
        coefficient: f64,
        metrics: &mut Metrics,
    ) -> Result<Option<f64>> {
        let (group, combine) = (self.config.num_generations, self.rewards.combine());
        let found = match &self.config.algorithm {
            Algorithm::Ppo(config) => {
                return self.ppo(config, rollout, trees, critic, coefficient, metrics).map(Some);
            }
            Algorithm::OnlineDpo(config) => return Ok(outcomes(config, rollout, trees, group, metrics)),
            Algorithm::Grpo(config) => {
                let found = config.advantages.of(&by_source(rollout, combine)?, group)?;
                found.record(metrics);
                found
            }
            Algorithm::Rloo(config) => {
                let sampled: Vec<Sampled<'_>> = answers(trees)
                    .map(|answer| Sampled {
                        log_probs: answer.before(),
                        reference: answer.reference.as_deref().unwrap_or_default(),
                        ended: answer.ended,
                    })
                    .collect();
                config.advantages(&by_source(rollout, combine)?, &sampled, group, metrics)?
            }
        };
        give(trees, found);
        let divergences: Vec<f64> = answers(trees).filter_map(divergence).collect();
        divergences.iter().for_each(|kl| metrics.mean("objective/kl", *kl, 1.0));
        Ok((!divergences.is_empty()).then(|| divergences.iter().sum::<f64>() / divergences.len() as f64))
    }

    /// Computes advantages and returns of tokens with a critic. An unscored answer is left out.
    fn ppo(
        &self,
        config: &PpoConfig,
        rollout: &Rollout,
        trees: &mut [Tree],
        critic: Option<&RewardModel>,
        coefficient: f64,
        metrics: &mut Metrics,
    ) -> Result<f64> {
        let Some(critic) = critic else {
            return refuse("critic", "PPO needs one".into());
        };
        let values = self.lanes.dealt(trees.len(), |own| {
            let trees: Vec<&Tree> = trees[own].iter().collect();
            let questions = Questions { trees: &trees, temperature: 1.0, micro_tokens: self.micro_tokens };
            questions.values(critic)
        })?;
        let totals = &rollout.scored.rewards.total;
        let scored: Vec<(usize, f64)> =
            totals.iter().enumerate().filter_map(|(at, total)| Some((at, f64::from((*total)?)))).collect();
        if scored.is_empty() {
            let message = format!("no source scored any of the {} answers of a rollout", totals.len());
            refuse("reward", message)?;
        }
        let all: Vec<&SampledAnswer> = answers(trees).collect();
        let episodes: Vec<Episode<'_>> = scored
            .iter()
            .map(|(at, score)| Episode {
                log_probs: all[*at].before(),
                reference: all[*at].reference.as_deref().unwrap_or_default(),
                values: &values[*at],
                score: *score,
                ended: all[*at].ended,
            })
            .collect();
        let found = config.returns(&episodes, coefficient, metrics)?;
        metrics.mean("objective/kl_coef", coefficient, 1.0);
        let kept = episodes.iter().zip(&found.returns).filter(|(episode, _)| !config.masks(episode.ended));
        let explained =
            explained_variance(kept.map(|(episode, returns)| (episode.values, returns.as_slice())));
        explained.into_iter().for_each(|share| metrics.mean("val/explained_variance", share, 1.0));
        let mut judged: Vec<Option<CriticValues>> = vec![None; totals.len()];
        for (((at, _), advantages), returns) in scored.iter().zip(found.advantages).zip(found.returns) {
            let left_out = config.masks(all[*at].ended);
            let returns = if left_out { Vec::new() } else { returns };
            judged[*at] = Some(CriticValues { values: values[*at].clone(), advantages, returns });
        }
        for (answer, judged) in trees.iter_mut().flat_map(|tree| &mut tree.answers).zip(judged) {
            answer.unscored = judged.is_none();
            answer.advantage = judged.as_ref().map_or(0.0, |judged| {
                judged.advantages.iter().sum::<f64>() / judged.advantages.len().max(1) as f64
            });
            answer.judged = judged;
        }
        Ok(found.kl)
    }

    /// Reduces every tree to its best and worst answer, a pair with its bound. A prompt without a pair (equal
    /// rewards, if these are dropped; equal answers; fewer than two scored ones) keeps two answers, whose
    /// pair has weight 0.
    pub fn pair_up(
        &self,
        config: &OnlineDpoConfig,
        prompts: &Prompts,
        rollout: &Rollout,
        trees: &mut [Tree],
        metrics: &mut Metrics,
    ) -> Result<()> {
        let group = self.config.num_generations;
        let found = best_and_worst(&shaped(config, rollout), group, config.tied_samples)?;
        found.record(metrics);
        let mut places: Vec<(usize, usize, f64)> = vec![(0, 1, 0.0); trees.len()];
        for pair in &found.pairs {
            let tree = pair.chosen / group;
            let (chosen, rejected) = (pair.chosen % group, pair.rejected % group);
            let same = trees[tree].answers[chosen].ids == trees[tree].answers[rejected].ids;
            places[tree] = (chosen, rejected, if same { 0.0 } else { 1.0 });
        }
        let texts: Vec<PairTexts<'_>> = places
            .iter()
            .enumerate()
            .filter(|(_, (_, _, weight))| *weight > 0.0)
            .map(|(tree, (chosen, rejected, _))| {
                let of = |at: usize| {
                    (&rollout.scored.texts[tree * group + at], trees[tree].answers[at].ids.as_slice())
                };
                let prompt = prompts.encoded[rollout.items[tree]].prompt_id;
                PairTexts { prompt, chosen: of(*chosen), rejected: of(*rejected) }
            })
            .collect();
        let bounds = match &self.bounding {
            Some(bounding) => bounding.bounds(&texts)?,
            None => vec![f64::INFINITY; texts.len()],
        };
        let mut bounds = bounds.into_iter();
        for (tree, (chosen, rejected, weight)) in trees.iter_mut().zip(places) {
            let bound = if weight > 0.0 { bounds.next().unwrap_or(f64::INFINITY) } else { f64::INFINITY };
            let two = [chosen, rejected].map(|at| std::mem::take(&mut tree.answers[at]));
            tree.answers = two.into();
            tree.pair = Some(Pair { chosen: 0, rejected: 1, bound, weight });
        }
        Ok(())
    }
}

/// Returns the rewards of a rollout by source, with the combined ones unless they are weighted sums.
pub(super) fn by_source(rollout: &Rollout, combine: Combine) -> Result<Rewards> {
    let sources = &rollout.scored.rewards.sources;
    let rows = (0..rollout.scored.texts.len())
        .map(|row| sources.iter().map(|source| source.rewards[row].map(f64::from)).collect());
    let rewards = Rewards::new(
        sources.iter().map(|source| source.name.clone()).collect(),
        sources.iter().map(|source| source.weight).collect(),
        rows.collect(),
    )?;
    match combine {
        // Summed there in f64.
        Combine::Sum => Ok(rewards),
        Combine::Min => {
            rewards.combined(rollout.scored.rewards.total.iter().map(|total| total.map(f64::from)).collect())
        }
    }
}

/// Returns the rewards of a rollout, clipped, less the penalty for answers that were cut off.
fn shaped(config: &OnlineDpoConfig, rollout: &Rollout) -> Vec<Option<f64>> {
    let samples = rollout.samples.iter().flatten();
    samples
        .zip(&rollout.scored.rewards.total)
        .map(|(sample, total)| {
            total.map(|total| config.shaping.shaped(f64::from(total), sample.finish.is_ended()))
        })
        .collect()
}

/// Records the scores of all answers and the divergences of those in pairs, and sets their advantages to ±1
/// for the table of samples.
fn outcomes(
    config: &OnlineDpoConfig,
    rollout: &Rollout,
    trees: &mut [Tree],
    group: usize,
    metrics: &mut Metrics,
) -> Option<f64> {
    let scores = shaped(config, rollout);
    let mut divergences = Vec::new();
    for tree in trees.iter_mut() {
        let weight = tree.pair.map_or(0.0, |pair| pair.weight);
        for (answer, sign) in tree.answers.iter_mut().zip([1.0, -1.0]) {
            answer.advantage = sign * weight;
            divergences.extend(divergence(answer));
        }
    }
    for (at, score) in scores.iter().enumerate() {
        let sample = rollout.samples.get(at / group).and_then(|samples| samples.get(at % group));
        let (Some(score), Some(sample)) = (score, sample) else { continue };
        metrics.mean("objective/scores", *score, 1.0);
        metrics.mean("val/contain_eos_token", f64::from(u8::from(sample.finish.is_ended())), 1.0);
    }
    divergences.iter().for_each(|kl| metrics.mean("objective/kl", *kl, 1.0));
    (!divergences.is_empty()).then(|| divergences.iter().sum::<f64>() / divergences.len() as f64)
}

/// Sets the advantage of every answer.
fn give(trees: &mut [Tree], advantages: Advantages) {
    let answers = trees.iter_mut().flat_map(|tree| &mut tree.answers);
    answers.zip(advantages.values).for_each(|(answer, advantage)| answer.advantage = advantage);
}

fn answers(trees: &[Tree]) -> impl Iterator<Item = &SampledAnswer> {
    trees.iter().flat_map(|tree| &tree.answers)
}

/// Returns Σ ln π − ln π_ref over an answer's tokens; `None` without a reference.
fn divergence(answer: &SampledAnswer) -> Option<f64> {
    let reference = answer.reference.as_ref()?;
    Some(answer.before().iter().zip(reference).map(|(policy, reference)| policy - reference).sum())
}
