//! Measurements of a model on the held-out pairs, including the truth of the generated world.

use anyhow::{Result, ensure};
use pcrm_eval::accuracy::{LEVEL, Share};
use pcrm_eval::calibration::cross_entropy;
use pcrm_eval::worlds::Pair;
use pcrm_eval::{PairScore, RewardReport};
use serde::Serialize;
use serde_json::Value;

use super::training::QuickstartModel;

/// A model with its measurements on the held-out pairs.
#[derive(Debug, Serialize)]
pub struct MeasuredModel {
    /// The name of the model: its constraint.
    pub name: String,
    /// The constraint with all its settings.
    pub constraint: Value,
    /// The duration of training.
    pub seconds: f64,
    /// The measures on the held-out pairs.
    #[serde(flatten)]
    pub measures: Measures,
    /// Δ of every pair.
    #[serde(skip)]
    pub margins: Vec<f64>,
}

/// The measures of one column of the table.
#[derive(Debug, Serialize)]
pub struct Measures {
    /// The report against the labels, as for any data.
    pub report: RewardReport,
    /// Share of pairs ordered as by the true rewards, among pairs whose true rewards differ.
    pub true_order: Share,
    /// Mean −(p ln σ(Δ) + (1 − p) ln σ(−Δ)) with the labellers' own probability p, in nats.
    pub cross_entropy: f64,
    /// Mean max(σ(Δ), σ(−Δ)): the accuracy that the model expects.
    pub confidence: f64,
}

impl MeasuredModel {
    /// Measures a trained model on the pairs it scored.
    ///
    /// # Errors
    /// Fails if a score is not finite or no pair has a true order.
    pub fn new(name: &str, trained: QuickstartModel, pairs: &[Pair]) -> Result<Self> {
        let margins = trained.scores.iter().map(PairScore::margin).collect();
        let measures = Measures::new(trained.scores, pairs)?;
        Ok(Self {
            name: name.to_owned(),
            constraint: trained.constraint,
            seconds: trained.seconds,
            measures,
            margins,
        })
    }
}

impl Measures {
    /// Measures these scores of these pairs.
    ///
    /// # Errors
    /// Fails as [`MeasuredModel::new`] does.
    pub fn new(mut scores: Vec<PairScore>, pairs: &[Pair]) -> Result<Self> {
        ensure!(scores.len() == pairs.len(), "{} scores for {} pairs", scores.len(), pairs.len());
        let (mut right, mut ordered) = (0.0, 0);
        for (score, pair) in scores.iter_mut().zip(pairs) {
            score.true_chosen = Some(pair.true_chosen);
            score.true_rejected = Some(pair.true_rejected);
            let product = score.margin() * (pair.true_chosen - pair.true_rejected);
            if pair.true_chosen != pair.true_rejected {
                ordered += 1;
                right += if product > 0.0 { 1.0 } else { 0.5 * f64::from(u8::from(product == 0.0)) };
            }
        }
        let margins: Vec<f64> = scores.iter().map(PairScore::margin).collect();
        let probabilities: Vec<f64> = pairs.iter().map(|pair| pair.preference_probability).collect();
        let report = RewardReport::new(&scores)?;
        let confident = report.reliability.iter().map(|bin| bin.count as f64 * bin.confidence).sum::<f64>();
        Ok(Self {
            true_order: Share::wilson(right, ordered, LEVEL)?,
            cross_entropy: cross_entropy(&margins, &probabilities)?,
            confidence: confident / pairs.len() as f64,
            report,
        })
    }

    /// Measures the labellers themselves: the margin of every pair is the log-odds of their probability,
    /// which no model can beat.
    ///
    /// # Errors
    /// Fails as [`MeasuredModel::new`] does.
    pub fn of_labellers(lengths: &[PairScore], pairs: &[Pair]) -> Result<Self> {
        let score = |(pair, lengths): (&Pair, &PairScore)| PairScore {
            chosen: (pair.preference_probability / (1.0 - pair.preference_probability)).ln(),
            rejected: 0.0,
            bound: None,
            ..*lengths
        };
        Self::new(pairs.iter().zip(lengths).map(score).collect(), pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcrm_eval::worlds::World;

    /// Protects: the labellers' column is the optimum it claims to be: its cross-entropy is the entropy of
    /// their probabilities, and any other margins cost more.
    #[test]
    fn nothing_betters_the_labellers() {
        let pairs = World::new(5, 900).test;
        let best = Measures::of_labellers(&vec![PairScore::default(); pairs.len()], &pairs).unwrap();
        let entropy = |p: f64| -(p * p.ln() + (1.0 - p) * (1.0 - p).ln());
        let mean = pairs.iter().map(|pair| entropy(pair.preference_probability)).sum::<f64>() / 300.0;
        assert!((best.cross_entropy - mean).abs() < 1e-9);
        let coin = Measures::new(vec![PairScore::default(); pairs.len()], &pairs).unwrap();
        assert!((coin.cross_entropy - std::f64::consts::LN_2).abs() < 1e-9 && mean < coin.cross_entropy);
        assert_eq!((coin.true_order.value, coin.confidence), (0.5, 0.5));
        assert!(best.report.ece < 0.1 && best.true_order.value > 0.8, "{best:?}");
    }
}
