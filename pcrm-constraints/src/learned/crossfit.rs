//! Cross-fitting: a model per fold, fitted without it, and what the features bring to pairs that no model saw.

use std::collections::BTreeMap;

use pcrm_core::data::prompt_id::PromptId;
use rayon::prelude::*;

use super::evidence::{Evidence, Gain, GainMethod, LogLikelihood, Seen};
use super::likelihood::loss;
use super::linear::constant;
use super::model::{Model, Shape};
use super::table::{Table, moments};

/// A model for every fold, fitted to the pairs of the other folds alone: their scaling, their strength (which held-out
/// likelihood chooses, each of the other folds being held out in turn) and their numbers.
pub(super) fn models(shape: &Shape<'_>, table: &Table, folds: usize) -> Vec<Model> {
    // Who chooses for one fold with another held out, and who chooses for the other, fit to the same pairs.
    let twos: Vec<[usize; 2]> = (0..folds).flat_map(|a| (0..a).map(move |b| [a, b])).collect();
    let tried: Vec<Option<[Vec<f64>; 2]>> =
        twos.par_iter().map(|two| try_without(shape, table, *two)).collect();
    let strength = |fold: usize| {
        let mut totals: Vec<f64> = Vec::new();
        for (two, losses) in twos.iter().zip(&tried) {
            let Some(at) = two.iter().position(|of| *of == fold) else { continue };
            let Some(losses) = losses else { continue };
            // Those of the pairs of the other one.
            let losses = &losses[1 - at];
            totals.resize(losses.len(), 0.0);
            totals.iter_mut().zip(losses).for_each(|(total, loss)| *total += loss);
        }
        // The first of equals: the weakest fit.
        let best = totals.iter().enumerate().fold((0, f64::INFINITY), |best, (strength, &loss)| {
            if loss < best.1 { (strength, loss) } else { best }
        });
        best.0
    };
    let model = |fold: usize| shape.fit(table, &table.rows(|of| of != fold), strength(fold));
    (0..folds).into_par_iter().map(model).collect()
}

/// What the models' wins were, and how well each fold's model foretells its fold.
pub(super) fn evidence(shape: &Shape<'_>, table: &Table, models: &[Model]) -> Evidence {
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
    // Pairs of one prompt are not independent: the sandwich estimate of the mean's variance, by prompt.
    let variance: f64 =
        gains.values().map(|(sum, pairs)| (sum - pairs * mean).powi(2)).sum::<f64>() / (count * count);
    let half = 1.96 * variance.sqrt();
    let rows = table.rows(|_| true);
    let seen = |(name, column): (&&str, &Vec<f64>)| {
        let (mean, std) = moments(column, &rows);
        let mut sorted = column.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| sorted[percent * (sorted.len() - 1) / 100];
        Seen { feature: (*name).to_owned(), mean, std, p1: at(1), p99: at(99) }
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

/// The losses on the pairs of each of two folds of what is fitted without both, if there are any pairs to fit to.
fn try_without(shape: &Shape<'_>, table: &Table, two: [usize; 2]) -> Option<[Vec<f64>; 2]> {
    let rows = table.rows(|of| !two.contains(&of));
    let held_out = two.map(|fold| table.rows(|of| of == fold));
    (!rows.is_empty()).then(|| shape.losses(table, &rows, [&held_out[0], &held_out[1]]))
}
