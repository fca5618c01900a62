//! A reward model's objective: comparisons of the scores of a set's answers, with the constraint's bounds.

use pcrm_core::constraint::Constraint;
use pcrm_core::data::encode::{EncodedComparison, EncodedSet};
use pcrm_core::data::preference::Verdict;
use pcrm_core::model::RewardModel;
use serde::{Deserialize, Serialize};

use super::{Forward, Objective, Pass, TokenCounts, bounds};
use crate::batch::{PairBatch, ScoreAt};
use crate::error::Result;
use crate::loss::plackett_luce::{MOST_WITH_TIES, choice_loss, choices};
use crate::loss::{LossConfig, PairLoss, Ranking, RankingForm, ScorePair, TieModel, WrongShare};
use crate::metrics::Metrics;
use crate::options::{number, refuse};
use crate::pairs::Pairs;
use crate::score::{score_pairs, within_vocabulary};
use crate::score_range::{self, ScoreRange};

/// The number of sets whose scores are compared after reloading the saved model, and the tokens computed at
/// once.
const CHECKED_SETS: usize = 16;
const CHECKED_TOKENS: usize = 8192;

/// The loss of a reward model, and the position of its scores.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RewardConfig {
    /// Position of the compared scores.
    pub score_at: ScoreAt,
    /// Ranking loss with its additional terms.
    pub loss: LossConfig,
    /// Leaves the data's margins out of the loss.
    pub ignore_margin: bool,
}

impl RewardConfig {
    /// Refuses numbers out of range, and undefined losses. Errors name options as the command line does.
    ///
    /// # Errors
    /// Fails for the first such option.
    pub fn check(&self) -> Result<()> {
        const SHARE: &str = "a number from 0 to below 0.5";
        let loss = &self.loss;
        if let Some(WrongShare::Given(share)) = loss.form.wrong_share() {
            number("label-smoothing", share, (0.0..0.5).contains(&share), SHARE)?;
        }
        if let RankingForm::Floor { floor } = loss.form {
            number("floor", floor, floor.is_finite(), "a number")?;
        }
        number("center-rewards", loss.center_rewards, loss.center_rewards >= 0.0, "a number from 0 up")?;
        match loss.ties {
            TieModel::None => {}
            TieModel::Davidson { nu } => number("tie-strength", nu, nu > 0.0, "a positive ν")?,
            TieModel::RaoKupper { theta } => number("tie-strength", theta, theta > 1.0, "θ greater than 1")?,
        }
        if loss.ranking == Ranking::Pairs {
            return Ok(());
        }
        if matches!(loss.ties, TieModel::RaoKupper { .. }) {
            let message = "rao-kupper: models ties of pairs only; plackett-luce needs davidson";
            return refuse("ties", message.into());
        }
        if self.score_at == ScoreAt::DivergentMean {
            let message = "divergent-mean: plackett-luce ranks answers by their last token; expected last";
            return refuse("score", message.into());
        }
        match loss.form {
            RankingForm::Bt => Ok(()),
            _ => refuse(
                "loss",
                "expected bt: other forms are defined for pairs only, not for plackett-luce".into(),
            ),
        }
    }

    /// Refuses data with an undefined loss.
    ///
    /// # Errors
    /// Fails if there are no pairs, if ties occur without a model of ties, or, under Plackett–Luce, with
    /// margins or too many tied answers.
    pub fn check_data(&self, data: &Pairs) -> Result<()> {
        let loss = &self.loss;
        if data.count() == 0 {
            return refuse("data", "no pair is left to train on".into());
        }
        if loss.ranking == Ranking::Pairs {
            return Ok(());
        }
        if let Some(pair) = data.pairs().find(|pair| !self.ignore_margin && pair.margin.is_some()) {
            let message =
                format!("is needed: {} has a margin, which plackett-luce does not take", pair.origin);
            return refuse("ignore-margin", message);
        }
        let too_many = |set: &&EncodedSet| set.answers.len() > MOST_WITH_TIES;
        if let (TieModel::Davidson { .. }, Some(set)) = (loss.ties, data.sets.iter().find(too_many)) {
            let origin = &set.origin;
            let message =
                format!("davidson: {origin} ranks more than {MOST_WITH_TIES} answers, too many to tie");
            return refuse("ties", message);
        }
        Ok(())
    }
}

