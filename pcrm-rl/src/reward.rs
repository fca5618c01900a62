//! One step of a reward model: scores, loss and gradients of a batch, in parts that fit into memory.

use pcrm_core::data::encode::EncodedPair;
use pcrm_core::data::preference::Verdict;
use pcrm_core::model::RewardModel;
use pcrm_core::{Backend, Gradients, HostTensor, Tensor};
use serde::{Deserialize, Serialize};

use crate::batch::{PairBatch, ScoreAt, within_budget};
use crate::error::Result;
use crate::loss::{Known, Loss, LossConfig, Ranking, pair_loss, ranking_loss};
use crate::metrics::Gathered;
pub use crate::pairs::Pairs;
use crate::plackett_luce::choices;

/// The loss of a batch, and how much of it is computed at once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Compute {
    /// Where scores are compared.
    pub score_at: ScoreAt,
    /// The ranking loss and the terms added to it.
    pub loss: LossConfig,
    /// Whether the data's margins enter the loss.
    pub use_margin: bool,
    /// The most tokens computed at once; larger batches are accumulated.
    pub micro_tokens: usize,
}

impl Default for Compute {
    fn default() -> Self {
        Self { score_at: ScoreAt::Last, loss: LossConfig::default(), use_margin: true, micro_tokens: 8192 }
    }
}

/// Counts of tokens of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Every answer with a prompt of its own, no padding.
    pub separate: usize,
    /// Every prompt once: what is computed.
    pub unique: usize,
    /// Every answer with a prompt of its own, padded to the longest of the batch.
    pub padded: usize,
    /// Answers.
    pub sequences: usize,
}

/// The gradients of a batch's mean loss.
#[derive(Debug)]
pub struct Gradient {
    /// By parameter.
    pub gradients: Gradients,
    /// What the batch shows.
    pub gathered: Gathered,
    /// What it took.
    pub tokens: Tokens,
}

/// The mean loss of these sets (numbers of `data`'s) and the gradient of every parameter, under the data's bounds.
///
/// # Errors
/// The backend's; a parameter that no gradient reaches.
pub fn gradient(
    backend: &dyn Backend,
    model: &RewardModel,
    data: &Pairs,
    sets: &[usize],
    compute: &Compute,
) -> Result<Gradient> {
    scaled_gradient(backend, model, data, sets, (compute, 1.0))
}

/// [`gradient`] with all bounds multiplied by a factor.
///
/// # Errors
/// As [`gradient`].
pub fn scaled_gradient(
    backend: &dyn Backend,
    model: &RewardModel,
    data: &Pairs,
    sets: &[usize],
    (compute, factor): (&Compute, f32),
) -> Result<Gradient> {
    let mut sum = Gradients::default();
    let mut gathered = Gathered::default();
    let mut tokens = Tokens::default();
    let mut longest = 0;
    for part in parts(data, sets, compute) {
        let part = Part::pack(model, (data, factor), part, compute)?;
        let (loss, scores) = part.forward(model, compute, sets.len())?;
        sum.accumulate(backend.backward(&loss.total, model.params())?)?;
        part.gather(&mut gathered, &loss, &scores)?;
        tokens.separate += part.batch.tokens();
        tokens.unique += part.batch.unique_tokens();
        longest = longest.max(part.batch.longest);
        tokens.sequences += part.batch.sequences();
    }
    tokens.padded = tokens.sequences * longest;
    Ok(Gradient { gradients: sum, gathered, tokens })
}

/// The measures of a model on pairs, without gradients; losses are means over all sets, beside those of a model that
/// guesses: all scores equal.
///
/// # Errors
/// The backend's.
pub fn evaluate(model: &RewardModel, data: &Pairs, compute: &Compute) -> Result<Gathered> {
    let model = model.frozen();
    let mut gathered = Gathered::default();
    let sets: Vec<usize> = (0..data.sets()).collect();
    for part in parts(data, &sets, compute) {
        let part = Part::pack(&model, (data, 1.0), part, compute)?;
        let (loss, scores) = part.forward(&model, compute, sets.len())?;
        part.gather(&mut gathered, &loss, &scores)?;
        let equal = scores.constant(&HostTensor::vector(vec![0.0_f32; part.batch.rows.len()]))?;
        let coin = part.loss(&equal, compute, sets.len())?;
        gathered.coin_loss(coin.total.read_scalar()?.into(), coin.ranking.read_scalar()?.into());
    }
    Ok(gathered)
}

