//! Position bias of a judge: the advantage of the answer shown first.

use serde::{Deserialize, Serialize};

use super::{Match, MatchOutcome, check, clusters};
use crate::bootstrap::{Bootstrap, Estimate};
use crate::error::Result;
use crate::quantiles::mean;

/// Position bias of a judge, over the matches judged in both orders.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PositionBias {
    /// Number of matches with a verdict in both orders.
    pub matches: usize,
    /// Matches with the same verdict in both orders.
    pub consistent: usize,
    /// Matches where the answer shown first won in both orders.
    pub first: usize,
    /// Matches where the answer shown second won in both orders.
    pub second: usize,
    /// Mean preference for the answer shown first, from 0 to 1; ½ is no bias.
    pub preference: Estimate,
}

/// Returns the position bias; `None` if no match has a verdict in both orders. Matches counted neither as
/// consistent nor as won by one position are ties in exactly one order.
///
/// # Errors
/// Fails if a preference is outside \[0, 1\].
pub fn position_bias(matches: &[Match], bootstrap: &Bootstrap) -> Result<Option<PositionBias>> {
    check(matches)?;
    let both: Vec<(f64, f64)> = matches.iter().filter_map(|one| one.forward.zip(one.backward)).collect();
    let kept: Vec<Match> =
        matches.iter().filter(|one| one.forward.is_some() && one.backward.is_some()).copied().collect();
    if kept.is_empty() {
        return Ok(None);
    }
    let shown_first: Vec<f64> =
        both.iter().map(|(forward, backward)| f64::midpoint(*forward, 1.0 - backward)).collect();
    let preference = bootstrap.estimate(&clusters(&kept), |positions| {
        Ok(Some(mean(&positions.iter().map(|at| shown_first[*at]).collect::<Vec<_>>())))
    })?;
    let count = |is: fn(MatchOutcome, MatchOutcome) -> bool| {
        both.iter()
            .filter(|(forward, backward)| is(MatchOutcome::of(*forward), MatchOutcome::of(*backward)))
            .count()
    };
    Ok(preference.map(|preference| PositionBias {
        matches: kept.len(),
        consistent: count(|forward, backward| forward == backward),
        first: count(|forward, backward| forward == MatchOutcome::Win && backward == MatchOutcome::Loss),
        second: count(|forward, backward| forward == MatchOutcome::Loss && backward == MatchOutcome::Win),
        preference,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: counts by hand: two matches follow the first position, one the second, and one is of each
    /// other kind.
    #[test]
    fn positions_are_counted() {
        let one = |prompt: usize, forward: f64, backward: f64| Match {
            prompt,
            a: 0,
            b: 1,
            forward: Some(forward),
            backward: Some(backward),
            length_a: 1,
            length_b: 1,
        };
        let mut all = vec![
            one(0, 1.0, 0.0),
            one(1, 1.0, 0.0),
            one(2, 0.0, 1.0),
            one(3, 1.0, 1.0),
            one(4, 0.5, 0.0),
            one(5, 0.5, 0.5),
        ];
        all.push(Match { forward: None, ..all[0] });
        let found = position_bias(&all, &Bootstrap::default()).unwrap().unwrap();
        assert_eq!((found.matches, found.consistent, found.first, found.second), (6, 2, 2, 1));
        // (1 + 1 + 0 + ½ + ¾ + ½) / 6
        assert!((found.preference.value - 3.75 / 6.0).abs() < 1e-12);
        assert_eq!(position_bias(&all[6..], &Bootstrap::default()).unwrap(), None);
    }
}
