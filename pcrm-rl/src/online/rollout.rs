//! One rollout: answers, their rewards, their reference, their advantages.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use pcrm_core::data::encode::EncodedPrompt;
use pcrm_core::data::prompts::Prompt as Asked;
use pcrm_core::model::LanguageModel;
use pcrm_core::text::Tokenizer;

use super::config::{Algorithm, OnlineConfig};
use super::step::{Answer, Asked as Batch, Tree};
use crate::advantage::{Advantages, Rewards};
use crate::error::Result;
use crate::loss::policy::Sampled;
use crate::metrics::{Completion, Metrics};
use crate::reward_source::{self, AnswerTexts, Answers, Weighted};
use crate::rollout::{Engine, Progress, Prompt, Sample, Sampling, Stop, Watch};
use pcrm_core::tree::within_budget;

/// The prompts of a run: their records and their tokens.
#[derive(Debug, Clone, Default)]
pub struct Prompts {
    /// The records, which reward sources read.
    pub records: Vec<Asked>,
    /// The tokens, with the number of their record.
    pub encoded: Vec<EncodedPrompt>,
    /// The numbers that samples are drawn by.
    pub numbered: Vec<Prompt>,
    /// The tokens of each prompt.
    pub sizes: Vec<usize>,
}

impl Prompts {
    /// Prompts with their records.
    pub fn new(records: Vec<Asked>, encoded: Vec<EncodedPrompt>) -> Self {
        let numbered = crate::rollout::numbered(encoded.iter().map(|prompt| prompt.ids.clone()));
        let sizes = encoded.iter().map(|prompt| prompt.ids.len()).collect();
        Self { records, encoded, numbered, sizes }
    }

    pub(super) fn record(&self, at: usize) -> &Asked {
        &self.records[self.encoded[at].row]
    }
}

/// The parts of a rollout besides the policy.
pub(super) struct Roller<'a> {
    pub config: &'a OnlineConfig,
    pub tokenizer: &'a Tokenizer,
    pub stop: &'a Stop<'a>,
    pub rewards: &'a mut Weighted,
    pub reference: Option<&'a LanguageModel>,
    pub micro_tokens: usize,
    pub interrupted: &'a AtomicBool,
}

/// The texts and rewards of a rollout's answers.
pub(super) struct Scored {
    pub texts: Vec<AnswerTexts>,
    pub rewards: reward_source::Rewards,
}

struct Collected<'a> {
    samples: Vec<Vec<Sample>>,
    interrupted: &'a AtomicBool,
}

