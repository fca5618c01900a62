//! Online DPO: the best and the worst answer to every prompt form a pair for a preference loss, with a bound
//! on the margin.

use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::data::prompt_id::PromptId;
use pcrm_core::model::LanguageModel;
use serde::{Deserialize, Serialize};

use super::asked::{AskedBatch, AskedStats};
use super::step::{check, mismatch, probe};
use super::tree::{SampledAnswer, Step, Tree};
use crate::advantage::{ScoreShaping, TiedSamples};
use crate::error::Result;
use crate::loss::WrongShare;
use crate::loss::preference::{AnswerTokens as LogProbs, Pair, PreferenceConfig};
use crate::metrics::Metrics;
use crate::objective::dpo::record;
use crate::objective::{Forward, Objective, Pass};
use crate::options::refuse;
use crate::reward_source::AnswerTexts;

/// The options of online DPO (arXiv 2402.04792). Names and defaults follow TRL's `OnlineDPOConfig`, where it
/// has them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct OnlineDpoConfig {
    /// Loss of a pair.
    #[serde(flatten)]
    pub preference: PreferenceConfig,
    /// Treatment of prompts whose best and worst answers have equal rewards.
    pub tied_samples: TiedSamples,
    /// Clipping of rewards, and the penalty for answers that were cut off.
    #[serde(flatten)]
    pub shaping: ScoreShaping,
}

impl OnlineDpoConfig {
    /// Refuses numbers out of range, and losses that need more than one pair.
    ///
    /// # Errors
    /// Fails for the first such option.
    pub fn check(&self) -> Result<()> {
        self.preference.check(false)?;
        if self.preference.label_smoothing == WrongShare::ESTIMATE {
            let message = "estimate: online DPO has no pairs before its first step; expected a number";
            return refuse("label-smoothing", message.into());
        }
        self.shaping.check()?;
        let refused = |what: &str| {
            let message =
                format!("{what}, which online DPO does not support; run `pcrm dpo` on pairs of files");
            refuse("loss", message)
        };
        match &self.preference {
            preference if preference.sorts() => refused("sorts the pairs of a step"),
            preference if preference.learns_prompts() => refused("learns the tokens of prompts"),
            preference if preference.use_weighting => refused("weighs pairs by whole distributions"),
            _ => Ok(()),
        }
    }
}

/// A constraint with the inputs of its bounds.
#[derive(Debug, Clone, Copy)]
pub struct Bounding<'a> {
    /// Constraint with all its parameters.
    pub constraint: &'a dyn Constraint,
    /// Context for computing bounds.
    pub priors: &'a Priors,
}

/// The texts of a pair whose margin is bounded.
pub(super) struct PairTexts<'a> {
    pub prompt: PromptId,
    pub chosen: (&'a AnswerTexts, &'a [u32]),
    pub rejected: (&'a AnswerTexts, &'a [u32]),
}

impl Bounding<'_> {
    /// Returns Δ* of sampled pairs, computed from their texts and from their tokens after the common prefix.
    pub(super) fn bounds(&self, pairs: &[PairTexts<'_>]) -> Result<Vec<f64>> {
        let views: Vec<PairView<'_>> = pairs
            .iter()
            .map(|pair| {
                let ((chosen, chosen_ids), (rejected, rejected_ids)) = (pair.chosen, pair.rejected);
                let common = chosen_ids.iter().zip(rejected_ids).take_while(|(a, b)| a == b).count();
                let texts = [&chosen.prompt, &chosen.completion, &rejected.completion];
                PairView {
                    identity: identity(texts),
                    prompt_id: pair.prompt,
                    prompt: &chosen.prompt,
                    chosen: &chosen.completion,
                    rejected: &rejected.completion,
                    chosen_ids: &chosen_ids[common..],
                    rejected_ids: &rejected_ids[common..],
                    margin: None,
                }
            })
            .collect();
        Ok(self.constraint.checked_bounds(&views, self.priors)?.into_iter().map(f64::from).collect())
    }
}

/// Returns a hash of a pair's texts with their lengths.
fn identity(texts: [&String; 3]) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.digest()
}

