//! The length-controlled win rate of AlpacaEval 2 (Y. Dubois et al., *Length-Controlled AlpacaEval*, 2024),
//! fitted on the user's own prompts.
//!
//! P(first wins) = σ(θ + φ·tanh(δ)), where δ is how much longer the first answer is, in standard deviations;
//! the rate is σ(θ), the model's prediction for answers of equal length. AlpacaEval's term for the difficulty
//! of its own instructions is left out (its `length_controlled_minimal`). θ and φ have an L1 penalty;
//! cross-validation on five folds of prompts chooses it among scikit-learn's ten values.

use serde::{Deserialize, Serialize};

use super::logistic::{Shares, sigmoid, usual_penalties};
use super::{Match, check, clusters};
use crate::bootstrap::{Bootstrap, Estimate};
use crate::error::Result;
use crate::quantiles::mean;

/// Number of folds that choose the penalty.
const FOLDS: usize = 5;
/// The fewest matches for a fit.
const FEWEST: usize = 2 * FOLDS;
/// The largest factor by which the length term may multiply the variance of θ in an identified rate.
const INFLATION: f64 = 10.0;

/// A length-controlled win rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LengthControlled {
    /// σ(θ), from 0 to 1, with its bootstrap interval over prompts at the same penalty.
    pub rate: Estimate,
    /// θ, in log-odds.
    pub theta: f64,
    /// φ, in log-odds: positive if the longer answer wins more often than its policy alone explains.
    pub phi: f64,
    /// C of the penalty.
    pub penalty: f64,
    /// Standard deviation of the difference of lengths, in characters.
    pub std: f64,
    /// Factor by which the length term multiplies the variance of θ; 1 if lengths are independent of the
    /// policy. Absent if it diverges.
    pub inflation: Option<f64>,
    /// Reason not to trust the rate; absent if the rate is identified.
    pub warning: Option<String>,
}

/// Returns the length-controlled win rate of the first policy; `None` with fewer than ten judged matches, or
/// if all differences of lengths are equal, so that length and policy cannot be separated.
///
/// # Errors
/// Fails if a preference is outside \[0, 1\].
pub fn length_controlled(matches: &[Match], bootstrap: &Bootstrap) -> Result<Option<LengthControlled>> {
    check(matches)?;
    let known: Vec<Match> = matches.iter().filter(|one| one.value().is_some()).copied().collect();
    let all: Vec<usize> = (0..known.len()).collect();
    if known.len() < FEWEST {
        return Ok(None);
    }
    let Some((shares, std)) = shares(&known, &all) else { return Ok(None) };
    let clusters = clusters(&known);
    let folds = folds(&known);
    let penalty = shares.best_penalty(&usual_penalties(), &folds)?;
    let weights = shares.fit(penalty)?;
    let rate = bootstrap.estimate(&clusters, |positions| {
        self::shares(&known, positions).map(|(shares, _)| Ok(sigmoid(shares.fit(penalty)?[0]))).transpose()
    })?;
    let information = shares.information(&weights);
    let determinant = information[0][0] * information[1][1] - information[0][1] * information[1][0];
    let inflation = information[0][0] * information[1][1] / determinant;
    let inflation = Some(inflation).filter(|inflation| inflation.is_finite() && determinant > 0.0);
    Ok(rate.map(|rate| LengthControlled {
        rate,
        theta: weights[0],
        phi: weights[1],
        penalty,
        std,
        inflation,
        warning: warning(&known, inflation, weights[0]),
    }))
}

/// Returns the rows of the model, 1 and tanh(δ), with the preference for the first policy as target, and the
/// standard deviation of the length differences.
fn shares(matches: &[Match], positions: &[usize]) -> Option<(Shares, f64)> {
    let gap = |at: &usize| matches[*at].length_a as f64 - matches[*at].length_b as f64;
    let gaps: Vec<f64> = positions.iter().map(gap).collect();
    let centre = mean(&gaps);
    let squares: f64 = gaps.iter().map(|gap| (gap - centre).powi(2)).sum();
    // The standard deviation as pandas computes it, as in alpaca_eval.
    let std = (squares / (gaps.len() as f64 - 1.0)).sqrt();
    if std <= 0.0 || std.is_nan() {
        return None;
    }
    let features = gaps.iter().map(|gap| vec![1.0, (gap / std).tanh()]).collect();
    let targets = positions.iter().filter_map(|at| matches[*at].value()).collect();
    Some((Shares { features, targets }, std))
}

