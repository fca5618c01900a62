//! The bias of a judge by the position of answers: how often the answer that is shown first wins.

use serde::{Deserialize, Serialize};

use super::{Match, Outcome, check, clusters};
use crate::bootstrap::{Bootstrap, Estimate};
use crate::error::Result;
use crate::quantiles::mean;

/// The bias of a judge by position, over the matches that it judged in both orders.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PositionBias {
    /// The matches with a verdict in both orders.
    pub matches: usize,
    /// Matches whose verdict does not depend on the order.
    pub consistent: usize,
    /// Matches in which the answer that was shown first won in both orders.
    pub first: usize,
    /// Matches in which the answer that was shown second won in both orders.
    pub second: usize,
    /// The mean preference for the answer that is shown first, from 0 to 1: ½ is no bias.
    pub preference: Estimate,
}

/// Returns the bias by position, `None` where no match has a verdict in both orders. Matches that are neither
/// consistent nor won by one position are ties in one order alone.
///
/// # Errors
/// A preference outside of \[0, 1\].
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
    let count = |is: fn(Outcome, Outcome) -> bool| {
        both.iter().filter(|(forward, backward)| is(Outcome::of(*forward), Outcome::of(*backward))).count()
    };
    Ok(preference.map(|preference| PositionBias {
        matches: kept.len(),
        consistent: count(|forward, backward| forward == backward),
        first: count(|forward, backward| forward == Outcome::Win && backward == Outcome::Loss),
        second: count(|forward, backward| forward == Outcome::Loss && backward == Outcome::Win),
        preference,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: by hand, two matches that follow the first position, one the second, one of each kind besides.
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