impl Watch for Collected<'_> {
    fn done(&mut self, _prompt: usize, samples: Vec<Sample>) -> Result<()> {
        self.samples.push(samples);
        Ok(())
    }

    fn step(&mut self, _progress: &Progress) -> ControlFlow<()> {
        match self.interrupted.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Roller<'_> {
    /// Samples answers of these prompts from the policy.
    pub fn sample(
        &self,
        engine: &mut Engine,
        policy: &LanguageModel,
        prompts: &Prompts,
        items: &[usize],
        (samples, sampling): (usize, Sampling),
    ) -> Result<Vec<Vec<Sample>>> {
        let asked: Vec<Prompt> = items.iter().map(|item| prompts.numbered[*item].clone()).collect();
        let mut collected = Collected { samples: Vec::new(), interrupted: self.interrupted };
        engine.run(policy.decoder(), &asked, samples, &sampling, self.stop, &mut collected)?;
        Ok(collected.samples)
    }

    /// Scores answers of these prompts after `step` updates.
    pub fn score(
        &mut self,
        prompts: &Prompts,
        items: &[usize],
        samples: &[Vec<Sample>],
        step: u64,
    ) -> Result<Scored> {
        let mut texts = Vec::new();
        for (item, samples) in items.iter().zip(samples) {
            for sample in samples {
                texts.push(AnswerTexts::decode(self.tokenizer, &prompts.numbered[*item].ids, &sample.ids)?);
            }
        }
        let flat =
            items.iter().zip(samples).flat_map(|(item, samples)| samples.iter().map(move |one| (*item, one)));
        let rows: Vec<reward_source::Answer<'_>> = flat
            .zip(&texts)
            .map(|((item, sample), texts)| reward_source::Answer {
                prompt: prompts.record(item),
                texts,
                completion_ids: &sample.ids,
                ended: sample.finish.is_ended(),
            })
            .collect();
        let rewards = self.rewards.score(&Answers { step, rows: &rows })?;
        Ok(Scored { texts, rewards })
    }

    /// Makes trees of samples, with the reference's log-probabilities and the advantages.
    pub fn trees(
        &self,
        prompts: &Prompts,
        items: &[usize],
        samples: Vec<Vec<Sample>>,
        scored: &Scored,
        metrics: &mut Metrics,
    ) -> Result<Vec<Tree>> {
        let mut trees = self.bare(prompts, items, samples);
        if let Some(reference) = self.reference {
            let temperature = self.config.sampling.filters.temperature;
            let numbers = log_probs(reference, &trees, temperature, self.micro_tokens)?;
            let mut numbers = numbers.into_iter();
            trees
                .iter_mut()
                .flat_map(|tree| &mut tree.answers)
                .for_each(|answer| answer.reference = numbers.next());
        }
        let advantages = self.advantages(&trees, scored, metrics)?;
        let mut values = advantages.values.into_iter();
        trees
            .iter_mut()
            .flat_map(|tree| &mut tree.answers)
            .for_each(|answer| answer.advantage = values.next().unwrap_or_default());
        Ok(trees)
    }

    /// ln π − ln π_ref of every answer, summed over its tokens: estimates of the KL divergence.
    pub fn divergences(
        &self,
        prompts: &Prompts,
        items: &[usize],
        samples: Vec<Vec<Sample>>,
        reference: &LanguageModel,
    ) -> Result<Vec<f64>> {
        let trees = self.bare(prompts, items, samples);
        let numbers =
            log_probs(reference, &trees, self.config.sampling.filters.temperature, self.micro_tokens)?;
        let answers = trees.iter().flat_map(|tree| &tree.answers);
        Ok(answers
            .zip(numbers)
            .map(|(answer, of)| answer.sampled.iter().zip(of).map(|(p, q)| p - q).sum())
            .collect())
    }

    /// Trees of samples, without rewards.
    fn bare(&self, prompts: &Prompts, items: &[usize], samples: Vec<Vec<Sample>>) -> Vec<Tree> {
        let answer = |sample: Sample| Answer {
            sampled: sample.log_probs.iter().map(|p| f64::from(*p)).collect(),
            ended: sample.finish.is_ended(),
            ids: sample.ids,
            ..Answer::default()
        };
        let tree = |(item, samples): (&usize, Vec<Sample>)| Tree {
            origin: prompts.record(*item).origin.to_string(),
            prompt: prompts.numbered[*item].ids.clone(),
            answers: samples.into_iter().map(answer).collect(),
        };
        items.iter().zip(samples).map(tree).collect()
    }

    fn advantages(&self, trees: &[Tree], scored: &Scored, metrics: &mut Metrics) -> Result<Advantages> {
        let sources = &scored.rewards.sources;
        let count = scored.texts.len();
        let rows =
            (0..count).map(|row| sources.iter().map(|source| source.rewards[row].map(f64::from)).collect());
        let rewards = Rewards::new(
            sources.iter().map(|source| source.name.clone()).collect(),
            sources.iter().map(|source| source.weight).collect(),
            rows.collect(),
        )?;
        let answers: Vec<&Answer> = trees.iter().flat_map(|tree| &tree.answers).collect();
        let completions: Vec<Completion> = answers
            .iter()
            .zip(&scored.rewards.total)
            .map(|(answer, reward)| Completion {
                tokens: answer.ids.len(),
                ended: answer.ended,
                reward: reward.map(f64::from),
            })
            .collect();
        metrics.completions(&completions);
        for (name, values) in &scored.rewards.logs {
            values.iter().for_each(|value| metrics.mean(name.clone(), f64::from(*value), 1.0));
        }
        let group = self.config.num_generations;
        match &self.config.algorithm {
            Algorithm::Grpo(config) => {
                let found = config.advantages.of(&rewards, group)?;
                rewards.record(metrics);
                found.record(metrics);
                Ok(found)
            }
            Algorithm::Rloo(config) => {
                let sampled: Vec<Sampled<'_>> = answers
                    .iter()
                    .map(|answer| Sampled {
                        log_probs: &answer.sampled,
                        reference: answer.reference.as_deref().unwrap_or_default(),
                        ended: answer.ended,
                    })
                    .collect();
                config.advantages(&rewards, &sampled, group, metrics)
            }
        }
    }
}

/// ln π of the tokens of every answer of these trees, without history.
pub(super) fn log_probs(
    model: &LanguageModel,
    trees: &[Tree],
    temperature: f64,
    micro_tokens: usize,
) -> Result<Vec<Vec<f64>>> {
    let model = model.detached();
    let size =
        |tree: &Tree| tree.prompt.len() + tree.answers.iter().map(|answer| answer.ids.len()).sum::<usize>();
    let mut all = Vec::new();
    for part in within_budget(trees, micro_tokens, size) {
        let of_part: Vec<&Tree> = part.iter().collect();
        all.extend(Batch::new(&of_part, model.config().shares_up_to())?.log_probs(&model, temperature)?);
    }
    Ok(all)
}
