//! Direct preference optimisation: losses of the log-probabilities of a pair's answers relative to a
//! reference.

use std::ops::Range;

use pcrm_core::constraint::Constraint;
use pcrm_core::data::encode::EncodedSet;
use pcrm_core::model::LanguageModel;

use super::head::{self, HeadStats};
use super::{Forward, Objective, Pass, TokenCounts, bounds};
use crate::answers::{AnswerBatch, predicted};
use crate::error::Result;
use crate::loss::preference::{AnswerTokens, Pair, PairsLoss, PreferenceConfig};
use crate::metrics::Metrics;
use crate::options::refuse;
use crate::pairs::Pairs;
use crate::reference::{AnswerLogProbs, token_log_probs};
use crate::score::within_vocabulary;

/// The number of sets whose log-probabilities are compared after reloading the saved model.
const CHECKED: usize = 4;

/// Sets of answers with the bounds of their margins, and the reference's log-probabilities of their tokens.
#[derive(Debug, Clone, Default)]
pub struct Preferences {
    /// Sets and bounds.
    pub pairs: Pairs,
    /// ln π_ref of the tokens of every answer of every set; `None` without a reference.
    reference: Option<AnswerLogProbs>,
}

impl Preferences {
    /// Creates sets with a reference's log-probabilities of their answers.
    ///
    /// # Errors
    /// Fails if the log-probabilities do not match the answers of the sets in number and length.
    pub fn new(pairs: Pairs, reference: Option<AnswerLogProbs>) -> Result<Self> {
        if let Some(reference) = &reference {
            let counts =
                pairs.sets.iter().map(|set| set.answers.iter().map(|answer| predicted(answer).len()));
            let found = reference.iter().map(|set| set.iter().map(Vec::len));
            let same = reference.len() == pairs.sets.len() && counts.zip(found).all(|(a, b)| a.eq(b));
            if !same {
                refuse("reference", "has log-probabilities of other answers than the data".into())?;
            }
        }
        Ok(Self { pairs, reference })
    }

    /// Returns ln π_ref of the tokens of an answer; empty without a reference.
    fn reference(&self, set: usize, answer: usize) -> &[f32] {
        self.reference.as_ref().map_or(&[], |sets| &sets[set][answer])
    }

    /// Returns true if the answers have a reference.
    pub fn has_reference(&self) -> bool {
        self.reference.is_some()
    }
}

/// The objective of `pcrm dpo`: the mean loss over sets of answers. The loss of a set is the mean of its
/// comparisons.
///
/// A mixture of experts whose config has `output_router_logits` adds the routers' loss with its coefficient;
/// each micro-batch's is weighted by its sets. A prompt that answers share counts once.
#[derive(Clone, Default)]
pub struct Dpo<'a> {
    /// The loss.
    pub config: PreferenceConfig,
    /// Constraint that loosens its bounds over the run, as in [`Reward`](super::reward::Reward).
    pub schedule: Option<&'a dyn Constraint>,
}

impl Dpo<'_> {
    /// Returns the numbers of tokens of a step over which −ln π is averaged, each weighted by its pair: of
    /// preferred answers, and of preferred answers with their prompts.
    fn learned(&self, data: &Preferences, batch: &[usize]) -> [f64; 2] {
        let mut learned = [0.0; 2];
        for set in batch.iter().map(|set| &data.pairs.sets[*set]) {
            let weight = 1.0 / set.comparisons.len() as f64;
            for comparison in &set.comparisons {
                let answer = &set.answers[comparison.chosen as usize];
                learned[0] += weight * predicted(answer).len() as f64;
                learned[1] += weight * answer.ids.len().saturating_sub(1) as f64;
            }
        }
        learned
    }
}