/// Returns the common value of scores that differ at most by rounding, from a model that does not distinguish
/// texts.
pub fn collapsed(scores: &[f32]) -> Option<f32> {
    const ROUNDING: f32 = 1e-4;
    let low = scores.iter().copied().reduce(f32::min)?;
    let high = scores.iter().copied().reduce(f32::max)?;
    (high - low <= ROUNDING * low.abs().max(high.abs())).then_some(high)
}

/// The objective of `pcrm reward`: the mean loss over sets of answers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reward<'a> {
    /// The loss.
    pub config: RewardConfig,
    /// Constraint that loosens its bounds over the run ([`Constraint::factor`] of the completed share of all
    /// steps). Evaluations use the bounds in the data.
    pub schedule: Option<&'a dyn Constraint>,
}

impl Objective for Reward<'_> {
    type Model = RewardModel;
    type Data = Pairs;
    type Config = RewardConfig;

    fn sizes<'d>(&self, data: &'d Pairs) -> &'d [usize] {
        data.unique_tokens()
    }

    fn origin(&self, data: &Pairs, set: usize) -> String {
        data.sets[set].origin.to_string()
    }

    fn check(&self, data: &Pairs, model: &RewardModel) -> Result<()> {
        self.config.check()?;
        within_vocabulary(&data.sets, model.config().vocabulary)?;
        self.config.check_data(data)
    }

    fn forward(
        &self,
        model: &RewardModel,
        data: &Pairs,
        sets: &[usize],
        pass: &Pass<'_>,
        metrics: &mut Metrics,
    ) -> Result<Forward> {
        let factor = bounds::factor(self.schedule, pass)?;
        let of_sets: Vec<&EncodedSet> = sets.iter().map(|set| &data.sets[*set]).collect();
        let batch = PairBatch::new(&of_sets, self.config.score_at, model.config().shares_up_to())?;
        let scores = model.scores(&batch.packed, &batch.rows)?;
        let host: Vec<f64> = scores.read()?.into_f32().into_iter().map(f64::from).collect();
        let packed = Sets {
            data,
            config: &self.config,
            factor: factor.unwrap_or(1.0),
            pairs: sets.iter().flat_map(|set| data.range(*set).zip(&data.sets[*set].comparisons)).collect(),
            batch: &batch,
        };
        let loss = packed.loss(&host, pass.share)?;
        metrics.mean("loss", loss.parts.total / sets.len() as f64, sets.len() as f64);
        metrics.mean("ranking_loss", loss.parts.ranking / sets.len() as f64, sets.len() as f64);
        metrics.mean("constraint_loss", loss.parts.constraint / sets.len() as f64, sets.len() as f64);
        if pass.progress.is_none() {
            // A model that guesses scores all answers equally.
            let coin = packed.loss(&vec![0.0; host.len()], pass.share)?.parts;
            metrics.mean("coin_loss", coin.total / sets.len() as f64, sets.len() as f64);
            metrics.mean("coin_ranking_loss", coin.ranking / sets.len() as f64, sets.len() as f64);
        }
        packed.record(&host, metrics);
        factor.into_iter().for_each(|factor| metrics.mean("bound_factor", factor, 1.0));
        let tokens = TokenCounts {
            separate: batch.tokens(),
            unique: batch.unique_tokens(),
            longest: batch.longest,
            sequences: batch.sequences(),
        };
        Ok(Forward { outputs: vec![(scores, loss.gradient)], tokens })
    }

    fn probe(&self, model: &RewardModel, data: &Pairs) -> Result<Vec<(String, f32)>> {
        let sets: Vec<&EncodedSet> = data.sets.iter().take(CHECKED_SETS).collect();
        let scores = score_pairs(model, &sets, CHECKED_TOKENS)?;
        let origins = sets.iter().flat_map(|set| set.comparisons.iter().map(|_| set.origin.to_string()));
        let of_pair = |(origin, (chosen, rejected)): (String, (f32, f32))| {
            [(origin.clone(), chosen), (origin, rejected)]
        };
        Ok(origins.zip(scores).flat_map(of_pair).collect())
    }

    fn note(&self, model: &RewardModel, data: &Pairs) -> Result<Option<(&'static str, serde_json::Value)>> {
        let sets: Vec<&EncodedSet> = data.sets.iter().take(score_range::SETS).collect();
        let scores = score_pairs(model, &sets, CHECKED_TOKENS)?;
        let scores: Vec<f64> = scores.into_iter().flat_map(|(a, b)| [f64::from(a), f64::from(b)]).collect();
        let range = ScoreRange::of(&scores, &data.bounds);
        let note = range.and_then(|range| serde_json::to_value(range).ok());
        Ok(note.map(|note| (score_range::NOTE, note)))
    }

    fn depends_on_length(&self) -> Option<&'static str> {
        bounds::depends_on_length(self.schedule)
    }
}

