//! Ranked sets of answers: their sizes, pairs and ties.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::data::answer_set::{AnswerSet, Comparison};
use crate::data::report::{ProblemKind, Report};

/// Counts of the ranked sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sets {
    /// The number of sets that yield pairs.
    pub sets: usize,
    /// The number of sets by the number of their compared answers.
    pub sizes: BTreeMap<usize, usize>,
    /// Pairs of answers with a preferred one.
    pub pairs: usize,
    /// Pairs of answers that tie; sets whose answers all tie are not counted.
    pub ties: usize,
}

impl Sets {
    /// Counts the ranked sets, whose ties were left out; returns `None` if there are none.
    pub fn of(rows: &[AnswerSet], report: &Report) -> Option<Self> {
        let mut sets = Self::default();
        for row in rows.iter().filter(|row| row.ranked.is_some()) {
            let both = |comparison: &Comparison| [comparison.chosen, comparison.rejected];
            let answers: HashSet<u32> = row.comparisons.iter().flat_map(both).collect();
            sets.sets += 1;
            *sets.sizes.entry(answers.len()).or_default() += 1;
            sets.pairs += row.comparisons.len();
        }
        sets.ties = report.counts().get(&ProblemKind::TieInSet).copied().unwrap_or(0);
        (sets.sets > 0).then_some(sets)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::read;
    use super::*;

    /// Protects: sizes, pairs and ties of hand-made sets; single pairs are not sets.
    #[test]
    fn sets_are_counted_by_hand() {
        let (rows, report) = read(&[
            json!({"prompt": "q", "responses": ["a", "b", "c"], "scores": [3, 2, 2]}),
            json!({"prompt": "r", "responses": ["a", "b"], "scores": [1, 2]}),
            json!({"prompt": "s", "responses": ["a", "b"], "scores": [1, 1]}),
        ]);
        let sets = Sets::of(&rows, &report).unwrap();
        assert_eq!(sets, Sets { sets: 2, sizes: BTreeMap::from([(2, 1), (3, 1)]), pairs: 3, ties: 1 });
        let (rows, report) = read(&[json!({"prompt": "q", "chosen": "a", "rejected": "b"})]);
        assert_eq!(Sets::of(&rows, &report), None);
    }
}
