//! Ties and whole rankings against torch in float64, in value and gradient.
//!
//! `golden/loss` has the numbers and the script that made them.

use std::fs;

use anyhow::{Result, bail, ensure};
use pcrm_rl::batch::Ranked;
use pcrm_rl::loss::plackett_luce::{choice_loss, choices};
use pcrm_rl::loss::{LossConfig, ScorePair, TieModel};
use serde::Deserialize;

use crate::support::beside;

/// f64 against float64.
const TOLERANCE: f64 = 1e-12;

#[derive(Deserialize)]
struct Golden {
    pairs: Vec<PairCase>,
    rankings: Vec<RankingCase>,
}

#[derive(Debug, Deserialize)]
struct PairCase {
    model: String,
    strength: f64,
    chosen: f64,
    rejected: f64,
    tied: bool,
    loss: f64,
    grad_chosen: f64,
    grad_rejected: f64,
}

#[derive(Debug, Deserialize)]
struct RankingCase {
    scores: Vec<f64>,
    losses: Vec<usize>,
    nu: Option<f64>,
    loss: f64,
    grad: Vec<f64>,
}

fn golden() -> Result<Golden> {
    Ok(serde_json::from_str(&fs::read_to_string(beside("golden/loss/sets.json"))?)?)
}

fn check(what: &str, got: f64, want: f64) -> Result<()> {
    ensure!((got - want).abs() <= TOLERANCE * (1.0 + want.abs()), "{what}: {got}, expected {want}");
    Ok(())
}

/// Returns a set whose answers have these numbers of better ones, with scores from index `first` on.
fn set(losses: &[usize], first: usize) -> Vec<Ranked> {
    let ranked = |(at, losses): (usize, &usize)| Ranked { score: (first + at) as u32, losses: *losses };
    losses.iter().enumerate().map(ranked).collect()
}

/// Protects: both tie models follow torch, for wins and ties, near and far apart.
#[test]
fn ties_of_pairs_are_those_of_davidson_and_of_rao_and_kupper() -> Result<()> {
    let cases = golden()?.pairs;
    ensure!(cases.len() == 40, "sets.json has {} pairs", cases.len());
    for case in &cases {
        let ties = match case.model.as_str() {
            "davidson" => TieModel::Davidson { nu: case.strength },
            "rao-kupper" => TieModel::RaoKupper { theta: case.strength },
            other => bail!("{other}"),
        };
        let PairCase { chosen, rejected, tied, .. } = *case;
        let comparison = ScorePair { chosen, rejected, bound: f64::INFINITY, margin: 0.0, tied };
        let loss = LossConfig { ties, ..LossConfig::default() }.pair(&comparison)?;
        let what = format!("{case:?}");
        check(&what, loss.total, case.loss)?;
        check(&what, loss.d_chosen, case.grad_chosen)?;
        check(&what, loss.d_rejected, case.grad_rejected)?;
    }
    Ok(())
}

/// Protects: Plackett–Luce and Davidson–Luce follow torch for two to five answers, in any order in memory,
/// with ties at the top, in the middle and at the end; sets in one batch do not affect each other.
#[test]
fn rankings_are_those_of_plackett_and_luce() -> Result<()> {
    let cases = golden()?.rankings;
    ensure!(cases.len() == 18, "sets.json has {} rankings", cases.len());
    for nu in [None, Some(1.0), Some(0.4)] {
        let of_nu: Vec<&RankingCase> = cases.iter().filter(|case| case.nu == nu).collect();
        let ties = nu.map_or(TieModel::None, |nu| TieModel::Davidson { nu });
        let all: Vec<f64> = of_nu.iter().flat_map(|case| case.scores.clone()).collect();
        let share = 1.0 / of_nu.len() as f64;
        let (mut gradient, mut first) = (vec![0.0; all.len()], 0);
        for case in &of_nu {
            let made = choices(&set(&case.losses, first), ties, share);
            let loss: f64 = made
                .iter()
                .map(|choice| choice.weight / share * choice_loss(&all, choice, nu, &mut gradient))
                .sum();
            check(&format!("{case:?}"), loss, case.loss)?;
            first += case.losses.len();
        }
        let want = of_nu.iter().flat_map(|case| case.grad.iter().map(|grad| grad * share));
        for (got, want) in gradient.iter().zip(want) {
            check("gradient", *got, want)?;
        }
    }
    Ok(())
}

/// Protects: a ranking of two answers has the loss of the pair.
#[test]
fn a_ranking_of_two_is_a_pair() -> Result<()> {
    for (ties, nu) in [(TieModel::None, None), (TieModel::Davidson { nu: 0.7 }, Some(0.7))] {
        let scores = [0.4, -0.9];
        let mut gradient = [0.0; 2];
        let ranking: f64 = choices(&set(&[0, 1], 0), ties, 1.0)
            .iter()
            .map(|choice| choice_loss(&scores, choice, nu, &mut gradient))
            .sum();
        let [chosen, rejected] = scores;
        let comparison = ScorePair { chosen, rejected, bound: f64::INFINITY, margin: 0.0, tied: false };
        let pair = LossConfig { ties, ..LossConfig::default() }.pair(&comparison)?;
        check("loss", ranking, pair.total)?;
        check("gradient", gradient[0], pair.d_chosen)?;
    }
    Ok(())
}
