//! Features and wins of pairs as columns, with the fold of each pair.

use std::collections::BTreeSet;

use pcrm_core::Result;
use pcrm_core::constraint::{PairView, Priors};
use pcrm_core::data::prompt_id::PromptId;
use pcrm_core::folds::fold;

use super::features::Feature;

/// The data of a fit.
#[derive(Debug)]
pub(super) struct FitData {
    /// The columns: per feature, its value for every pair.
    pub columns: Vec<Vec<f64>>,
    /// The shares of judges not trained on the pair that prefer its preferred answer.
    pub wins: Vec<f64>,
    /// The prompts of the pairs.
    pub prompts: Vec<PromptId>,
    /// The folds of the pairs.
    pub folds: Vec<usize>,
}

impl FitData {
    /// Computes the features of these pairs and assigns pairs to `folds` folds by prompt.
    ///
    /// # Errors
    /// Fails without pairs, if `wins` is not one number in \[0, 1\] per pair, if wins are no better than
    /// chance, if prompts fall into fewer than three folds, and with the features' errors.
    pub fn new(
        features: &[Feature],
        pairs: &[PairView<'_>],
        wins: &[f32],
        folds: usize,
        priors: &Priors,
    ) -> Result<Self> {
        check_wins(pairs.len(), wins)?;
        let columns = features.iter().map(|feature| feature.of_each(pairs, priors)).collect::<Result<_>>()?;
        let prompts: Vec<PromptId> = pairs.iter().map(|pair| pair.prompt_id).collect();
        let table = Self {
            columns,
            wins: wins.iter().copied().map(f64::from).collect(),
            folds: prompts.iter().map(|prompt| fold(*prompt, folds)).collect(),
            prompts,
        };
        let filled = table.folds.iter().collect::<BTreeSet<_>>().len();
        if filled < 3 {
            let prompts = table.prompts.iter().collect::<BTreeSet<_>>().len();
            return Err(super::refused(format!(
                "the pairs have {prompts} prompts, which fall into {filled} of {folds} folds, expected at \
                 least 3: use more prompts"
            )));
        }
        Ok(table)
    }

    /// Returns the rows of pairs whose fold satisfies `keep`.
    pub fn rows(&self, keep: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.wins.len()).filter(|&row| keep(self.folds[row])).collect()
    }

    /// Returns the features of one pair.
    pub fn row(&self, row: usize) -> Vec<f64> {
        self.columns.iter().map(|column| column[row]).collect()
    }
}

/// Computes the mean and (population) standard deviation of a column over these rows.
pub(super) fn moments(column: &[f64], rows: &[usize]) -> (f64, f64) {
    let count = rows.len() as f64;
    let mean = rows.iter().map(|&row| column[row]).sum::<f64>() / count;
    let variance = rows.iter().map(|&row| (column[row] - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

fn check_wins(pairs: usize, wins: &[f32]) -> Result<()> {
    if pairs == 0 {
        return Err(super::refused("found no pairs to fit to"));
    }
    if wins.len() != pairs {
        return Err(super::refused(format!("found {} wins for {pairs} pairs", wins.len())));
    }
    if let Some(at) = wins.iter().position(|win| !(0.0..=1.0).contains(win)) {
        return Err(super::refused(format!(
            "pair {at} has the win {}, expected a number in [0, 1]",
            wins[at]
        )));
    }
    let mean = wins.iter().copied().map(f64::from).sum::<f64>() / pairs as f64;
    if mean <= 0.5 {
        return Err(super::refused(format!(
            "judges prefer the preferred answer in {:.1} % of cases over {pairs} pairs, which is no better \
             than chance: they cannot measure the confidence in a pair; use more data or better judges",
            100.0 * mean
        )));
    }
    Ok(())
}
