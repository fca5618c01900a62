//! Summaries of a survey: quantiles, shares with their intervals, saved tokens.

use anyhow::Result;
use pcrm_core::data::survey::lengths::Lengths;
use pcrm_core::data::survey::{Finding, Severity};
use pcrm_core::model::Outline;
use pcrm_eval::accuracy::{LEVEL, Share};
use pcrm_eval::quantiles::quantiles;
use pcrm_rl::batch::{PairBatch, ScoreAt};
use pcrm_rl::order::{BatchSize, Order, epoch};
use pcrm_rl::pairs::Pairs;
use serde::Serialize;

use super::bars::Bar;
use super::cost::{ByLength, Cost};

/// The quantiles of lengths to show.
pub const SHARES: [f64; 7] = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0];

/// The limits on length to compare.
const LIMITS: [usize; 6] = [128, 256, 512, 1024, 2048, 4096];

/// Token counts at the quantiles 0, 5, 25, 50, 75, 95 and 100 %, and their mean.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quantiles {
    /// The mean.
    pub mean: f64,
    /// The quantiles in [`SHARES`]' order.
    pub quantiles: [f64; 7],
}

impl Quantiles {
    fn of(values: &[usize]) -> Result<Self> {
        let values: Vec<f64> = values.iter().map(|value| *value as f64).collect();
        let mut all = [0.0; 7];
        all.copy_from_slice(&quantiles(&values, &SHARES)?);
        Ok(Self { mean: values.iter().sum::<f64>() / values.len() as f64, quantiles: all })
    }
}

/// Lengths in tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LengthSummary {
    /// The number of pairs.
    pub pairs: usize,
    /// The tokens that both sequences of a pair begin with.
    pub prompt: Quantiles,
    /// Preferred answers, from the first token that differs.
    pub chosen: Quantiles,
    /// The other answers, from the first token that differs.
    pub rejected: Quantiles,
    /// Whole sequences.
    pub sequence: Quantiles,
    /// The histogram of sequence lengths.
    pub histogram: Vec<Bar>,
    /// The number of pairs each limit keeps: (limit, pairs).
    pub kept_by_limit: Vec<(usize, usize)>,
}

impl LengthSummary {
    /// Summarises lengths; `longest` has the longer sequence of every pair.
    ///
    /// # Errors
    /// Fails if there are no pairs.
    pub fn of(lengths: &Lengths, longest: &[usize]) -> Result<Self> {
        let kept = |limit: usize| longest.iter().filter(|length| **length <= limit).count();
        Ok(Self {
            pairs: longest.len(),
            prompt: Quantiles::of(&lengths.prompt)?,
            chosen: Quantiles::of(&lengths.chosen)?,
            rejected: Quantiles::of(&lengths.rejected)?,
            sequence: Quantiles::of(&lengths.sequence)?,
            histogram: Bar::of_lengths(&lengths.sequence),
            kept_by_limit: LIMITS.map(|limit| (limit, kept(limit))).to_vec(),
        })
    }
}

/// Tokens that need not be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SavedTokens {
    /// Tokens of all sequences, counted separately.
    pub separate: usize,
    /// Tokens computed, with the shared part of answers counted once.
    pub computed: usize,
    /// Tokens of batches padded to their longest sequence.
    pub padded: usize,
    /// The pairs or sets per batch.
    pub batch: usize,
}

impl SavedTokens {
    /// Counts tokens over one epoch in file order; returns `None` if there are no pairs.
    ///
    /// # Errors
    /// Fails if a pair has an empty answer.
    pub fn of<'a>(pairs: &Pairs, batch: usize, model: impl Into<Outline<'a>>) -> Result<Option<Self>> {
        let shares_up_to = model.into().shares_up_to;
        let mut saved = Self { separate: 0, computed: 0, padded: 0, batch };
        for sets in epoch(pairs.unique_tokens(), BatchSize::Pairs(batch), Order::File, 0, 0) {
            let sets: Vec<_> = sets.into_iter().map(|set| &pairs.sets[set]).collect();
            let packed = PairBatch::new(&sets, ScoreAt::Last, shares_up_to)?;
            saved.separate += packed.tokens();
            saved.computed += packed.unique_tokens();
            saved.padded += packed.sequences() * packed.longest;
        }
        Ok((saved.separate > 0).then_some(saved))
    }
}

