//! The score-gap constraint: answers with similar ratings get a tight bound.

use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::registry::ConstraintPlugin;
use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::bound::Hyperbola;
use crate::number::{Number, check_positive};

/// Δ* = β1 / (s + β2) + β3 with s = 1 / (1 + g / scale), where g is the pair's margin: how much better raters
/// scored the preferred answer, in the data's own units.
///
/// s falls from 1 (equal ratings) to 0, and is 1/2 at a gap of `scale`. With β2 near 0 the bound is nearly
/// linear, Δ* ≈ β1 + β3 + β1·g/scale, so it grows in proportion to the gap. A margin below 0 (raters' scores
/// contradict the label) counts as 0.
///
/// As data: `{"kind": "score_gap", "scale": 1, "beta1": 5, "beta2": 0.001, "beta3": -2}`, which are the
/// defaults: Δ* is about 3 where g = 0, the paper's fixed bound, and about 8 where g = `scale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ScoreGapFields")]
pub struct ScoreGap {
    scale: f64,
    #[serde(flatten)]
    map: Hyperbola,
}

impl ScoreGap {
    /// Creates the constraint whose s is 1/2 at a gap of `scale`.
    ///
    /// # Errors
    /// Fails if `scale` is not positive and finite (as `f32`).
    pub fn new(scale: f64, map: Hyperbola) -> Result<Self> {
        Ok(Self { scale: check_positive("scale", scale)?, map })
    }

    /// Returns the gap that gives s = 1/2, in the units of the data's scores.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Returns the map from s to Δ*.
    pub fn map(&self) -> Hyperbola {
        self.map
    }

    fn similarity(&self, at: usize, pair: &PairView<'_>) -> Result<f64> {
        let refuse = |found: String| Error::Pair {
            what: "constraint",
            name: self.kind().to_owned(),
            at,
            message: format!(
                "pair {at} has {found}, expected a finite number: a \"margin\" column, or columns of both \
                     answers' scores"
            ),
        };
        let margin = pair.margin.ok_or_else(|| refuse("no margin".to_owned()))?;
        if !margin.is_finite() {
            return Err(refuse(format!("the margin {margin}")));
        }
        Ok(1.0 / (1.0 + f64::from(margin).max(0.0) / self.scale))
    }

    fn all(&self, pairs: &[PairView<'_>]) -> Result<Vec<f64>> {
        pairs.iter().enumerate().map(|(at, pair)| self.similarity(at, pair)).collect()
    }
}

inventory::submit! {
    ConstraintPlugin {
        name: "score_gap",
        about: "bound that grows with the gap of the answers' scores (margin)",
        build: |data| Ok(Box::new(erased_serde::deserialize::<ScoreGap>(data)?)),
    }
}

impl Constraint for ScoreGap {
    fn kind(&self) -> &'static str {
        "score_gap"
    }

    fn bounds(&self, pairs: &[PairView<'_>], _priors: &Priors) -> Result<Vec<f32>> {
        Ok(self.all(pairs)?.into_iter().map(|s| self.map.at(s)).collect())
    }

    fn similarities(&self, pairs: &[PairView<'_>], _priors: &Priors) -> Result<Option<Vec<f32>>> {
        Ok(Some(self.all(pairs)?.into_iter().map(|s| s as f32).collect()))
    }

    fn formula(&self) -> Option<&'static str> {
        Some("Δ* = beta1/(s + beta2) + beta3, s = 1/(1 + max(margin, 0)/scale)")
    }

    fn parameters(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("scale", "the gap of the scores at which s is 1/2, in the data's units"),
            Hyperbola::PARAMETERS[0],
            Hyperbola::PARAMETERS[1],
            Hyperbola::PARAMETERS[2],
        ]
    }

    fn bound_at(&self, s: f64) -> Option<f32> {
        Some(self.map.at(s))
    }
}

impl Default for ScoreGap {
    fn default() -> Self {
        Self { scale: 1.0, map: Hyperbola::literal(5.0, 0.001, -2.0) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScoreGapFields {
    #[serde(default)]
    scale: Number,
    #[serde(default)]
    beta1: Number,
    #[serde(default)]
    beta2: Number,
    #[serde(default)]
    beta3: Number,
}

impl TryFrom<ScoreGapFields> for ScoreGap {
    type Error = Error;

    fn try_from(fields: ScoreGapFields) -> Result<Self> {
        let default = Self::default();
        let map = Hyperbola::new(
            fields.beta1.finite("beta1", default.map.beta1())?,
            fields.beta2.finite("beta2", default.map.beta2())?,
            fields.beta3.finite("beta3", default.map.beta3())?,
        )?;
        Self::new(fields.scale.finite("scale", default.scale)?, map)
    }
}

#[cfg(test)]
mod tests {
    use pcrm_core::constraint::parse;
    use serde_json::json;

    use super::*;
    use crate::testing::pair_of_lengths;

    fn pairs(margins: &[Option<f32>]) -> Vec<PairView<'static>> {
        margins.iter().map(|&margin| PairView { margin, ..pair_of_lengths(1, &[1], &[2]) }).collect()
    }

    /// Protects: s and Δ* of gaps in the data's units, against numbers from Python's `decimal`; margins below
    /// 0.
    #[test]
    fn bounds_grow_with_the_gap() {
        let constraint = parse(r#"{"kind": "score_gap", "scale": 2}"#).unwrap();
        let pairs = pairs(&[Some(0.0), Some(2.0), Some(6.0), Some(-1.0)]);
        let bounds = constraint.checked_bounds(&pairs, &Priors::default()).unwrap();
        assert_eq!(bounds, [2.995_005, 7.980_04, 17.920_319, 2.995_005]);
        let similarities = constraint.similarities(&pairs, &Priors::default()).unwrap();
        assert_eq!(similarities, Some(vec![1.0, 0.5, 0.25, 1.0]));
    }

    /// Protects: a pair without a usable margin is named and gets no made-up bound.
    #[test]
    fn pairs_without_a_margin_are_named() {
        let constraint = parse("score_gap").unwrap();
        for (margin, found) in [(None, "no margin"), (Some(f32::NAN), "the margin NaN")] {
            let error = constraint.bounds(&pairs(&[Some(1.0), margin]), &Priors::default()).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(&format!("pair 1 has {found}, expected")), "{error}");
        }
    }

    /// Protects: the tagged form with its defaults, its round trip, and refusals by name.
    #[test]
    fn the_tagged_form_round_trips() {
        let defaults =
            json!({"kind": "score_gap", "scale": 1.0, "beta1": 5.0, "beta2": 0.001, "beta3": -2.0});
        let constraint = parse("score_gap").unwrap();
        assert_eq!(constraint.to_tagged().unwrap(), defaults);
        assert_eq!(parse(&defaults.to_string()).unwrap().to_tagged().unwrap(), defaults);
        let refusal = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(
            refusal(r#"{"kind": "score_gap", "scale": 0}"#),
            "constraint \"score_gap\": scale: found 0, expected a positive finite number"
        );
        assert!(refusal(r#"{"kind": "score_gap", "beta3": -15}"#).contains("at s = 1 "));
        assert!(refusal(r#"{"kind": "score_gap", "gap": 1}"#).contains("unknown field `gap`"));
    }
}
