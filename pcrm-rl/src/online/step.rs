//! The objective of an update: a policy loss over trees of prompts and their sampled answers.

use pcrm_core::model::{LanguageModel, TokenQuestions};
use pcrm_core::tree::Packed;

use crate::error::Result;
use crate::loss::policy::{Advantage, PolicyLoss, Row, Totals};
use crate::metrics::Metrics;
use crate::objective::{Forward, Objective, Pass, Tokens};
use crate::options::refuse;

/// Trees whose answers are compared after the saved model was loaded again.
const CHECKED: usize = 2;

/// A prompt and its sampled answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tree {
    /// File and line of the prompt.
    pub origin: String,
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// The answers.
    pub answers: Vec<Answer>,
}

/// A sampled answer with the numbers that a loss reads.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// Its tokens, the one that ended it included.
    pub ids: Vec<u32>,
    /// ln π of the tokens before the first update of the rollout; `None` where that is the policy of the pass at hand.
    pub old_log_probs: Option<Vec<f64>>,
    /// ln π_ref of the tokens.
    pub reference: Option<Vec<f64>>,
    /// ln π as the sampler computed it.
    pub sampled: Vec<f64>,
    /// How much better than expected the answer was.
    pub advantage: f64,
    /// True if the answer ended by itself.
    pub ended: bool,
}

impl Answer {
    fn row<'a>(&'a self, log_probs: &'a [f64], entropy: Option<&'a [f64]>) -> Row<'a> {
        Row {
            log_probs,
            old_log_probs: self.old_log_probs.as_deref(),
            reference: self.reference.as_deref(),
            entropy,
            sampling: None,
            advantage: Advantage::OfRow(self.advantage),
            truncated: !self.ended,
        }
    }
}

/// The trees of a rollout.
#[derive(Debug, Clone, Default)]
pub struct Step {
    trees: Vec<Tree>,
    sizes: Vec<usize>,
    /// The counts of the update at hand.
    totals: Totals,
}

impl Step {
    /// Trees of a rollout.
    pub fn new(trees: Vec<Tree>) -> Self {
        let size = |tree: &Tree| {
            tree.prompt.len() + tree.answers.iter().map(|answer| answer.ids.len() - 1).sum::<usize>()
        };
        Self { sizes: trees.iter().map(size).collect(), trees, totals: Totals::default() }
    }

    /// The trees.
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// Sets the counts of an update on these trees, one of `updates` that a pass over the rollout makes.
    ///
    /// # Errors
    /// A loss that chooses tokens by their entropy, without entropies.
    pub fn counted(&mut self, loss: &PolicyLoss, items: &[usize], updates: usize) -> Result<()> {
        if loss.needs_threshold() {
            refuse("top-entropy-quantile", "below 1: rollouts do not compute entropies; expected 1".into())?;
        }
        let count = |places: &mut dyn Iterator<Item = usize>| -> Result<Totals> {
            let answers = places.flat_map(|at| &self.trees[at].answers);
            let rows: Vec<Row<'_>> = answers.map(|answer| answer.row(&answer.sampled, None)).collect();
            loss.totals(
                &rows
                    .iter()
                    .map(|row| Row { reference: None, old_log_probs: None, ..*row })
                    .collect::<Vec<_>>(),
            )
        };
        let whole = count(&mut (0..self.trees.len()))?;
        self.totals = count(&mut items.iter().copied())?.of_rollout(whole.tokens, updates as f64);
        Ok(())
    }
}

/// The loss of an update on sampled answers.
#[derive(Debug, Clone)]
pub struct PolicyStep {
    /// The loss.
    pub loss: PolicyLoss,
    /// The temperature that answers were sampled at.
    pub temperature: f64,
}

/// A batch of trees: the rows that are asked, and the place of every answer among them.
pub(super) struct Asked {
    packed: Packed,
    rows: Vec<usize>,
    targets: Vec<u32>,
    pub answers: Vec<std::ops::Range<usize>>,
    separate: usize,
    longest: usize,
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

