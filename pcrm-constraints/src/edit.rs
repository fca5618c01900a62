//! The edit constraint: answers few edits apart get a tight bound.

use pcrm_core::Result;
use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::registry::ConstraintPlugin;
use serde::{Deserialize, Serialize};
use strsim::generic_levenshtein;

use crate::bound::Hyperbola;

/// Δ* = β1 / (s + β2) + β3 with s = 1 − d / longer, the Levenshtein ratio: d is the least number of token
/// insertions, deletions and replacements that turn one answer into the other. Both answers start at the
/// first token where they differ, as in `length_ratio` (the map of arXiv 2404.00978, §4.1).
///
/// Two answers without a differing token have s = 1; an answer that ends where the other continues has s = 0.
/// The time is proportional to the product of the two lengths: about a millisecond for two answers of a
/// thousand tokens. As data: `{"kind": "edit", "beta1": 20, "beta2": 0.001, "beta3": -15}`, which are the
/// defaults.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Edit {
    /// The map from s to Δ*.
    pub map: Hyperbola,
}

inventory::submit! {
    ConstraintPlugin {
        name: "edit",
        about: "bound from the Levenshtein ratio of the answers' tokens",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Edit>(data)?)),
    }
}

impl Constraint for Edit {
    fn kind(&self) -> &'static str {
        "edit"
    }

    fn bounds(&self, pairs: &[PairView<'_>], _priors: &Priors) -> Result<Vec<f32>> {
        Ok(pairs.iter().map(|pair| self.map.at(similarity(pair))).collect())
    }

    fn similarities(&self, pairs: &[PairView<'_>], _priors: &Priors) -> Result<Option<Vec<f32>>> {
        Ok(Some(pairs.iter().map(|pair| similarity(pair) as f32).collect()))
    }

    fn reads_margins(&self) -> bool {
        false
    }

    fn formula(&self) -> Option<&'static str> {
        Some("Δ* = beta1/(s + beta2) + beta3, s = 1 - edits/longer, in tokens from the first that differs")
    }

    fn parameters(&self) -> &'static [(&'static str, &'static str)] {
        &Hyperbola::PARAMETERS
    }

    fn bound_at(&self, s: f64) -> Option<f32> {
        Some(self.map.at(s))
    }
}

fn similarity(pair: &PairView<'_>) -> f64 {
    // strsim needs a sized type whose reference is iterable, which a slice is not.
    let (chosen, rejected) = (pair.chosen_ids.to_vec(), pair.rejected_ids.to_vec());
    match chosen.len().max(rejected.len()) {
        0 => 1.0,
        longer => 1.0 - generic_levenshtein(&chosen, &rejected) as f64 / longer as f64,
    }
}

#[cfg(test)]
mod tests {
    use pcrm_core::constraint::parse;
    use serde_json::json;

    use super::*;
    use crate::testing::pair_of_lengths;

    /// Protects: s of insertions, deletions and replacements, in either order, on textbook distances (kitten
    /// to sitting 3, flaw to lawn 2), and Δ* against numbers from Python's `decimal`.
    #[test]
    fn bounds_follow_the_edits() {
        let ids = |word: &str| word.bytes().map(u32::from).collect::<Vec<_>>();
        let words: Vec<_> =
            [("kitten", "sitting"), ("sitting", "kitten"), ("flaw", "lawn"), ("", "ab"), ("", "")]
                .map(|(chosen, rejected)| (ids(chosen), ids(rejected)))
                .into();
        let pairs: Vec<_> =
            words.iter().map(|(chosen, rejected)| pair_of_lengths(1, chosen, rejected)).collect();
        let constraint = parse("edit").unwrap();
        let similarities = constraint.similarities(&pairs, &Priors::default()).unwrap();
        assert_eq!(similarities, Some(vec![0.571_428_6, 0.571_428_6, 0.5, 0.0, 1.0]));
        let bounds = constraint.checked_bounds(&pairs, &Priors::default()).unwrap();
        assert_eq!(bounds, [19.938_857, 19.938_857, 24.920_16, 19985.0, 4.980_02]);
    }

    /// Protects: the tagged form with the paper's defaults, and refusals by name.
    #[test]
    fn the_tagged_form_has_the_papers_defaults() {
        let defaults = json!({"kind": "edit", "beta1": 20.0, "beta2": 0.001, "beta3": -15.0});
        assert_eq!(parse("edit").unwrap().to_tagged().unwrap(), defaults);
        let error = parse(r#"{"kind": "edit", "beta4": 1}"#).unwrap_err().to_string();
        assert!(error.starts_with("constraint \"edit\": unknown field `beta4`"), "{error}");
    }
}
