//! A rollout in the form for training: trees of prompts and sampled answers.

use pcrm_core::kernels::TokenStats;
use pcrm_core::model::{LanguageModel, RewardModel, TokenQuestions};
use pcrm_core::tree::{Packed, within_budget};

use crate::error::Result;
use crate::loss::policy::{Advantage, PolicyLoss, Row, Totals};
use crate::loss::preference::Pair;
use crate::objective::Tokens;

/// A prompt and its sampled answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tree {
    /// File and line of the prompt.
    pub origin: String,
    /// Tokens of the prompt.
    pub prompt: Vec<u32>,
    /// Answers.
    pub answers: Vec<Answer>,
    /// Pair of answers, by their indices, if the loss is on pairs.
    pub pair: Option<Pair>,
}

/// A sampled answer with the numbers that a loss needs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
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
    pub judged: Option<Judged>,
    /// True if the answer ended by itself.
    pub ended: bool,
    /// True for an answer of another engine or policy, whose loss may be corrected.
    pub foreign: bool,
    /// True for an answer that no reward source scored, which the loss masks.
    pub unscored: bool,
}

/// A critic's numbers for an answer's tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judged {
    /// Value before each token at the time of sampling.
    pub values: Vec<f64>,
    /// Advantage of each token.
    pub advantages: Vec<f64>,
    /// Returns, the targets of the values.
    pub returns: Vec<f64>,
}

impl Answer {
    /// Returns ln π of the tokens before the first update.
    pub(super) fn before(&self) -> &[f64] {
        self.old_log_probs.as_deref().unwrap_or(&self.sampled)
    }

    pub(super) fn row<'a>(&'a self, log_probs: &'a [f64], entropy: Option<&'a [f64]>) -> Row<'a> {
        Row {
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
    /// `entropies` are those of the tokens of these trees' answers, in order, for losses that choose tokens
    /// by entropy.
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
        let rows: Vec<Row<'_>> = answers
            .map(|(at, answer)| Row {
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

/// A batch of trees: the requested rows, and the range of every answer among them.
pub(super) struct Asked {
    pub packed: Packed,
    pub rows: Vec<usize>,
    pub targets: Vec<u32>,
    pub answers: Vec<std::ops::Range<usize>>,
    pub separate: usize,
    pub longest: usize,
}

impl Asked {
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
        let trees: Vec<&Tree> = items.iter().map(|item| &step.trees[*item]).collect();
        let asked = Self::new(&trees, shares_up_to)?;
        Ok((trees, asked))
    }

    /// Computes statistics of the answers' tokens, with history.
    pub fn ask(&self, model: &LanguageModel, temperature: f64) -> Result<AskedStats> {
        let how = TokenQuestions { temperature, entropy: true };
        let stats = model.token_stats(&self.packed, &self.rows, &self.targets, how)?;
        let log_probs = host(stats.log_probs.read()?.into_f32());
        let entropies = match &stats.entropy {
            Some(entropy) => host(entropy.read()?.into_f32()),
            None => vec![0.0; log_probs.len()],
        };
        Ok(AskedStats { stats, log_probs, entropies })
    }

    /// Returns the token counts of the batch.
    pub fn tokens(&self) -> Tokens {
        Tokens {
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
        of: impl Fn(&Asked) -> Result<Vec<Vec<f64>>>,
    ) -> Result<Vec<Vec<f64>>> {
        let size = |tree: &&Tree| {
            tree.prompt.len() + tree.answers.iter().map(|answer| answer.ids.len()).sum::<usize>()
        };
        let mut all = Vec::new();
        for part in within_budget(self.trees, self.micro_tokens, size) {
            all.extend(of(&Asked::new(part, shares_up_to)?)?);
        }
        Ok(all)
    }
}

pub(super) fn host(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}