/// Assigns matches to folds with equal numbers of prompts, in the order of the prompts.
fn folds(matches: &[Match]) -> Vec<usize> {
    let mut seen = std::collections::HashMap::new();
    let mut fold = |prompt: usize| {
        let next = seen.len();
        *seen.entry(prompt).or_insert(next) % FOLDS
    };
    matches.iter().map(|one| fold(one.prompt)).collect()
}

fn warning(matches: &[Match], inflation: Option<f64>, theta: f64) -> Option<String> {
    let longer = matches.iter().filter(|one| one.length_a > one.length_b).count();
    let shorter = matches.iter().filter(|one| one.length_a < one.length_b).count();
    let (count, least) = (matches.len(), longer.min(shorter));
    // The rate at equal lengths is an extrapolation if one policy is nearly always longer.
    if least * 50 < count {
        let which = if longer >= shorter { "longer" } else { "shorter" };
        return Some(format!(
            "not identified: the first policy's answer is {which} in {} of {count} matches, so that length \
             and policy cannot be told apart",
            longer.max(shorter)
        ));
    }
    if theta == 0.0 {
        return Some(format!(
            "not identified: the penalty that predicts {count} matches best removes the policy's term"
        ));
    }
    match inflation {
        Some(inflation) if inflation < INFLATION => None,
        Some(inflation) => Some(format!(
            "not identified: the length term multiplies the variance of the policy's by {inflation:.0}"
        )),
        None => Some("not identified: lengths determine the policy".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{golden, matches, near};
    use super::*;
    use crate::golden::numbers;

    /// Protects: weights for a given C equal scikit-learn's with the same objective (tolerance 1e-12), and
    /// the rate with alpaca_eval's own folds equals that of alpaca_eval's code (whose solver stops at 1e-4).
    #[test]
    fn the_rate_is_that_of_alpaca_eval() {
        let golden = golden();
        let cases = golden["length_controlled"].as_array().unwrap();
        assert!(cases.len() >= 3);
        for case in cases {
            let matches = matches(&case["matches"]);
            let all: Vec<usize> = (0..matches.len()).collect();
            let (shares, _) = shares(&matches, &all).unwrap();
            for fit in case["fits"].as_array().unwrap() {
                let c = fit["c"].as_f64().unwrap();
                let weights = shares.fit(c).unwrap();
                for (ours, theirs) in weights.iter().zip(numbers(&fit["weights"])) {
                    assert!(
                        (ours - theirs).abs() < 2e-5 * theirs.abs().max(1.0),
                        "C {c}: {weights:?}, {theirs}"
                    );
                }
            }
            let folds: Vec<usize> = numbers(&case["folds"]).into_iter().map(|fold| fold as usize).collect();
            let penalty = shares.best_penalty(&usual_penalties(), &folds).unwrap();
            near(penalty, &case["penalty"], 1e-9 * penalty, "C");
            near(sigmoid(shares.fit(penalty).unwrap()[0]), &case["length_controlled"], 1e-3, "rate");
            let found = length_controlled(&matches, &Bootstrap::default()).unwrap().unwrap();
            near(found.rate.value, &case["length_controlled"], 0.02, "rate with folds of our own");
            assert!(found.warning.is_none() && found.rate.interval.is_some(), "{found:?}");
        }
    }

    fn drawn(gap: impl Fn(usize) -> usize) -> Vec<Match> {
        let one = |prompt: usize| Match {
            prompt,
            a: 0,
            b: 1,
            forward: Some(f64::from(u8::from(prompt.is_multiple_of(3)))),
            backward: Some(f64::from(u8::from(prompt.is_multiple_of(4)))),
            length_a: 100 + gap(prompt),
            length_b: 100,
        };
        (0..60).map(one).collect()
    }

    /// Protects: a policy that is always longer gets a warning, and constant length differences give no rate.
    #[test]
    fn a_rate_that_is_not_identified_is_said() {
        let longer =
            length_controlled(&drawn(|at| 500 + at * 7 % 13), &Bootstrap::default()).unwrap().unwrap();
        let said = longer.warning.unwrap();
        assert!(
            said.starts_with("not identified: the first policy's answer is longer in 60 of 60"),
            "{said}"
        );
        assert_eq!(length_controlled(&drawn(|_| 5), &Bootstrap::default()).unwrap(), None);
        assert_eq!(length_controlled(&drawn(|at| at)[..9], &Bootstrap::default()).unwrap(), None);
    }
}
