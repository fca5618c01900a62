//! Supervised fine-tuning: the mean of −ln p over the learned tokens of completions.

use pcrm_core::Packed;
use pcrm_core::data::encode::EncodedCompletion;
use pcrm_core::model::{LanguageModel, TokenQuestions};
use serde::{Deserialize, Serialize};

use super::{Forward, Objective, Pass, TokenCounts};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::options::refuse;

/// The number of completions whose log-probabilities are compared after reloading the saved model.
const CHECKED: usize = 4;

/// Completions, each with its learned tokens.
#[derive(Debug, Clone, Default)]
pub struct Completions {
    items: Vec<EncodedCompletion>,
    sizes: Vec<usize>,
}

impl Completions {
    /// Creates completions in the order of their files.
    pub fn new(items: Vec<EncodedCompletion>) -> Self {
        let sizes = items.iter().map(|item| item.ids.len()).collect();
        Self { items, sizes }
    }

    /// Returns the completions.
    pub fn items(&self) -> &[EncodedCompletion] {
        &self.items
    }

    /// Returns the number of tokens over which the loss is averaged.
    pub fn targets(&self) -> usize {
        self.items.iter().map(EncodedCompletion::trained_tokens).sum()
    }
}

/// The options of the loss: none, since the encoding decides which tokens are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {}

/// The objective of `pcrm sft`: L = −Σ ln p(token | all before it) / number of tokens, over the learned
/// tokens of a step (TRL's `nll`). A step's mean is over its tokens, independent of micro-batches.
///
/// A mixture of experts whose config has `output_router_logits` adds the routers' loss with its coefficient,
/// as TRL does; each micro-batch's is weighted by its tokens. `nll_loss` is then the loss without it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sft;

impl Objective for Sft {
    type Model = LanguageModel;
    type Data = Completions;
    type Config = SftConfig;

    fn sizes<'d>(&self, data: &'d Completions) -> &'d [usize] {
        &data.sizes
    }

    fn weight(&self, data: &Completions, item: usize) -> f64 {
        data.items[item].trained_tokens() as f64
    }

    fn origin(&self, data: &Completions, item: usize) -> String {
        data.items[item].origin.to_string()
    }

    fn check(&self, data: &Completions, model: &LanguageModel) -> Result<()> {
        if data.items.is_empty() {
            return refuse("data", "no completion is left to train on".into());
        }
        let vocabulary = model.config().vocabulary;
        for item in &data.items {
            if let Some(id) = item.ids.iter().find(|id| **id as usize >= vocabulary) {
                let message = format!("token id {id} is outside the model's vocabulary of {vocabulary}");
                let (path, line) = (item.origin.file.to_path_buf(), item.origin.line);
                return Err(pcrm_core::Error::Line { path, line, message }.into());
            }
        }
        Ok(())
    }

    fn forward(
        &self,
        model: &LanguageModel,
        data: &Completions,
        items: &[usize],
        pass: &Pass<'_>,
        metrics: &mut Metrics,
    ) -> Result<Forward> {
        let mut packed = Packed::default();
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        let mut longest = 0;
        for item in items.iter().map(|item| &data.items[*item]) {
            let start = packed.ids.len();
            packed.push(&item.ids, None)?;
            for at in item.trained.iter().cloned().flatten() {
                rows.push(start + at - 1); // a token is predicted by the row before it
                targets.push(item.ids[at]);
            }
            longest = longest.max(item.ids.len());
        }
        let how = TokenQuestions { entropy: true, ..TokenQuestions::default() };
        let (stats, routers) = model.trained_stats(&packed, &rows, &targets, how)?;
        let count = targets.len() as f64;
        let mean = |values: Vec<f32>| values.into_iter().map(f64::from).sum::<f64>() / count;
        let likelihood = -mean(stats.log_probs.read()?.into_f32());
        metrics.mean("loss", likelihood, count);
        if routers.is_some() {
            metrics.mean("nll_loss", likelihood, count);
        }
        if let Some(entropy) = &stats.entropy {
            metrics.mean("entropy", mean(entropy.read()?.into_f32()), count);
        }
        metrics.mean("mean_token_accuracy", mean(stats.correct.read()?.into_f32()), count);
        let tokens = TokenCounts {
            separate: packed.tree.unshared_rows(),
            unique: packed.ids.len(),
            longest,
            sequences: items.len(),
        };
        // d loss / d ln p of a token: every token has the same share.
        let outputs = vec![(stats.log_probs, vec![-pass.share; targets.len()])];
        Forward { outputs, tokens }.with_routers(routers, count, 1.0 / pass.share, pass, metrics)
    }

    fn probe(&self, model: &LanguageModel, data: &Completions) -> Result<Vec<(String, f32)>> {
        let model = model.detached();
        let total = |item: usize| -> Result<(String, f32)> {
            let completion = &data.items[item];
            let mut packed = Packed::default();
            packed.push(&completion.ids, None)?;
            let targets = completion.trained.iter().cloned().flatten();
            let (rows, ids): (Vec<usize>, Vec<u32>) = targets.map(|at| (at - 1, completion.ids[at])).unzip();
            let log_probs = model.log_probs(&packed, &rows, &ids)?.read()?.into_f32();
            Ok((completion.origin.to_string(), log_probs.iter().sum()))
        };
        (0..data.items.len().min(CHECKED)).map(total).collect()
    }
}