/// The parts of a batch that fit into memory.
fn parts<'a>(data: &Pairs, sets: &'a [usize], compute: &Compute) -> Vec<&'a [usize]> {
    within_budget(sets, compute.micro_tokens, |set| data.unique_tokens()[*set])
}

/// Sets of a batch that are computed at once.
struct Part<'a> {
    data: &'a Pairs,
    /// What bounds are multiplied by.
    factor: f32,
    /// The pairs of the packed batch, by their number in the data.
    pairs: Vec<usize>,
    batch: PairBatch,
}

impl<'a> Part<'a> {
    fn pack(
        model: &RewardModel,
        (data, factor): (&'a Pairs, f32),
        sets: &[usize],
        compute: &Compute,
    ) -> Result<Self> {
        let of_sets: Vec<&[EncodedPair]> = sets.iter().map(|set| data.set(*set)).collect();
        let batch = PairBatch::new(&of_sets, compute.score_at, model.config().shares_up_to())?;
        let pairs = sets.iter().flat_map(|set| data.range(*set)).collect();
        Ok(Self { data, factor, pairs, batch })
    }

    /// The bound in force.
    fn bound(&self, pair: usize) -> f32 {
        self.factor * self.data.bounds[pair]
    }

    /// The part of a loss that is the mean over `all` sets, and all scores.
    fn forward(&self, model: &RewardModel, compute: &Compute, all: usize) -> Result<(Loss, Tensor)> {
        let scores = model.scores(&self.batch.packed, &self.batch.rows)?;
        Ok((self.loss(&scores, compute, all)?, scores))
    }

    /// The part of a loss that is the mean over `all` sets, of these scores.
    fn loss(&self, scores: &Tensor, compute: &Compute, all: usize) -> Result<Loss> {
        let (data, batch, share) = (self.data, &self.batch, 1.0 / all as f64);
        let pick = |places: Vec<u32>| scores.index_select(0, &scores.constant(&HostTensor::indices(places))?);
        let chosen = pick(batch.terms.iter().map(|term| term.chosen).collect())?;
        let rejected = pick(batch.terms.iter().map(|term| term.rejected).collect())?;
        let pairs = || batch.terms.iter().map(|term| self.pairs[term.pair]);
        let margin = |index: usize| data.pairs[index].margin.filter(|_| compute.use_margin).unwrap_or(0.0);
        let known = Known {
            bounds: pairs().map(|index| self.bound(index)).collect(),
            margins: pairs().map(margin).collect(),
            weights: batch.terms.iter().map(|term| term.weight * share as f32).collect(),
            ties: pairs().map(|index| data.pairs[index].verdict == Verdict::Tied).collect(),
        };
        match compute.loss.ranking {
            Ranking::Pairs => Ok(pair_loss(&chosen, &rejected, &known, &compute.loss)?),
            Ranking::PlackettLuce => {
                let of_set = |set| choices(set, compute.loss.ties, share);
                let choices: Vec<_> = batch.sets.iter().flat_map(|set| of_set(set)).collect();
                Ok(ranking_loss(scores, &choices, [&chosen, &rejected], &known, &compute.loss)?)
            }
        }
    }

    fn gather(&self, gathered: &mut Gathered, loss: &Loss, scores: &Tensor) -> Result<()> {
        let scores = scores.read()?.into_f32();
        for ((chosen, rejected), index) in self.batch.last.iter().zip(&self.pairs) {
            if self.data.pairs[*index].verdict == Verdict::Preferred {
                gathered.pair(scores[*chosen as usize], scores[*rejected as usize], self.bound(*index));
            }
        }
        let read = |part: &Tensor| part.read_scalar().map(f64::from);
        let constraint = loss.constraint.as_ref().map(read).transpose()?.unwrap_or(0.0);
        gathered.loss(read(&loss.total)?, read(&loss.ranking)?, constraint);
        Ok(())
    }
}
