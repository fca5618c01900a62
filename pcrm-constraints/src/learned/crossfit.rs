//! Cross-fitting: one model per fold, fitted without it, and the value of the features on held-out pairs.

use std::collections::BTreeMap;

use pcrm_core::data::prompt_id::PromptId;
use rayon::prelude::*;

use super::evidence::{Evidence, FeatureStats, Gain, GainMethod, LogLikelihood};
use super::likelihood::loss;
use super::linear::constant;
use super::model::{FitSpec, Model};
use super::table::{FitData, moments};

/// Fits a model for every fold to the pairs of the other folds alone: its scaling, its strength (chosen by
/// held-out likelihood, with each of the other folds held out in turn) and its parameters.
pub(super) fn models(shape: &FitSpec<'_>, table: &FitData, folds: usize) -> Vec<Model> {
    // Choosing for fold a with b held out, and for b with a held out, fits the same pairs, so one fit serves
    // both.
    let twos: Vec<[usize; 2]> = (0..folds).flat_map(|a| (0..a).map(move |b| [a, b])).collect();
    let tried: Vec<Option<[Vec<f64>; 2]>> =
        twos.par_iter().map(|two| try_without(shape, table, *two)).collect();
    let strength = |fold: usize| {
        let mut totals: Vec<f64> = Vec::new();
        for (two, losses) in twos.iter().zip(&tried) {
            let Some(at) = two.iter().position(|of| *of == fold) else { continue };
            let Some(losses) = losses else { continue };
            // The losses on the pairs of the other fold.
            let losses = &losses[1 - at];
            totals.resize(losses.len(), 0.0);
            totals.iter_mut().zip(losses).for_each(|(total, loss)| *total += loss);
        }
        // Of equal losses, the first is taken: the weakest fit.
        let best = totals.iter().enumerate().fold((0, f64::INFINITY), |best, (strength, &loss)| {
            if loss < best.1 { (strength, loss) } else { best }
        });
        best.0
    };
    let model = |fold: usize| shape.fit(table, &table.rows(|of| of != fold), strength(fold));
    (0..folds).into_par_iter().map(model).collect()
}

/// Computes how well each fold's model predicts its fold, with a summary of the wins and features.
pub(super) fn evidence(shape: &FitSpec<'_>, table: &FitData, models: &[Model]) -> Evidence {
    let count = table.wins.len() as f64;
    let constants: Vec<f64> =
        (0..models.len()).map(|fold| constant(table, &table.rows(|other| other != fold))).collect();
    let mut totals = [0.0; 2];
    let mut gains: BTreeMap<PromptId, (f64, f64)> = BTreeMap::new();
    for (row, (&win, &fold)) in table.wins.iter().zip(&table.folds).enumerate() {
        let learned = -loss(models[fold].at(&table.row(row)), win);
        let constant = -loss(constants[fold], win);
        totals[0] += learned;
        totals[1] += constant;
        let gain = gains.entry(table.prompts[row]).or_default();
        *gain = (gain.0 + learned - constant, gain.1 + 1.0);
    }
    let [learned, constant] = totals.map(|total| total / count);
    let mean = learned - constant;
    // Pairs of one prompt are not independent: this is the sandwich estimate of the mean's variance, by
    // prompt.
    let variance: f64 =
        gains.values().map(|(sum, pairs)| (sum - pairs * mean).powi(2)).sum::<f64>() / (count * count);
    let half = 1.96 * variance.sqrt();
    let rows = table.rows(|_| true);
    let seen = |(name, column): (&&str, &Vec<f64>)| {
        let (mean, std) = moments(column, &rows);
        let mut sorted = column.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| sorted[percent * (sorted.len() - 1) / 100];
        FeatureStats { feature: (*name).to_owned(), mean, std, p1: at(1), p99: at(99) }
    };
    Evidence {
        pairs: table.wins.len() as u64,
        prompts: gains.len() as u64,
        mean_win: table.wins.iter().sum::<f64>() / count,
        log_likelihood: LogLikelihood { learned, constant, coin: -std::f64::consts::LN_2 },
        gain: Gain {
            mean,
            low: mean - half,
            high: mean + half,
            level: Some(0.95),
            method: Some(GainMethod::Normal),
            n: Some(gains.len() as u64),
        },
        features: shape.names.iter().zip(&table.columns).map(seen).collect(),
    }
}

/// Fits without both folds and returns the losses on each of them; `None` if no pairs remain to fit to.
fn try_without(shape: &FitSpec<'_>, table: &FitData, two: [usize; 2]) -> Option<[Vec<f64>; 2]> {
    let rows = table.rows(|of| !two.contains(&of));
    let held_out = two.map(|fold| table.rows(|of| of == fold));
    (!rows.is_empty()).then(|| shape.losses(table, &rows, [&held_out[0], &held_out[1]]))
}