impl Objective for Dpo<'_> {
    type Model = LanguageModel;
    type Data = Preferences;
    type Config = PreferenceConfig;

    fn sizes<'d>(&self, data: &'d Preferences) -> &'d [usize] {
        data.pairs.unique_tokens()
    }

    fn origin(&self, data: &Preferences, set: usize) -> String {
        data.pairs.sets[set].origin.to_string()
    }

    fn check(&self, data: &Preferences, model: &LanguageModel) -> Result<()> {
        let bounded = data.pairs.bounds.iter().any(|bound| bound.is_finite());
        self.config.check(bounded)?;
        check_sets(&data.pairs.sets)?;
        within_vocabulary(&data.pairs.sets, model.config().vocabulary)?;
        let several = data.pairs.sets.iter().find(|set| set.comparisons.len() > 1);
        if let (Some(set), Some(loss)) = (several, self.config.losses().find(|loss| loss.sorts())) {
            let message = format!(
                "{loss}: sorts pairs, and {} ranks several answers, whose pairs are not independent; \
                 expected pairs",
                set.origin
            );
            return refuse("loss", message);
        }
        Ok(())
    }

    fn forward(
        &self,
        model: &LanguageModel,
        data: &Preferences,
        sets: &[usize],
        pass: &Pass<'_>,
        metrics: &mut Metrics,
    ) -> Result<Forward> {
        let factor = bounds::factor(self.schedule, pass)?;
        let of_sets: Vec<&EncodedSet> = sets.iter().map(|set| &data.pairs.sets[*set]).collect();
        let batch = AnswerBatch::new(&of_sets, self.config.learns_prompts(), model.config().shares_up_to())?;
        let HeadStats { stats, mean_logits, log_sum_squares, routers } =
            head::ask(model, &batch, self.config.use_weighting)?;
        let host = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
        let log_probs = host(stats.log_probs.read()?.into_f32());
        let reference: Vec<Vec<f64>> = sets
            .iter()
            .flat_map(|set| {
                (0..data.pairs.sets[*set].answers.len()).map(|answer| data.reference(*set, answer))
            })
            .map(|of_answer| host(of_answer.to_vec()))
            .collect();
        let answers: Vec<AnswerTokens<'_>> = (0..batch.answers.len())
            .map(|at| AnswerTokens {
                policy: &log_probs[batch.answers[at].clone()],
                reference: &reference[at],
                prompt: &log_probs[batch.prompts[at].clone()],
                alignment: alignment(&log_probs, &log_sum_squares, &batch.answers[at]),
            })
            .collect();
        let pairs = placed(data, sets, factor);
        let learned = self.learned(data, pass.batch);
        let found = self.config.evaluate(&answers, &pairs, pass.share, learned);
        let weight = sets.len() as f64;
        // Parts of a step sum to it: each is its share of the step's mean.
        let of_step = |value: f64| value / (pass.share * weight);
        metrics.mean("loss", of_step(found.total), weight);
        metrics.mean("ranking_loss", of_step(found.ranking), weight);
        metrics.mean("constraint_loss", of_step(found.constraint), weight);
        if self.config.learns_tokens() {
            metrics.mean("nll_loss", of_step(found.likelihood), weight);
        }
        record(&found, &pairs, metrics);
        let entropies = stats.entropy.map(|entropy| entropy.read()).transpose()?;
        let entropies = entropies.map_or_else(Vec::new, |entropy| host(entropy.into_f32()));
        let correct = host(stats.correct.read()?.into_f32());
        for range in &batch.answers {
            of_tokens(metrics, "entropy", &entropies, range);
        }
        let mean_logits = host(mean_logits);
        for pair in &pairs {
            let (chosen, rejected) = (&batch.answers[pair.chosen], &batch.answers[pair.rejected]);
            of_tokens(metrics, "mean_token_accuracy", &correct, chosen);
            of_tokens(metrics, "logits/chosen", &mean_logits, chosen);
            of_tokens(metrics, "logits/rejected", &mean_logits, rejected);
        }
        factor.into_iter().for_each(|factor| metrics.mean("bound_factor", factor, 1.0));
        let tokens = TokenCounts {
            separate: batch.packed.tree.unshared_rows(),
            unique: batch.packed.ids.len(),
            longest: batch.longest,
            sequences: batch.answers.len(),
        };
        let mut slopes = vec![0.0; log_probs.len()];
        let gradients = [(&batch.answers, &found.gradient), (&batch.prompts, &found.prompt_gradient)];
        for (ranges, gradient) in gradients {
            for (range, gradient) in ranges.iter().zip(gradient) {
                slopes[range.clone()].copy_from_slice(gradient);
            }
        }
        let made = Forward { outputs: vec![(stats.log_probs, slopes)], tokens };
        made.with_routers(routers, weight, 1.0 / pass.share, pass, metrics)
    }

    fn probe(&self, model: &LanguageModel, data: &Preferences) -> Result<Vec<(String, f32)>> {
        let model = model.detached();
        let mut numbers = Vec::new();
        for set in data.pairs.sets.iter().take(CHECKED) {
            for answer in token_log_probs(&model, &[set])? {
                numbers.push((set.origin.to_string(), answer.iter().sum()));
            }
        }
        Ok(numbers)
    }

    fn at_once(&self) -> bool {
        self.config.sorts()
    }

    fn depends_on_length(&self) -> Option<&'static str> {
        bounds::depends_on_length(self.schedule)
    }
}

