//! One rollout: answers with their rewards, reference and advantages.

use std::sync::atomic::AtomicBool;

use pcrm_core::data::encode::EncodedPrompt;
use pcrm_core::data::prompts::Prompt as PromptRecord;
use pcrm_core::model::LanguageModel;
use pcrm_core::text::Tokenizer;
use serde::{Deserialize, Serialize};

use super::asked::Questions;
use super::config::OnlineConfig;
use super::pairs::Bounding;
use super::tree::{SampledAnswer, Tree};
use crate::error::Result;
use crate::lanes::Lanes;
use crate::reward_source::{self, AnswerTexts, Answers, Weighted};
use crate::rollout::source::{Pending, RolloutSource, SampleRequest};
use crate::rollout::{Prompt, Sample, Sampling};

/// The prompts of a run: records and tokens.
#[derive(Debug, Clone, Default)]
pub struct Prompts {
    /// Records, for reward sources.
    pub records: Vec<PromptRecord>,
    /// Tokens, with the number of their record.
    pub encoded: Vec<EncodedPrompt>,
    /// Prompts with the random numbers of their samples.
    pub numbered: Vec<Prompt>,
    /// Number of tokens of each prompt.
    pub sizes: Vec<usize>,
}

impl Prompts {
    /// Creates prompts from their records and tokens.
    pub fn new(records: Vec<PromptRecord>, encoded: Vec<EncodedPrompt>) -> Self {
        let numbered = crate::rollout::numbered(encoded.iter().map(|prompt| prompt.ids.clone()));
        let sizes = encoded.iter().map(|prompt| prompt.ids.len()).collect();
        Self { records, encoded, numbered, sizes }
    }

    pub(super) fn record(&self, at: usize) -> &PromptRecord {
        &self.records[self.encoded[at].row]
    }
}

/// The components of a rollout besides the policy.
pub(super) struct Roller<'a> {
    pub config: &'a OnlineConfig,
    pub tokenizer: &'a Tokenizer,
    pub rewards: &'a mut Weighted,
    pub reference: Option<&'a LanguageModel>,
    pub micro_tokens: usize,
    pub bounding: Option<Bounding<'a>>,
    /// The processes that answers and their scores are dealt to, by prompt.
    pub lanes: Lanes,
    pub interrupted: &'a AtomicBool,
}

/// Prompts with their scored samples.
#[derive(Clone, Default)]
pub(super) struct Rollout {
    /// Indices of the prompts.
    pub items: Vec<usize>,
    /// Samples of every prompt.
    pub samples: Vec<Vec<Sample>>,
    pub scored: ScoredRollout,
}

/// The texts and rewards of a rollout's answers.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct ScoredRollout {
    pub texts: Vec<AnswerTexts>,
    pub rewards: reward_source::Rewards,
}

impl ScoredRollout {
    /// Appends the texts and rewards of further answers.
    pub fn append(&mut self, more: Self) {
        self.texts.extend(more.texts);
        self.rewards.append(more.rewards);
    }
}

/// The parameters of sampling answers to prompts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draws {
    /// Number of answers to each prompt.
    pub samples: usize,
    pub sampling: Sampling,
    /// Version of the policy.
    pub version: u64,
    /// Number of passes over the prompts before this one.
    pub pass: u64,
}

impl Roller<'_> {
    /// Samples answers to these prompts.
    pub fn sample(
        &self,
        source: &mut dyn RolloutSource,
        prompts: &Prompts,
        items: &[usize],
        draws: Draws,
    ) -> Result<Vec<Vec<Sample>>> {
        let pending = self.begin(source, prompts, items, draws)?;
        self.finish(source, pending, items.len(), self.interrupted)
    }

    /// Asks for answers to this process's share of these prompts.
    pub fn begin(
        &self,
        source: &mut dyn RolloutSource,
        prompts: &Prompts,
        items: &[usize],
        draws: Draws,
    ) -> Result<Pending> {
        let Draws { samples, sampling, version, pass } = draws;
        let own = &items[self.lanes.share_of(items.len())];
        let prompts = own.iter().map(|item| prompts.numbered[*item].clone()).collect();
        source.begin(SampleRequest { prompts, samples, sampling, version, pass })
    }

    /// Waits for the answers to `count` prompts, and gathers those of all processes.
    pub fn finish(
        &self,
        source: &mut dyn RolloutSource,
        pending: Pending,
        count: usize,
        interrupted: &AtomicBool,
    ) -> Result<Vec<Vec<Sample>>> {
        self.lanes.dealt(count, |_| source.finish(pending, interrupted))
    }

    /// Scores answers to these prompts after `step` updates.
    pub fn score(
        &mut self,
        prompts: &Prompts,
        items: &[usize],
        samples: &[Vec<Sample>],
        step: u64,
    ) -> Result<ScoredRollout> {
        let lanes = self.lanes.clone();
        let of_ranks = lanes.shares(items.len(), |own| match own.is_empty() {
            true => Ok(ScoredRollout::default()),
            false => self.scored(prompts, &items[own.clone()], &samples[own], step),
        })?;
        let mut all = ScoredRollout::default();
        of_ranks.into_iter().for_each(|scored| all.append(scored));
        Ok(all)
    }

    fn scored(
        &mut self,
        prompts: &Prompts,
        items: &[usize],
        samples: &[Vec<Sample>],
        step: u64,
    ) -> Result<ScoredRollout> {
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
        Ok(ScoredRollout { texts, rewards })
    }

    /// Returns ln π − ln π_ref of every answer, summed over its tokens: estimates of the KL divergence.
    pub fn divergences(
        &self,
        prompts: &Prompts,
        items: &[usize],
        samples: Vec<Vec<Sample>>,
        reference: &LanguageModel,
    ) -> Result<Vec<f64>> {
        let trees = self.bare(prompts, items, samples);
        let numbers = self.log_probs(reference, &trees, self.config.sampling.filters.temperature)?;
        let answers = trees.iter().flat_map(|tree| &tree.answers);
        Ok(answers
            .zip(numbers)
            .map(|(answer, of)| answer.sampled.iter().zip(of).map(|(p, q)| p - q).sum())
            .collect())
    }

    /// Returns ln π of the tokens of every answer of these trees, without history.
    pub fn log_probs(
        &self,
        model: &LanguageModel,
        trees: &[Tree],
        temperature: f64,
    ) -> Result<Vec<Vec<f64>>> {
        self.lanes.dealt(trees.len(), |own| {
            let trees: Vec<&Tree> = trees[own].iter().collect();
            Questions { trees: &trees, temperature, micro_tokens: self.micro_tokens }.log_probs(model)
        })
    }

    /// Returns trees of samples, without rewards.
    pub fn bare(&self, prompts: &Prompts, items: &[usize], samples: Vec<Vec<Sample>>) -> Vec<Tree> {
        let foreign = !self.config.rollouts.source.is_own();
        let answer = |sample: Sample| SampledAnswer {
            foreign,
            sampled: sample.log_probs.iter().map(|p| f64::from(*p)).collect(),
            ended: sample.finish.is_ended(),
            ids: sample.ids,
            ..SampledAnswer::default()
        };
        let tree = |(item, samples): (&usize, Vec<Sample>)| Tree {
            origin: prompts.record(*item).origin.to_string(),
            prompt: prompts.numbered[*item].ids.clone(),
            answers: samples.into_iter().map(answer).collect(),
            pair: None,
        };
        items.iter().zip(samples).map(tree).collect()
    }
}
