//! The win rate of one policy against another.

use serde::{Deserialize, Serialize};

use super::{Match, MatchOutcome, check, clusters};
use crate::bootstrap::{Bootstrap, Estimate};
use crate::error::Result;
use crate::quantiles::mean;

/// A win rate with its counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WinRate {
    /// Number of matches counted.
    pub matches: usize,
    /// Matches without a verdict, which are not counted.
    pub without_verdict: usize,
    /// Matches won by the first policy.
    pub wins: usize,
    /// Ties, including matches where the judge reversed its verdict with the order.
    pub ties: usize,
    /// Matches won by the second policy.
    pub losses: usize,
    /// Mean preference for the first policy, ties one half, from 0 to 1, with its bootstrap interval over
    /// prompts.
    pub rate: Estimate,
}

/// Returns the win rate of the first policy of these matches; `None` if none has a verdict.
///
/// # Errors
/// Fails if a preference is outside \[0, 1\].
pub fn win_rate(matches: &[Match], bootstrap: &Bootstrap) -> Result<Option<WinRate>> {
    check(matches)?;
    let known: Vec<Match> = matches.iter().filter(|one| one.value().is_some()).copied().collect();
    if known.is_empty() {
        return Ok(None);
    }
    let values: Vec<f64> = known.iter().filter_map(Match::value).collect();
    let rate = bootstrap.estimate(&clusters(&known), |positions| {
        Ok(Some(mean(&positions.iter().map(|at| values[*at]).collect::<Vec<_>>())))
    })?;
    let count = |outcome: MatchOutcome| known.iter().filter(|one| one.outcome() == Some(outcome)).count();
    Ok(rate.map(|rate| WinRate {
        matches: known.len(),
        without_verdict: matches.len() - known.len(),
        wins: count(MatchOutcome::Win),
        ties: count(MatchOutcome::Tie),
        losses: count(MatchOutcome::Loss),
        rate,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::golden::{golden, matches, near};
    use super::*;

    fn one(prompt: usize, forward: Option<f64>, backward: Option<f64>) -> Match {
        Match { prompt, a: 0, b: 1, forward, backward, length_a: 1, length_b: 1 }
    }

    /// Protects: wins, ties, losses and the rate equal those of alpaca_eval's `get_winrate` on the same
    /// verdicts.
    #[test]
    fn the_win_rate_is_that_of_alpaca_eval() {
        let golden = golden();
        for case in golden["length_controlled"].as_array().unwrap() {
            let found = win_rate(&matches(&case["matches"]), &Bootstrap::default()).unwrap().unwrap();
            near(found.rate.value, &case["win_rate"], 1e-12, "win rate");
            assert_eq!(
                serde_json::json!([found.wins, found.ties, found.losses]),
                case["wins_ties_losses"],
                "{found:?}"
            );
        }
    }

    /// Protects: a judge that follows the position gives a tie; one judged order alone counts; no judged
    /// order does not.
    #[test]
    fn orders_are_averaged() {
        let all = [
            one(0, Some(1.0), Some(0.0)),
            one(1, Some(1.0), Some(1.0)),
            one(2, None, Some(0.0)),
            one(3, None, None),
        ];
        let found = win_rate(&all, &Bootstrap::default()).unwrap().unwrap();
        assert_eq!((found.matches, found.without_verdict), (3, 1));
        assert_eq!((found.wins, found.ties, found.losses, found.rate.value), (1, 1, 1, 0.5));
        assert_eq!(win_rate(&all[3..], &Bootstrap::default()).unwrap(), None);
        let error = win_rate(&[one(0, Some(1.5), None)], &Bootstrap::default()).unwrap_err().to_string();
        assert_eq!(error, "preference of match 0: found 1.5, expected a number from 0 to 1");
        let turned: Vec<Match> = all.iter().map(Match::reversed).collect();
        assert_eq!(turned[1].forward, Some(0.0));
        assert_eq!(turned[2].forward, Some(1.0));
    }
}
