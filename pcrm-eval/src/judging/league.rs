//! Ratings of several policies: a Bradley–Terry league of all their matches.
//!
//! P(i beats j) = σ(r_i − r_j), fitted by maximum likelihood; a tie is half a win for both (R. A. Bradley and
//! M. E. Terry, 1952). Ratings have mean 0. They exist only if no group of policies won all its matches
//! against the others (L. R. Ford, 1957); otherwise they diverge, and the result has none. If they diverge in
//! too many bootstrap draws, ratings have no interval.

use serde::{Deserialize, Serialize};

use super::logistic::sigmoid;
use super::{Match, check, clusters};
use crate::bootstrap::{Bootstrap, Estimate};
use crate::error::Result;

/// Elo points of one unit of log-odds: 400 / ln 10.
pub const ELO: f64 = 400.0 / std::f64::consts::LN_10;

/// Ratings and standings of policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct League {
    /// Policies, in the order of their numbers.
    pub standings: Vec<Standing>,
    /// Number of matches counted.
    pub matches: usize,
    /// Reason why there are no ratings, or no intervals; absent if there are.
    pub warning: Option<String>,
}

/// The standing of one policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Number of the policy.
    pub policy: usize,
    /// Number of its matches.
    pub matches: usize,
    /// Mean result against all others, ties one half.
    pub score: Option<f64>,
    /// Rating in log-odds, mean 0 over the policies; absent if ratings do not exist.
    pub rating: Option<Estimate>,
}

/// Returns the league of policies 0 to `policies` − 1.
///
/// # Errors
/// Fails if a preference is outside \[0, 1\].
pub fn league(matches: &[Match], policies: usize, bootstrap: &Bootstrap) -> Result<League> {
    check(matches)?;
    let known: Vec<Match> = matches.iter().filter(|one| one.value().is_some()).copied().collect();
    let all: Vec<usize> = (0..known.len()).collect();
    let wins = wins(&known, &all, policies);
    let exists = ratings(&wins).is_some();
    let clusters = clusters(&known);
    let mut standings = Vec::new();
    for policy in 0..policies {
        let won: f64 = wins[policy].iter().sum();
        let lost: f64 = wins.iter().map(|row| row[policy]).sum();
        let rating = match exists {
            true => bootstrap.estimate(&clusters, |positions| {
                Ok(ratings(&self::wins(&known, positions, policies)).map(|all| all[policy]))
            })?,
            false => None,
        };
        standings.push(Standing {
            policy,
            matches: known.iter().filter(|one| one.a == policy || one.b == policy).count(),
            score: (won + lost > 0.0).then(|| won / (won + lost)),
            rating,
        });
    }
    let diverges = |positions: &[usize]| !is_connected(&self::wins(&known, positions, policies));
    let diverging = if exists { bootstrap.count(&clusters, diverges) } else { 0 };
    let why =
        "some policies won all or none of their matches against the others, so that ratings have no limit";
    let warning = match bootstrap.tolerates(diverging) {
        _ if !exists => Some(format!("no ratings: {why}")),
        true => None,
        false => {
            Some(format!("no intervals: in {diverging} of {} bootstrap draws, {why}", bootstrap.resamples))
        }
    };
    Ok(League { standings, matches: known.len(), warning })
}

/// Returns the wins of every policy against every other.
fn wins(matches: &[Match], positions: &[usize], policies: usize) -> Vec<Vec<f64>> {
    let mut wins = vec![vec![0.0; policies]; policies];
    for at in positions {
        let one = &matches[*at];
        if let Some(value) = one.value().filter(|_| one.a < policies && one.b < policies) {
            wins[one.a][one.b] += value;
            wins[one.b][one.a] += 1.0 - value;
        }
    }
    wins
}

/// Returns the maximum-likelihood ratings, by Newton's method; `None` if they do not exist.
fn ratings(wins: &[Vec<f64>]) -> Option<Vec<f64>> {
    let count = wins.len();
    if count == 0 || !is_connected(wins) {
        return None;
    }
    let mut ratings = vec![0.0; count];
    for _ in 0..200 {
        let mut gradient = vec![0.0; count];
        // A row of ones fixes the mean, which the likelihood leaves undetermined.
        let mut matrix = vec![vec![1.0 / count as f64; count]; count];
        for i in 0..count {
            for j in (0..count).filter(|j| *j != i) {
                let games = wins[i][j] + wins[j][i];
                let p = sigmoid(ratings[i] - ratings[j]);
                gradient[i] += wins[i][j] - games * p;
                matrix[i][i] += games * p * (1.0 - p);
                matrix[i][j] -= games * p * (1.0 - p);
            }
        }
        let step = solve(matrix, gradient)?;
        let largest = step.iter().fold(0.0_f64, |most, step| most.max(step.abs()));
        // Newton's method overshoots if one policy wins nearly always.
        let size = if largest > 1.0 { 1.0 / largest } else { 1.0 };
        ratings.iter_mut().zip(&step).for_each(|(rating, step)| *rating += size * step);
        if largest < 1e-12 {
            break;
        }
    }
    let centre = ratings.iter().sum::<f64>() / count as f64;
    Some(ratings.into_iter().map(|rating| rating - centre).collect())
}