/// The loss of an update on pairs of sampled answers, averaged over pairs. Log-probabilities are at temperature
/// 1, whatever the sampling temperature. The routers' loss of a mixture of experts is added as in
/// [`PolicyStep`](super::PolicyStep), over prompts without a preference too.
#[derive(Debug, Clone)]
pub struct PairStep {
    /// Loss of a pair.
    pub loss: PreferenceConfig,
    /// Temperature of sampling.
    pub sampled_at: f64,
}

impl PairStep {
    /// Returns the pairs of trees, with the indices of their answers in a batch of these trees.
    fn placed(trees: &[&Tree]) -> Vec<Pair> {
        let mut first = 0;
        let mut pairs = Vec::with_capacity(trees.len());
        for tree in trees {
            pairs.extend(tree.pair.map(|pair| Pair {
                chosen: first + pair.chosen,
                rejected: first + pair.rejected,
                ..pair
            }));
            first += tree.answers.len();
        }
        pairs
    }
}

impl Objective for PairStep {
    type Model = LanguageModel;
    type Data = Step;
    type Config = super::OnlineConfig;

    fn sizes<'d>(&self, data: &'d Step) -> &'d [usize] {
        data.sizes()
    }

    fn origin(&self, data: &Step, item: usize) -> String {
        data.trees()[item].origin.clone()
    }

    fn check(&self, data: &Step, _model: &LanguageModel) -> Result<()> {
        check(data)
    }

    fn forward(
        &self,
        model: &LanguageModel,
        data: &Step,
        items: &[usize],
        pass: &Pass<'_>,
        metrics: &mut Metrics,
    ) -> Result<Forward> {
        let (trees, asked) = AskedBatch::of_items(data, items, model.config().shares_up_to())?;
        let AskedStats { stats, log_probs, entropies, routers } = asked.ask(model, 1.0)?;
        let answers: Vec<&SampledAnswer> = trees.iter().flat_map(|tree| &tree.answers).collect();
        // At another temperature, the sampler's log-probabilities belong to another distribution.
        for (answer, range) in answers.iter().zip(&asked.answers).filter(|_| self.sampled_at == 1.0) {
            mismatch(
                &answer.sampled,
                answer.old_log_probs.as_deref().unwrap_or(&log_probs[range.clone()]),
                metrics,
            );
        }
        let numbers: Vec<LogProbs<'_>> = answers
            .iter()
            .zip(&asked.answers)
            .map(|(answer, range)| LogProbs {
                policy: &log_probs[range.clone()],
                reference: answer.reference.as_deref().unwrap_or_default(),
                ..LogProbs::default()
            })
            .collect();
        let pairs = Self::placed(&trees);
        // Prompts without a preference have weight 0, and count in no mean.
        let (mut counted, mut learned) = (0.0, 0.0);
        for tree in pass.batch.iter().map(|item| &data.trees()[*item]) {
            if let Some(pair) = tree.pair.filter(|pair| pair.weight > 0.0) {
                counted += 1.0;
                learned += tree.answers[pair.chosen].ids.len() as f64;
            }
        }
        let share = 1.0 / f64::max(counted, 1.0);
        let found = self.loss.evaluate(&numbers, &pairs, share, [f64::max(learned, 1.0), 1.0]);
        let weight = trees.len() as f64;
        let of_step = |value: f64| value * pass.batch.len() as f64 / weight;
        metrics.mean("loss", of_step(found.total), weight);
        metrics.mean("ranking_loss", of_step(found.ranking), weight);
        metrics.mean("constraint_loss", of_step(found.constraint), weight);
        record(&found, &pairs, metrics);
        let tokens = entropies.len() as f64;
        metrics.mean("entropy", entropies.iter().sum::<f64>() / tokens.max(1.0), tokens);
        let slopes = found.gradient.iter().flatten().copied().collect();
        let made = Forward { outputs: vec![(stats.log_probs, slopes)], tokens: asked.tokens() };
        made.with_routers(routers, weight, 1.0 / pass.share, pass, metrics)
    }

    fn probe(&self, model: &LanguageModel, data: &Step) -> Result<Vec<(String, f32)>> {
        probe(model, data, 1.0)
    }
}
