//! KTO: single desirable or undesirable answers, relative to a reference (arXiv 2402.01306).

use pcrm_core::data::encode::{EncodedAnswer, EncodedCompletion, EncodedSet};
use pcrm_core::model::LanguageModel;

use super::head::{self, HeadStats};
use super::{Forward, Objective, Pass, TokenCounts};
use crate::answers::{AnswerBatch, predicted};
use crate::error::Result;
use crate::loss::preference::kto::{KtoConfig, KtoLoss};
use crate::metrics::Metrics;
use crate::options::refuse;
use crate::reference::{AnswerLogProbs, token_log_probs};
use crate::score::within_vocabulary;

/// The number of answers whose log-probabilities are compared after reloading the saved model.
const CHECKED: usize = 4;

/// Labelled answers, and for each prompt an answer to another prompt, for estimating the divergence from the
/// reference.
#[derive(Debug, Clone, Default)]
pub struct LabelledAnswers {
    /// Answers, each as a set of one.
    pub own: Vec<EncodedSet>,
    /// The same prompts, each with an answer to the prompt before it (the last one comes before the first), so
    /// that no answer is to its own prompt. A pair's prompt gets the answers of the pair before.
    pub mismatched: Vec<EncodedSet>,
    /// True for a desirable answer.
    pub desirable: Vec<bool>,
    reference: [AnswerLogProbs; 2],
    sizes: Vec<usize>,
}

impl LabelledAnswers {
    /// Creates labelled answers in the order of their files; mismatched sequences are cut to `most` tokens.
    pub fn new(items: &[EncodedCompletion], desirable: Vec<bool>, most: usize) -> Self {
        let own: Vec<EncodedSet> = items.iter().map(|item| alone(item, item.ids.clone())).collect();
        let mismatched = items.iter().zip(others(items)).map(|(item, other)| {
            let other = &items[other];
            let mut ids = [&item.ids[..begin(item)], &other.ids[begin(other)..]].concat();
            ids.truncate(most.max(begin(item) + 1));
            alone(item, ids)
        });
        Self {
            mismatched: mismatched.collect(),
            sizes: items.iter().map(|item| item.ids.len()).collect(),
            own,
            desirable,
            reference: [Vec::new(), Vec::new()],
        }
    }

    /// Adds the reference's log-probabilities of the answers, and of the mismatched ones.
    ///
    /// # Errors
    /// Fails if the log-probabilities do not match the answers in number and length.
    pub fn beside(mut self, own: AnswerLogProbs, mismatched: AnswerLogProbs) -> Result<Self> {
        for (sets, numbers) in [(&self.own, &own), (&self.mismatched, &mismatched)] {
            let fits = |(set, of): (&EncodedSet, &Vec<Vec<f32>>)| {
                of.len() == 1 && of[0].len() == predicted(&set.answers[0]).len()
            };
            if numbers.len() != sets.len() || !sets.iter().zip(numbers).all(fits) {
                refuse("reference", "has log-probabilities of other answers than the data".into())?;
            }
        }
        self.reference = [own, mismatched];
        Ok(self)
    }

    /// Returns the numbers of desirable and undesirable answers.
    pub fn counts(&self) -> [usize; 2] {
        let desirable = self.desirable.iter().filter(|label| **label).count();
        [desirable, self.desirable.len() - desirable]
    }
}

/// Returns for each row a row of the prompt before its own, cyclically, and the row before it if all prompts are
/// equal. The rows of a prompt are consecutive, and each gets the row at its own place: a pair's preferred
/// answer a preferred one, as in TRL.
fn others(items: &[EncodedCompletion]) -> Vec<usize> {
    let count = items.len();
    let before = |at: usize| (at + count - 1) % count;
    let starts: Vec<usize> =
        (0..count).filter(|at| items[*at].prompt_id != items[before(*at)].prompt_id).collect();
    let length = |group: usize| (starts[(group + 1) % starts.len()] + count - starts[group]) % count;
    let mut others: Vec<usize> = (0..count).map(before).collect();
    for (group, start) in starts.iter().enumerate() {
        let earlier = (group + starts.len() - 1) % starts.len();
        for place in 0..length(group) {
            let same_place = place.min(length(earlier) - 1);
            others[(start + place) % count] = (starts[earlier] + same_place) % count;
        }
    }
    others
}