/// The share of pairs whose longer answer is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LongerPreferred {
    /// The number of pairs whose answers differ in length.
    pub pairs: usize,
    /// The share of them whose longer answer is preferred, with its 95 % Wilson interval.
    pub share: Share,
}

impl LongerPreferred {
    /// A warning requires the whole interval to be above this share or below its complement.
    const STRONG: f64 = 0.6;

    /// Returns the share of `longer` among `pairs`, or `None` if there are no pairs.
    ///
    /// # Errors
    /// Fails if there are more successes than trials.
    pub fn of((longer, pairs): (usize, usize)) -> Result<Option<Self>> {
        if pairs == 0 {
            return Ok(None);
        }
        Ok(Some(Self { pairs, share: Share::wilson(longer as f64, pairs, LEVEL)? }))
    }

    /// Returns a finding if length alone predicts the label beyond chance.
    pub fn finding(&self) -> Option<Finding> {
        let (value, low, high) = (self.share.value, self.share.low(), self.share.high());
        let severity = match () {
            () if low > Self::STRONG || high < 1.0 - Self::STRONG => Severity::Warning,
            () if low > 0.5 || high < 0.5 => Severity::Note,
            () => return None,
        };
        let (which, share) = if value > 0.5 { ("longer", value) } else { ("shorter", 1.0 - value) };
        let (low, high) = if value > 0.5 { (low, high) } else { (1.0 - high, 1.0 - low) };
        let found = format!(
            "the {which} answer is preferred in {:.1} % of {} pairs (95 % interval {:.1} to {:.1} %)",
            100.0 * share,
            self.pairs,
            100.0 * low,
            100.0 * high
        );
        let advice = "A model can be this accurate by length alone, and may learn to be; `pcrm eval reward` \
                      measures how far its scores correlate with length";
        Some(Finding::new("length_bias", severity, found, advice))
    }
}

/// Returns the cost of an epoch for other limits on length, at the measured speed. `longest` has the longer
/// sequence of every pair, including pairs left out by the current limit.
pub fn by_length(longest: &[usize], kept: &Pairs, cost: &Cost) -> Vec<ByLength> {
    let most = longest.iter().copied().max().unwrap_or(0);
    let computed: usize = kept.unique_tokens().iter().sum();
    let whole: usize = kept.pairs().map(|pair| pair.unique_tokens()).sum();
    // Answers of a ranked set are computed once per set, not once per pair.
    let together = computed as f64 / whole.max(1) as f64;
    let at = |limit: usize| {
        let within = || kept.pairs().filter(move |pair| pair.longest() <= limit);
        let tokens = within().map(|pair| pair.unique_tokens()).sum::<usize>() as f64 * together;
        ByLength {
            max_length: limit,
            pairs: longest.iter().filter(|length| **length <= limit).count(),
            seconds_per_epoch: (within().count()
                == longest.iter().filter(|length| **length <= limit).count())
            .then_some(tokens / cost.tokens_per_second),
        }
    };
    let beyond = LIMITS.iter().position(|limit| *limit >= most).unwrap_or(LIMITS.len() - 1);
    LIMITS[..=beyond].iter().map(|limit| at(*limit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a length bias beyond chance is reported with the right severity. The interval is scipy's
    /// Wilson interval (tested where it is computed).
    #[test]
    fn length_bias_is_graded_by_its_interval() {
        let severity = |longer, pairs| {
            LongerPreferred::of((longer, pairs))
                .unwrap()
                .and_then(|finding| finding.finding())
                .map(|finding| finding.severity)
        };
        assert_eq!(severity(0, 0), None);
        assert_eq!(severity(6, 10), None);
        assert_eq!(severity(500, 1000), None);
        assert_eq!(severity(560, 1000), Some(Severity::Note));
        assert_eq!(severity(700, 1000), Some(Severity::Warning));
        assert_eq!(severity(300, 1000), Some(Severity::Warning));
        let finding = LongerPreferred::of((300, 1000)).unwrap().unwrap().finding().unwrap();
        assert!(
            finding.found.starts_with("the shorter answer is preferred in 70.0 % of 1000"),
            "{finding:?}"
        );
    }

    /// Protects: the mean and the order of the quantiles.
    #[test]
    fn lengths_are_summed_up() {
        let quantiles = Quantiles::of(&[4, 1, 3, 2, 5]).unwrap();
        assert_eq!(
            (quantiles.mean, quantiles.quantiles[0], quantiles.quantiles[3], quantiles.quantiles[6]),
            (3.0, 1.0, 3.0, 5.0)
        );
    }
}
