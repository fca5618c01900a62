//! Packed batches of trees, and passes of models over the tokens of their answers.

use pcrm_core::kernels::TokenStats;
use pcrm_core::model::{LanguageModel, RewardModel, RouterLoss, TokenQuestions};
use pcrm_core::tree::{Packed, within_budget};

use super::tree::{Step, Tree};
use crate::error::Result;
use crate::objective::TokenCounts;

/// A batch of trees: the requested rows, and the range of every answer among them.
pub(super) struct AskedBatch {
    pub packed: Packed,
    pub rows: Vec<usize>,
    pub targets: Vec<u32>,
    pub answers: Vec<std::ops::Range<usize>>,
    pub separate: usize,
    pub longest: usize,
}

impl AskedBatch {
    pub fn new(trees: &[&Tree], shares_up_to: Option<usize>) -> Result<Self> {
        let mut asked = Self {
            packed: Packed::default(),
            rows: Vec::new(),
            targets: Vec::new(),
            answers: Vec::new(),
            separate: 0,
            longest: 0,
        };
        for tree in trees {
            let longest = tree.answers.iter().map(|answer| answer.ids.len()).max().unwrap_or(0);
            let apart = shares_up_to.is_some_and(|most| tree.prompt.len() + longest > most);
            let mut segment = None;
            for answer in &tree.answers {
                let (first, segment) = match segment.filter(|_| !apart) {
                    Some(found) => found,
                    None => {
                        let made = asked.packed.push(&tree.prompt, None)?;
                        *segment.insert((asked.packed.ids.len() - 1, made))
                    }
                };
                // The last token predicts nothing.
                let start = asked.packed.ids.len();
                let inner = &answer.ids[..answer.ids.len().saturating_sub(1)];
                if !inner.is_empty() {
                    asked.packed.push(inner, Some(segment))?;
                }
                let place = asked.targets.len();
                asked.rows.push(first);
                asked.rows.extend(start..start + inner.len());
                asked.targets.extend(&answer.ids);
                asked.answers.push(place..asked.targets.len());
                let length = tree.prompt.len() + answer.ids.len();
                asked.separate += length;
                asked.longest = asked.longest.max(length);
            }
        }
        Ok(asked)
    }

    /// Packs the trees with these indices into one batch.
    pub fn of_items<'a>(
        step: &'a Step,
        items: &[usize],
        shares_up_to: Option<usize>,
    ) -> Result<(Vec<&'a Tree>, Self)> {
        let trees: Vec<&Tree> = items.iter().map(|item| &step.trees()[*item]).collect();
        let asked = Self::new(&trees, shares_up_to)?;
        Ok((trees, asked))
    }

    /// Computes statistics of the answers' tokens, with history, and the routers' loss over all rows.
    pub fn ask(&self, model: &LanguageModel, temperature: f64) -> Result<AskedStats> {
        let how = TokenQuestions { temperature, entropy: true };
        let (stats, routers) = model.trained_stats(&self.packed, &self.rows, &self.targets, how)?;
        let log_probs = host(stats.log_probs.read()?.into_f32());
        let entropies = match &stats.entropy {
            Some(entropy) => host(entropy.read()?.into_f32()),
            None => vec![0.0; log_probs.len()],
        };
        Ok(AskedStats { stats, log_probs, entropies, routers })
    }

    /// Returns the token counts of the batch.
    pub fn tokens(&self) -> TokenCounts {
        TokenCounts {
            separate: self.separate,
            unique: self.packed.ids.len(),
            longest: self.longest,
            sequences: self.answers.len(),
        }
    }

    /// Splits numbers of all answers, in order, by answer.
    pub fn by_answer(&self, all: &[f64]) -> Vec<Vec<f64>> {
        self.answers.iter().map(|range| all[range.clone()].to_vec()).collect()
    }

    /// Returns the distinct requested rows, ascending, and the index of every requested row among them:
    /// answers to one prompt share its last row.
    pub fn distinct_rows(&self) -> (Vec<usize>, Vec<usize>) {
        let mut rows = self.rows.clone();
        rows.sort_unstable();
        rows.dedup();
        let places = self.rows.iter().map(|row| rows.partition_point(|other| other < row)).collect();
        (rows, places)
    }
}

/// Statistics of the tokens of a batch's answers, with their values on the host.
pub(super) struct AskedStats {
    pub stats: TokenStats,
    /// ln π of every token.
    pub log_probs: Vec<f64>,
    /// Entropy of the distribution of every token.
    pub entropies: Vec<f64>,
    /// The routers' loss of a mixture of experts, if training adds it.
    pub routers: Option<RouterLoss>,
}

/// A pass of models over the answers of trees, without history and in parts.
pub(super) struct Questions<'a> {
    pub trees: &'a [&'a Tree],
    pub temperature: f64,
    pub micro_tokens: usize,
}

impl Questions<'_> {
    /// Returns ln π of the tokens of every answer.
    pub fn log_probs(&self, model: &LanguageModel) -> Result<Vec<Vec<f64>>> {
        self.of_tokens(model, false)
    }

    /// Returns the entropies of the distributions of the tokens of every answer.
    pub fn entropies(&self, model: &LanguageModel) -> Result<Vec<Vec<f64>>> {
        self.of_tokens(model, true)
    }

    fn of_tokens(&self, model: &LanguageModel, entropy: bool) -> Result<Vec<Vec<f64>>> {
        let model = model.detached();
        let how = TokenQuestions { temperature: self.temperature, entropy };
        self.asked(model.config().shares_up_to(), |asked| {
            let stats = model.token_stats(&asked.packed, &asked.rows, &asked.targets, how)?;
            let numbers = stats.entropy.filter(|_| entropy).unwrap_or(stats.log_probs);
            Ok(asked.by_answer(&host(numbers.read()?.into_f32())))
        })
    }

    /// Returns the critic's value before every token of every answer.
    pub fn values(&self, critic: &RewardModel) -> Result<Vec<Vec<f64>>> {
        let critic = critic.detached();
        self.asked(critic.config().shares_up_to(), |asked| {
            let (rows, places) = asked.distinct_rows();
            let scores = host(critic.scores(&asked.packed, &rows)?.read()?.into_f32());
            let all: Vec<f64> = places.into_iter().map(|place| scores[place]).collect();
            Ok(asked.by_answer(&all))
        })
    }

    fn asked(
        &self,
        shares_up_to: Option<usize>,
        of: impl Fn(&AskedBatch) -> Result<Vec<Vec<f64>>>,
    ) -> Result<Vec<Vec<f64>>> {
        let size = |tree: &&Tree| {
            tree.prompt.len() + tree.answers.iter().map(|answer| answer.ids.len()).sum::<usize>()
        };
        let mut all = Vec::new();
        for part in within_budget(self.trees, self.micro_tokens, size) {
            all.extend(of(&AskedBatch::new(part, shares_up_to)?)?);
        }
        Ok(all)
    }
}

pub(super) fn host(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}