    /// ln π of the tokens of every answer, in one pass without history.
    pub fn log_probs(&self, model: &LanguageModel, temperature: f64) -> Result<Vec<Vec<f64>>> {
        let how = TokenQuestions { temperature, entropy: false };
        let stats = model.token_stats(&self.packed, &self.rows, &self.targets, how)?;
        let all = host(stats.log_probs.read()?.into_f32());
        Ok(self.answers.iter().map(|range| all[range.clone()].to_vec()).collect())
    }
}

fn host(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

impl Objective for PolicyStep {
    type Model = LanguageModel;
    type Data = Step;
    type Config = super::OnlineConfig;

    fn sizes<'d>(&self, data: &'d Step) -> &'d [usize] {
        &data.sizes
    }

    fn origin(&self, data: &Step, item: usize) -> String {
        data.trees[item].origin.clone()
    }

    fn check(&self, data: &Step, _model: &LanguageModel) -> Result<()> {
        match data.trees.iter().all(|tree| tree.answers.iter().all(|answer| !answer.ids.is_empty())) {
            true => Ok(()),
            false => refuse("rollout", "an answer has no token".into()),
        }
    }

    fn forward(
        &self,
        model: &LanguageModel,
        data: &Step,
        items: &[usize],
        _pass: &Pass<'_>,
        metrics: &mut Metrics,
    ) -> Result<Forward> {
        let trees: Vec<&Tree> = items.iter().map(|item| &data.trees[*item]).collect();
        let asked = Asked::new(&trees, model.config().shares_up_to())?;
        let how = TokenQuestions { temperature: self.temperature, entropy: true };
        let stats = model.token_stats(&asked.packed, &asked.rows, &asked.targets, how)?;
        let log_probs = host(stats.log_probs.read()?.into_f32());
        let entropies = match &stats.entropy {
            Some(entropy) => host(entropy.read()?.into_f32()),
            None => vec![0.0; log_probs.len()],
        };
        let answers: Vec<&Answer> = trees.iter().flat_map(|tree| &tree.answers).collect();
        let rows: Vec<Row<'_>> = answers
            .iter()
            .zip(&asked.answers)
            .map(|(answer, range)| answer.row(&log_probs[range.clone()], Some(&entropies[range.clone()])))
            .collect();
        for (answer, range) in answers.iter().zip(&asked.answers) {
            mismatch(
                &answer.sampled,
                answer.old_log_probs.as_deref().unwrap_or(&log_probs[range.clone()]),
                metrics,
            );
        }
        let found = self.loss.evaluate(&rows, &data.totals, metrics)?;
        let flat = |slopes: &[Vec<f64>]| -> Vec<f64> { slopes.iter().flatten().copied().collect() };
        let mut outputs = vec![(stats.log_probs, flat(&found.d_log_probs))];
        if let Some(entropy) = stats.entropy.filter(|_| !found.d_entropy.is_empty()) {
            outputs.push((entropy, flat(&found.d_entropy)));
        }
        let tokens = Tokens {
            separate: asked.separate,
            unique: asked.packed.ids.len(),
            longest: asked.longest,
            sequences: answers.len(),
        };
        Ok(Forward { outputs, tokens })
    }

    fn probe(&self, model: &LanguageModel, data: &Step) -> Result<Vec<(String, f32)>> {
        let mut numbers = Vec::new();
        for tree in data.trees.iter().take(CHECKED) {
            let asked = Asked::new(&[tree], model.config().shares_up_to())?;
            for answer in asked.log_probs(&model.detached(), self.temperature)? {
                numbers.push((tree.origin.clone(), answer.iter().sum::<f64>() as f32));
            }
        }
        Ok(numbers)
    }
}

/// Records how far the sampler's log-probabilities are from those before the first update.
fn mismatch(sampled: &[f64], old: &[f64], metrics: &mut Metrics) {
    for (sampled, old) in sampled.iter().zip(old) {
        let difference = (sampled - old).abs();
        metrics.mean("sampling/sampling_logp_difference/mean", difference, 1.0);
        metrics.max("sampling/sampling_logp_difference/max", difference);
    }
}