/// Returns true if every policy can be reached from every other along wins.
fn is_connected(wins: &[Vec<f64>]) -> bool {
    let reaches_all = |beats: &dyn Fn(usize, usize) -> bool| {
        let (mut seen, mut open) = (vec![false; wins.len()], vec![0]);
        while let Some(at) = open.pop() {
            if !std::mem::replace(&mut seen[at], true) {
                open.extend((0..wins.len()).filter(|other| !seen[*other] && beats(at, *other)));
            }
        }
        seen.into_iter().all(|seen| seen)
    };
    reaches_all(&|i, j| wins[i][j] > 0.0) && reaches_all(&|i, j| wins[j][i] > 0.0)
}

/// Solves a linear system by Gaussian elimination with pivoting.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let size = right.len();
    for column in 0..size {
        let pivot =
            (column..size).max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))?;
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        let pivot = matrix[column][column].abs();
        if pivot <= 1e-300 || pivot.is_nan() {
            return None;
        }
        for row in column + 1..size {
            let factor = matrix[row][column] / matrix[column][column];
            let above = matrix[column].clone();
            matrix[row].iter_mut().zip(&above).for_each(|(own, above)| *own -= factor * above);
            right[row] -= factor * right[column];
        }
    }
    let mut solution = vec![0.0; size];
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|column| matrix[row][column] * solution[column]).sum();
        solution[row] = (right[row] - known) / matrix[row][row];
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use super::super::golden::{golden, matches, near};
    use super::*;
    use crate::golden::numbers;

    /// Protects: ratings equal those of statsmodels' binomial regression on the same matches.
    #[test]
    fn ratings_are_those_of_statsmodels() {
        let golden = golden();
        let case = &golden["league"];
        let wanted = numbers(&case["ratings"]);
        let found = league(&matches(&case["matches"]), wanted.len(), &Bootstrap::default()).unwrap();
        assert!(found.warning.is_none());
        for (standing, wanted) in found.standings.iter().zip(wanted) {
            let rating = standing.rating.unwrap();
            near(rating.value, &wanted.into(), 1e-8, "rating");
            // statsmodels' standard errors assume independent matches; the interval is about as wide as ours.
            assert!(rating.interval.unwrap().contains(wanted));
        }
        let widths = numbers(&case["widths"]);
        for (standing, theirs) in found.standings.iter().zip(widths) {
            let interval = standing.rating.and_then(|rating| rating.interval).unwrap();
            let ratio = (interval.high() - interval.low()) / theirs;
            assert!((0.75..1.3).contains(&ratio), "{ratio}");
        }
    }

    /// Protects: the ratings of two policies are the log-odds of the win rate, and a policy that never lost
    /// has none.
    #[test]
    fn ratings_without_limit_are_absent() {
        let one = |prompt: usize, value: f64| Match {
            prompt,
            a: 0,
            b: 1,
            forward: Some(value),
            backward: None,
            length_a: 1,
            length_b: 1,
        };
        let games: Vec<Match> = (0..40).map(|at| one(at, f64::from(u8::from(at % 4 > 0)))).collect();
        let found = league(&games, 2, &Bootstrap::default()).unwrap();
        // 3 to 1: ln 3 apart.
        let rating = found.standings[0].rating.unwrap().value;
        assert!((rating - 3f64.ln() / 2.0).abs() < 1e-10, "{rating}");
        assert_eq!(found.standings[1].score, Some(0.25));
        let won: Vec<Match> = (0..40).map(|at| one(at, 1.0)).collect();
        let found = league(&won, 2, &Bootstrap::default()).unwrap();
        assert!(found.standings.iter().all(|standing| standing.rating.is_none()));
        assert!(found.warning.unwrap().starts_with("no ratings"));
    }

    /// Protects: ratings that have no limit in many bootstrap draws have no interval, rather than one from
    /// the other draws alone, and the warning counts those draws.
    #[test]
    fn ratings_without_limit_in_many_draws_have_no_interval() {
        let one = |prompt: usize, lost: usize| Match {
            prompt,
            a: 0,
            b: 1,
            forward: Some(if prompt < lost { 0.0 } else { 1.0 }),
            backward: None,
            length_a: 1,
            length_b: 1,
        };
        // A draw has no loss with probability (1 − 2/60)^60 = 0.13, or (1 − 8/60)^60 = 0.0002.
        for (lost, is_shown) in [(2, false), (8, true)] {
            let games: Vec<Match> = (0..60).map(|at| one(at, lost)).collect();
            let found = league(&games, 2, &Bootstrap::default()).unwrap();
            for standing in &found.standings {
                assert_eq!(standing.rating.unwrap().interval.is_some(), is_shown, "{found:?}");
            }
            let Some(warning) = found.warning else {
                assert!(is_shown);
                continue;
            };
            let parts: Vec<&str> = warning.split(' ').collect();
            let share = parts[3].parse::<f64>().unwrap() / parts[5].parse::<f64>().unwrap();
            assert!(!is_shown && (0.09..0.18).contains(&share), "{warning}");
            assert!(warning.starts_with("no intervals: in "), "{warning}");
        }
        let none = Bootstrap { resamples: 0, ..Bootstrap::default() };
        let games: Vec<Match> = (0..60).map(|at| one(at, 2)).collect();
        assert_eq!(league(&games, 2, &none).unwrap().warning, None);
    }
}