/// Returns the start of a completion's tokens.
fn begin(item: &EncodedCompletion) -> usize {
    item.trained.first().map_or(item.ids.len(), |range| range.start)
}

fn alone(item: &EncodedCompletion, ids: Vec<u32>) -> EncodedSet {
    EncodedSet {
        row: item.row,
        origin: item.origin.clone(),
        prompt_id: item.prompt_id,
        shared: 0,
        answers: vec![EncodedAnswer { ids, answer_start: begin(item) }],
        comparisons: Vec::new(),
    }
}

/// The objective of `pcrm kto`: the mean loss over the answers of a step. The reference point is estimated on
/// the step's mismatched answers, without gradient. The routers' loss of a mixture of experts is added as in
/// [`Dpo`](super::dpo::Dpo).
#[derive(Debug, Clone, Default)]
pub struct Kto {
    /// The loss.
    pub config: KtoConfig,
}

impl Objective for Kto {
    type Model = LanguageModel;
    type Data = LabelledAnswers;
    type Config = KtoConfig;

    fn sizes<'d>(&self, data: &'d LabelledAnswers) -> &'d [usize] {
        &data.sizes
    }

    fn origin(&self, data: &LabelledAnswers, item: usize) -> String {
        data.own[item].origin.to_string()
    }

    fn check(&self, data: &LabelledAnswers, model: &LanguageModel) -> Result<()> {
        if data.own.is_empty() {
            return refuse("data", "no answer is left to train on".into());
        }
        let one_prompt = data.own.iter().all(|set| set.prompt_id == data.own[0].prompt_id);
        if one_prompt && self.config.kto_loss == KtoLoss::Kto {
            let message =
                "has one prompt; kto needs the answer to another prompt to estimate its reference point";
            return refuse("data", message.into());
        }
        within_vocabulary(&data.own, model.config().vocabulary)
    }

    fn forward(
        &self,
        model: &LanguageModel,
        data: &LabelledAnswers,
        items: &[usize],
        pass: &Pass<'_>,
        metrics: &mut Metrics,
    ) -> Result<Forward> {
        let kl = match self.config.kto_loss {
            KtoLoss::Kto => self.config.reference_point(pass.statistics),
            KtoLoss::ApoZeroUnpaired => 0.0,
        };
        let sets: Vec<&EncodedSet> = items.iter().map(|item| &data.own[*item]).collect();
        let batch = AnswerBatch::new(&sets, false, model.config().shares_up_to())?;
        let HeadStats { stats, mean_logits, routers, .. } = head::ask(model, &batch, false)?;
        let log_probs = stats.log_probs.read()?.into_f32();
        let entropies = stats.entropy.map(|entropy| entropy.read()).transpose()?;
        let entropies = entropies.map_or_else(Vec::new, |entropy| entropy.into_f32());
        let sum = |values: &[f32]| values.iter().copied().map(f64::from).sum::<f64>();
        let mut slopes = vec![0.0; log_probs.len()];
        let mut total = 0.0;
        for (item, range) in items.iter().zip(&batch.answers) {
            let policy = sum(&log_probs[range.clone()]);
            let reference = data.reference[0].get(*item).map_or(0.0, |of| sum(&of[0]));
            let desirable = data.desirable[*item];
            let loss = self.config.answer(policy - reference, desirable, kl);
            total += loss.value;
            slopes[range.clone()].iter_mut().for_each(|slope| *slope = pass.share * loss.slope);
            let reward = self.config.beta * (policy - reference);
            let [named_rewards, named_log_probs, named_logits] = match desirable {
                true => ["rewards/chosen", "logps/chosen", "logits/chosen"],
                false => ["rewards/rejected", "logps/rejected", "logits/rejected"],
            };
            metrics.mean(named_rewards, reward, 1.0);
            metrics.difference("rewards/margins", reward, desirable);
            metrics.mean(named_log_probs, policy, 1.0);
            let tokens = range.len().max(1) as f64;
            for (name, values) in [(named_logits, &mean_logits), ("entropy", &entropies)] {
                if let Some(values) = values.get(range.clone()) {
                    metrics.mean(name, sum(values) / tokens, tokens);
                }
            }
        }
        metrics.mean("loss", total / items.len() as f64, items.len() as f64);
        metrics.mean("kl", kl, items.len() as f64);
        let tokens = TokenCounts {
            separate: batch.packed.tree.unshared_rows(),
            unique: batch.packed.ids.len(),
            longest: batch.longest,
            sequences: batch.answers.len(),
        };
        let made = Forward { outputs: vec![(stats.log_probs, slopes)], tokens };
        made.with_routers(routers, items.len() as f64, 1.0 / pass.share, pass, metrics)
    }

    fn probe(&self, model: &LanguageModel, data: &LabelledAnswers) -> Result<Vec<(String, f32)>> {
        let model = model.detached();
        let of = |set: &EncodedSet| {
            let answers = token_log_probs(&model, &[set])?;
            Ok((set.origin.to_string(), answers.concat().iter().sum()))
        };
        data.own.iter().take(CHECKED).map(of).collect()
    }

    fn has_statistics(&self) -> bool {
        self.config.kto_loss == KtoLoss::Kto
    }

    /// Returns the log-ratios of the mismatched answers, whose mean is the reference point.
    fn statistics(&self, model: &LanguageModel, data: &LabelledAnswers, items: &[usize]) -> Result<Vec<f64>> {
        let sets: Vec<&EncodedSet> = items.iter().map(|item| &data.mismatched[*item]).collect();
        let policy = token_log_probs(&model.detached(), &sets)?;
        let sum = |values: &[f32]| values.iter().copied().map(f64::from).sum::<f64>();
        let ratio = |(item, of): (&usize, &Vec<f32>)| {
            sum(of) - data.reference[1].get(*item).map_or(0.0, |of| sum(&of[0]))
        };
        Ok(items.iter().zip(&policy).map(ratio).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use pcrm_core::data::prompt_id::PromptId;
    use pcrm_core::data::report::Origin;

    use super::*;

    /// Returns an answer of one token to a prompt of one token.
    fn row(row: usize, prompt: u32, answer: u32) -> EncodedCompletion {
        let line = row as u64 + 1;
        EncodedCompletion {
            row,
            origin: Origin { file: Arc::from(Path::new("rows.jsonl")), line, record: line },
            prompt_id: PromptId::of_text(&prompt.to_string()),
            ids: vec![prompt, answer],
            trained: std::iter::once(1..2).collect(),
        }
    }

    fn mismatched(rows: &[(u32, u32)]) -> Vec<Vec<u32>> {
        let items: Vec<EncodedCompletion> =
            rows.iter().enumerate().map(|(at, (prompt, answer))| row(at, *prompt, *answer)).collect();
        let answers = LabelledAnswers::new(&items, vec![true; rows.len()], 8);
        answers.mismatched.iter().map(|set| set.answers[0].ids.clone()).collect()
    }

    /// Protects: the reference point is estimated on answers to other prompts; the answers of a pair get those of
    /// another pair in the same order, and different prompts the previous row's answer, as in TRL.
    #[test]
    fn mismatched_answers_are_to_other_prompts() {
        assert_eq!(mismatched(&[(1, 11), (2, 12), (3, 13)]), [[1, 13], [2, 11], [3, 12]]);
        assert_eq!(mismatched(&[(1, 11), (1, 12), (2, 13), (2, 14)]), [[1, 13], [1, 14], [2, 11], [2, 12]]);
        // The run of prompt 1 goes from the last row to the second.
        let around = mismatched(&[(1, 11), (1, 12), (2, 13), (3, 14), (1, 15)]);
        assert_eq!(around, [[1, 14], [1, 14], [2, 15], [3, 13], [1, 14]]);
        assert_eq!(mismatched(&[(1, 11), (1, 12)]), [[1, 12], [1, 11]]);
        assert!(mismatched(&[]).is_empty());
    }
}
