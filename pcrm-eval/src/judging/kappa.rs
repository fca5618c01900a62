//! The agreement of two judges on the same matches: Cohen's κ (J. Cohen, 1960).

use serde::{Deserialize, Serialize};

use super::MatchOutcome;
use crate::bootstrap::{Bootstrap, Clusters, Estimate};
use crate::error::{Result, check_lengths};

/// Agreement of two judges on the same matches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Number of matches that both judged.
    pub matches: usize,
    /// Count of each pair of outcomes: rows are the first judge's win, tie and loss, columns the second's.
    pub table: [[usize; 3]; 3],
    /// Share of matches with the same outcome, ties included.
    pub agreement: f64,
    /// Share of matches with the same outcome among those where neither judge says tie; absent if there are
    /// none.
    pub without_ties: Option<f64>,
    /// Cohen's κ with its bootstrap interval over prompts; absent if chance alone explains every agreement.
    pub kappa: Option<Estimate>,
}

/// Returns the agreement of two judges, position by position; `prompts` are the numbers of the matches'
/// prompts. `None` if no match was judged by both.
///
/// # Errors
/// Fails if the inputs differ in length.
pub fn agreement(
    first: &[Option<MatchOutcome>],
    second: &[Option<MatchOutcome>],
    prompts: &[usize],
    bootstrap: &Bootstrap,
) -> Result<Option<Agreement>> {
    check_lengths("verdicts of two judges", first.len(), second.len())?;
    check_lengths("verdicts and prompts", first.len(), prompts.len())?;
    let judged = first.iter().zip(second).map(|(first, second)| (*first).zip(*second));
    let both: Vec<(usize, (MatchOutcome, MatchOutcome))> =
        prompts.iter().zip(judged).filter_map(|(prompt, pair)| Some((*prompt, pair?))).collect();
    if both.is_empty() {
        return Ok(None);
    }
    let clusters = Clusters::of(&both.iter().map(|(prompt, _)| *prompt).collect::<Vec<_>>());
    let pairs: Vec<(MatchOutcome, MatchOutcome)> = both.into_iter().map(|(_, pair)| pair).collect();
    let table = |positions: &mut dyn Iterator<Item = usize>| {
        let mut table = [[0; 3]; 3];
        positions.for_each(|at| table[pairs[at].0 as usize][pairs[at].1 as usize] += 1);
        table
    };
    let kappa =
        bootstrap.estimate(&clusters, |positions| Ok(kappa(&table(&mut positions.iter().copied()))))?;
    let table = table(&mut (0..pairs.len()));
    let decided = table[0][0] + table[2][2] + table[0][2] + table[2][0];
    Ok(Some(Agreement {
        matches: pairs.len(),
        table,
        agreement: observed(&table),
        without_ties: (decided > 0).then(|| (table[0][0] + table[2][2]) as f64 / decided as f64),
        kappa,
    }))
}

fn observed(table: &[[usize; 3]; 3]) -> f64 {
    let all: usize = table.iter().flatten().sum();
    (0..3).map(|at| table[at][at]).sum::<usize>() as f64 / all as f64
}

/// Returns (observed − expected) / (1 − expected); `None` if both judges always give the same single outcome.
fn kappa(table: &[[usize; 3]; 3]) -> Option<f64> {
    let all = table.iter().flatten().sum::<usize>() as f64;
    let row = |at: usize| table[at].iter().sum::<usize>() as f64 / all;
    let column = |at: usize| table.iter().map(|row| row[at]).sum::<usize>() as f64 / all;
    let expected: f64 = (0..3).map(|at| row(at) * column(at)).sum();
    (1.0 - expected > 1e-12).then(|| (observed(table) - expected) / (1.0 - expected))
}

#[cfg(test)]
mod tests {
    use super::super::golden::{golden, near};
    use super::*;
    use crate::golden::numbers;

    /// Protects: κ and agreement equal statsmodels' and scikit-learn's on the same verdicts.
    #[test]
    fn kappa_is_that_of_statsmodels() {
        let golden = golden();
        for case in golden["kappa"].as_array().unwrap() {
            let outcome =
                |value: f64| Some([MatchOutcome::Win, MatchOutcome::Tie, MatchOutcome::Loss][value as usize]);
            let [first, second] = ["first", "second"]
                .map(|name| numbers(&case[name]).into_iter().map(outcome).collect::<Vec<_>>());
            let prompts: Vec<usize> = (0..first.len()).collect();
            let found = agreement(&first, &second, &prompts, &Bootstrap::default()).unwrap().unwrap();
            near(found.kappa.unwrap().value, &case["kappa"], 1e-12, "kappa");
            near(found.agreement, &case["agreement"], 1e-12, "agreement");
            let interval = found.kappa.unwrap().interval.unwrap();
            // statsmodels' interval is the large-sample one.
            near(interval.low(), &case["low"], 0.05, "low");
            near(interval.high(), &case["high"], 0.05, "high");
        }
    }

    /// Protects: judges that always give the same outcome have an agreement of 1 and no κ; unjudged matches
    /// are skipped.
    #[test]
    fn agreement_by_chance_has_no_kappa() {
        let wins = [Some(MatchOutcome::Win), Some(MatchOutcome::Win), None];
        let found = agreement(&wins, &wins, &[0, 1, 2], &Bootstrap::default()).unwrap().unwrap();
        assert_eq!((found.matches, found.agreement, found.kappa), (2, 1.0, None));
        assert_eq!(agreement(&[None], &wins[..1], &[0], &Bootstrap::default()).unwrap(), None);
        assert!(agreement(&wins, &wins[..2], &[0, 1, 2], &Bootstrap::default()).is_err());
    }
}
