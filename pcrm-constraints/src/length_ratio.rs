//! The length-ratio constraint: answers of similar length get a tight bound.

use pcrm_core::Result;
use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::registry::ConstraintPlugin;
use serde::{Deserialize, Serialize};

use crate::bound::Hyperbola;

/// Δ* = β1 / (s + β2) + β3 with s = shorter / longer answer, in tokens from the first one that differs (arXiv
/// 2404.00978, §4.1).
///
/// Two answers without a differing token have s = 1; an answer that ends where the other continues has s = 0.
/// As data: `{"kind": "length_ratio", "beta1": 20, "beta2": 0.001, "beta3": -15}`, which are the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LengthRatio {
    /// The map from s to Δ*.
    pub map: Hyperbola,
}

inventory::submit! {
    ConstraintPlugin {
        name: "length_ratio",
        about: "bound from the ratio of the answers' lengths: beta1/(s + beta2) + beta3",
        build: |data| Ok(Box::new(erased_serde::deserialize::<LengthRatio>(data)?)),
    }
}

impl Constraint for LengthRatio {
    fn kind(&self) -> &'static str {
        "length_ratio"
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
        Some("Δ* = beta1/(s + beta2) + beta3, s = shorter/longer, in tokens from the first that differs")
    }

    fn parameters(&self) -> &'static [(&'static str, &'static str)] {
        &Hyperbola::PARAMETERS
    }

    fn bound_at(&self, s: f64) -> Option<f32> {
        Some(self.map.at(s))
    }
}

fn similarity(pair: &PairView<'_>) -> f64 {
    let (chosen, rejected) = (pair.chosen_ids.len(), pair.rejected_ids.len());
    match chosen.max(rejected) {
        0 => 1.0,
        longer => chosen.min(rejected) as f64 / longer as f64,
    }
}

#[cfg(test)]
mod tests {
    use pcrm_core::constraint::{from_tagged, parse};
    use serde_json::json;

    use super::*;
    use crate::testing::pair_of_lengths;

    /// Protects: s and Δ* with either answer the longer one, against numbers from Python's `decimal`.
    #[test]
    fn bounds_follow_the_lengths() {
        let constraint = parse("length_ratio").unwrap();
        let tokens = [7; 8];
        let pairs: Vec<_> = [(3, 5), (5, 3), (4, 4), (0, 8), (0, 0)]
            .into_iter()
            .map(|(chosen, rejected)| pair_of_lengths(1, &tokens[..chosen], &tokens[..rejected]))
            .collect();
        let bounds = constraint.checked_bounds(&pairs, &Priors::default()).unwrap();
        assert_eq!(bounds, [18.277_87, 18.277_87, 4.980_02, 19985.0, 4.980_02]);
        let similarities = constraint.similarities(&pairs, &Priors::default()).unwrap();
        assert_eq!(similarities, Some(vec![0.6, 0.6, 1.0, 0.0, 1.0]));
    }

    /// Protects: the tagged form survives a round trip, so a model's files can carry its constraint.
    #[test]
    fn the_tagged_form_round_trips() {
        let given = json!({"kind": "length_ratio", "beta1": 30.0, "beta2": 0.001, "beta3": -25.0});
        let constraint = from_tagged(given.clone()).unwrap();
        assert_eq!(constraint.to_tagged().unwrap(), given);
        let defaults = json!({"kind": "length_ratio", "beta1": 20.0, "beta2": 0.001, "beta3": -15.0});
        assert_eq!(parse("length_ratio").unwrap().to_tagged().unwrap(), defaults);
    }

    /// Protects: the errors for mistyped configurations: the known fields, the wrong value, the s that fails.
    #[test]
    fn refusals_say_what_was_expected() {
        let refusal = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(
            refusal(r#"{"kind": "length_ratio", "beta4": 1}"#),
            "constraint \"length_ratio\": unknown field `beta4`, expected one of `beta1`, `beta2`, `beta3`"
        );
        assert_eq!(
            refusal(r#"{"kind": "length_ratio", "beta2": -1}"#),
            "constraint \"length_ratio\": beta2: found -1, expected a number above 0"
        );
        assert_eq!(
            refusal(r#"{"kind": "length_ratio", "beta1": "20"}"#),
            "constraint \"length_ratio\": beta1: found \"20\", expected a finite number"
        );
        assert!(refusal(r#"{"kind": "length_ratio", "beta3": -20}"#).contains("at s = 1 "));
    }
}