/// The sets of a batch with the inputs of the loss.
struct Sets<'a> {
    data: &'a Pairs,
    config: &'a RewardConfig,
    /// Factor that loosens bounds.
    factor: f64,
    /// Pairs of the batch, with their index in the data.
    pairs: Vec<(usize, &'a EncodedComparison)>,
    batch: &'a PairBatch,
}

/// The loss of sets: sums over them, and the gradient of their share of the batch's loss.
struct SetsLoss {
    parts: PairLoss,
    gradient: Vec<f64>,
}

impl Sets<'_> {
    /// Returns the current bound.
    fn bound(&self, pair: usize) -> f64 {
        f64::from(self.factor as f32 * self.data.bounds[pair])
    }

    /// Computes the loss of these scores; each set has weight `share` in the gradient.
    fn loss(&self, scores: &[f64], share: f64) -> Result<SetsLoss> {
        let RewardConfig { loss, ignore_margin, .. } = self.config;
        let mut sum = PairLoss::default();
        let mut gradient = vec![0.0; scores.len()];
        for term in &self.batch.terms {
            let (index, pair) = self.pairs[term.pair];
            let comparison = ScorePair {
                chosen: scores[term.chosen as usize],
                rejected: scores[term.rejected as usize],
                bound: self.bound(index),
                margin: f64::from(pair.margin.filter(|_| !ignore_margin).unwrap_or(0.0)),
                tied: pair.verdict == Verdict::Tied,
            };
            let part = match loss.ranking {
                Ranking::Pairs => loss.pair(&comparison)?,
                Ranking::PlackettLuce => loss.priors(&comparison),
            };
            let weight = f64::from(term.weight);
            sum.total += weight * part.total;
            sum.ranking += weight * part.ranking;
            sum.constraint += weight * part.constraint;
            gradient[term.chosen as usize] += share * weight * part.d_chosen;
            gradient[term.rejected as usize] += share * weight * part.d_rejected;
        }
        if loss.ranking == Ranking::PlackettLuce {
            let nu = match loss.ties {
                TieModel::Davidson { nu } => Some(nu),
                TieModel::None | TieModel::RaoKupper { .. } => None,
            };
            for choice in self.batch.sets.iter().flat_map(|set| choices(set, loss.ties, share)) {
                let value = choice.weight / share * choice_loss(scores, &choice, nu, &mut gradient);
                sum.ranking += value;
                sum.total += value;
            }
        }
        Ok(SetsLoss { parts: sum, gradient })
    }

    /// Records the metrics of pairs without ties, by their last scores.
    fn record(&self, scores: &[f64], metrics: &mut Metrics) {
        for ((chosen, rejected), (index, pair)) in self.batch.last.iter().zip(&self.pairs) {
            if pair.verdict != Verdict::Preferred {
                continue;
            }
            let (chosen, rejected) = (scores[*chosen as usize], scores[*rejected as usize]);
            let (margin, bound) = (chosen - rejected, self.bound(*index));
            let right = match margin {
                margin if margin > 0.0 => 1.0,
                0.0 => 0.5,
                _ => 0.0,
            };
            metrics.mean("accuracy", right, 1.0);
            metrics.mean("margin", margin, 1.0);
            metrics.std("margin_std", margin);
            metrics.min("min_reward", chosen.min(rejected));
            metrics.mean("mean_reward", (chosen + rejected) / 2.0, 1.0);
            metrics.max("max_reward", chosen.max(rejected));
            if bound.is_finite() {
                metrics.mean("bound", bound, 1.0);
                metrics.mean("beyond_bound", f64::from(u8::from(margin > bound)), 1.0);
            }
        }
    }
}

#[cfg(test)]
mod tests;