/// Refuses data without pairs, and answers without a token to learn, naming file and line.
fn check_sets(sets: &[EncodedSet]) -> Result<()> {
    if sets.is_empty() {
        return refuse("data", "no pair is left to train on".into());
    }
    let empty = |set: &&EncodedSet| set.answers.iter().any(|answer| predicted(answer).is_empty());
    if let Some(set) = sets.iter().find(empty) {
        let message = "an answer adds no token to its prompt; expected at least one to learn".to_owned();
        let (path, line) = (set.origin.file.to_path_buf(), set.origin.line);
        return Err(pcrm_core::Error::Line { path, line, message }.into());
    }
    Ok(())
}

/// Returns the pairs of these sets, with the indices of their answers in a batch and the current bounds.
fn placed(data: &Preferences, sets: &[usize], factor: Option<f64>) -> Vec<Pair> {
    let factor = factor.unwrap_or(1.0) as f32;
    let (mut pairs, mut first) = (Vec::new(), 0);
    for set in sets {
        let numbers = data.pairs.range(*set);
        let set = &data.pairs.sets[*set];
        for (number, comparison) in numbers.zip(&set.comparisons) {
            pairs.push(Pair {
                chosen: first + comparison.chosen as usize,
                rejected: first + comparison.rejected as usize,
                bound: f64::from(factor * data.pairs.bounds[number]),
                weight: 1.0 / set.comparisons.len() as f64,
            });
        }
        first += set.answers.len();
    }
    pairs
}

/// Records the metrics of pairs, with TRL's names; a pair with weight 0 is skipped.
pub(crate) fn record(found: &PairsLoss, pairs: &[Pair], metrics: &mut Metrics) {
    for (judged, pair) in found.judged.iter().zip(pairs).filter(|(_, pair)| pair.weight > 0.0) {
        let [chosen, rejected] = judged.rewards;
        metrics.mean("rewards/chosen", chosen, 1.0);
        metrics.mean("rewards/rejected", rejected, 1.0);
        metrics.mean("rewards/accuracies", f64::from(u8::from(chosen > rejected)), 1.0);
        metrics.mean("rewards/margins", chosen - rejected, 1.0);
        metrics.std("rewards/margins_std", chosen - rejected);
        metrics.mean("logps/chosen", judged.log_probs[0], 1.0);
        metrics.mean("logps/rejected", judged.log_probs[1], 1.0);
        if pair.bound.is_finite() {
            metrics.mean("bound", pair.bound, 1.0);
            metrics.mean("beyond_bound", f64::from(u8::from(judged.margin > pair.bound)), 1.0);
        }
    }
}

/// Returns WPO's alignment of an answer: the mean of ln π(token) − ln Σ π² over its tokens; 0 if not
/// computed.
fn alignment(log_probs: &[f64], log_sum_squares: &[f32], range: &Range<usize>) -> f64 {
    let Some(squares) = log_sum_squares.get(range.clone()).filter(|squares| !squares.is_empty()) else {
        return 0.0;
    };
    let off =
        log_probs[range.clone()].iter().zip(squares).map(|(log_prob, square)| log_prob - f64::from(*square));
    off.sum::<f64>() / squares.len() as f64
}

/// Records a mean over the tokens of an answer.
fn of_tokens(metrics: &mut Metrics, name: &'static str, values: &[f64], range: &Range<usize>) {
    if let Some(values) = values.get(range.clone()).filter(|values| !values.is_empty()) {
        metrics.mean(name, values.iter().sum::<f64>() / values.len() as f64, values.len() as f64);
    }
}
