//! A rollout in the form for training: trees of prompts and sampled answers.

use crate::error::Result;
use crate::loss::policy::{Advantage, AnswerRow, PolicyLoss, Totals};
use crate::loss::preference::Pair;

/// A prompt and its sampled answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tree {
    /// File and line of the prompt.
    pub origin: String,
    /// Tokens of the prompt.
    pub prompt: Vec<u32>,
    /// Answers.
    pub answers: Vec<SampledAnswer>,
    /// Pair of answers, by their indices, if the loss is on pairs.
    pub pair: Option<Pair>,
}

/// A sampled answer with the numbers that a loss needs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SampledAnswer {
    /// Tokens, including the one that ended the answer.
    pub ids: Vec<u32>,
    /// ln π of the tokens before the first update of the rollout; `None` if that is the policy of the current
    /// pass.
    pub old_log_probs: Option<Vec<f64>>,
    /// ln π_ref of the tokens.
    pub reference: Option<Vec<f64>>,
    /// ln π from the sampler.
    pub sampled: Vec<f64>,
    /// Advantage of the answer; with a critic the mean over its tokens.
    pub advantage: f64,
    /// Numbers from the critic; `None` without one.
    pub judged: Option<CriticValues>,
    /// True if the answer ended by itself.
    pub ended: bool,
    /// True for an answer of another engine or policy, whose loss may be corrected.
    pub foreign: bool,
    /// True for an answer that no reward source scored, which the loss masks.
    pub unscored: bool,
}

/// A critic's numbers for an answer's tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CriticValues {
    /// Value before each token at the time of sampling.
    pub values: Vec<f64>,
    /// Advantage of each token.
    pub advantages: Vec<f64>,
    /// Returns, the targets of the values.
    pub returns: Vec<f64>,
}

impl SampledAnswer {
    /// Returns ln π of the tokens before the first update.
    pub(super) fn before(&self) -> &[f64] {
        self.old_log_probs.as_deref().unwrap_or(&self.sampled)
    }

    pub(super) fn row<'a>(&'a self, log_probs: &'a [f64], entropy: Option<&'a [f64]>) -> AnswerRow<'a> {
        AnswerRow {
            log_probs,
            old_log_probs: self.old_log_probs.as_deref(),
            reference: self.reference.as_deref(),
            entropy,
            sampling: self.foreign.then_some(&self.sampled),
            advantage: match &self.judged {
                Some(judged) => Advantage::OfTokens(&judged.advantages),
                None => Advantage::OfRow(self.advantage),
            },
            truncated: !self.ended,
            unscored: self.unscored,
        }
    }
}

/// The trees of a rollout.
#[derive(Debug, Clone, Default)]
pub struct Step {
    trees: Vec<Tree>,
    sizes: Vec<usize>,
    /// Counts of the current update.
    pub(super) totals: Totals,
}

impl Step {
    /// Creates a step from the trees of a rollout.
    pub fn new(trees: Vec<Tree>) -> Self {
        let size = |tree: &Tree| {
            tree.prompt.len() + tree.answers.iter().map(|answer| answer.ids.len() - 1).sum::<usize>()
        };
        Self { sizes: trees.iter().map(size).collect(), trees, totals: Totals::default() }
    }

    /// Returns the trees.
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// Returns the number of tokens of each tree in a packed batch.
    pub(super) fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Sets the counts of an update on these trees, one of the `updates` of a pass over the rollout.
    /// `entropies` has the entropy of every token of these trees' answers, in order, for losses that choose
    /// tokens by entropy.
    ///
    /// # Errors
    /// Fails if the loss chooses tokens by entropy and `entropies` is missing.
    pub fn counted(
        &mut self,
        loss: &PolicyLoss,
        items: &[usize],
        updates: usize,
        entropies: Option<&[Vec<f64>]>,
    ) -> Result<()> {
        let answers = items.iter().flat_map(|at| &self.trees[*at].answers).enumerate();
        let rows: Vec<AnswerRow<'_>> = answers
            .map(|(at, answer)| AnswerRow {
                reference: None,
                old_log_probs: None,
                ..answer.row(&answer.sampled, entropies.map(|entropies| entropies[at].as_slice()))
            })
            .collect();
        let whole = self.trees.iter().flat_map(|tree| &tree.answers);
        let tokens = whole.filter(|answer| !loss.leaves_out(answer.ended, answer.unscored));
        let tokens = tokens.map(|answer| answer.ids.len()).sum::<usize>() as f64;
        self.totals = loss.totals(&rows)?.of_rollout(tokens, updates as f64);
        Ok(())
    }
}
