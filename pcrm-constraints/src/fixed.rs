//! The fixed constraint: one bound for all pairs.

use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::registry::ConstraintPlugin;
use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::number::{Number, check_positive};

/// Δ* = c for every pair: the paper's control for constraints that depend on the answers (arXiv 2404.00978).
///
/// As data: `{"kind": "fixed", "bound": 3.0}`; 3.0 is the paper's value and the default, 4.5 the paper's
/// other setting.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "FixedFields")]
pub struct Fixed {
    bound: f64,
}

impl Fixed {
    /// Creates the constraint with this bound for every pair.
    ///
    /// # Errors
    /// Fails if the bound is not positive and finite (as `f32`).
    pub fn new(bound: f64) -> Result<Self> {
        Ok(Self { bound: check_positive("bound", bound)? })
    }

    /// Returns the bound, a margin of scores.
    pub fn bound(&self) -> f64 {
        self.bound
    }
}

impl Default for Fixed {
    fn default() -> Self {
        Self { bound: 3.0 }
    }
}

inventory::submit! {
    ConstraintPlugin {
        name: "fixed",
        about: "the same bound for every pair",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Fixed>(data)?)),
    }
}

impl Constraint for Fixed {
    fn kind(&self) -> &'static str {
        "fixed"
    }

    fn bounds(&self, pairs: &[PairView<'_>], _priors: &Priors) -> Result<Vec<f32>> {
        Ok(vec![self.bound as f32; pairs.len()])
    }

    fn reads_margins(&self) -> bool {
        false
    }

    fn formula(&self) -> Option<&'static str> {
        Some("Δ* = bound")
    }

    fn parameters(&self) -> &'static [(&'static str, &'static str)] {
        &[("bound", "Δ*: the upper bound on every pair's margin")]
    }

    fn bound_at(&self, _s: f64) -> Option<f32> {
        Some(self.bound as f32)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FixedFields {
    #[serde(default)]
    bound: Number,
}

impl TryFrom<FixedFields> for Fixed {
    type Error = Error;

    fn try_from(fields: FixedFields) -> Result<Self> {
        Self::new(fields.bound.finite("bound", Self::default().bound)?)
    }
}

#[cfg(test)]
mod tests {
    use pcrm_core::constraint::parse;
    use serde_json::json;

    use super::*;
    use crate::testing::pair_of_lengths;

    /// Protects: the default, a given bound, and that a fixed bound has no similarity.
    #[test]
    fn every_pair_gets_the_bound() {
        let pairs = [pair_of_lengths(1, &[1], &[2]), pair_of_lengths(2, &[1, 2], &[])];
        let fixed = parse(r#"{"kind": "fixed", "bound": 4.5}"#).unwrap();
        assert_eq!(fixed.checked_bounds(&pairs, &Priors::default()).unwrap(), [4.5, 4.5]);
        assert_eq!(fixed.similarities(&pairs, &Priors::default()).unwrap(), None);
        let default = parse("fixed").unwrap();
        assert_eq!(default.checked_bounds(&pairs, &Priors::default()).unwrap(), [3.0, 3.0]);
        assert_eq!(default.to_tagged().unwrap(), json!({"kind": "fixed", "bound": 3.0}));
    }

    /// Protects: unusable bounds are refused while parsing, by name.
    #[test]
    fn refuses_bounds_that_are_not_positive() {
        for (bound, found) in [("0", "0"), ("-3", "-3"), ("1e300", "1000")] {
            let text = format!(r#"{{"kind": "fixed", "bound": {bound}}}"#);
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("constraint \"fixed\": bound: found {found}")), "{error}");
            assert!(error.ends_with("expected a positive finite number"), "{error}");
        }
        let error = parse(r#"{"kind": "fixed", "value": 3}"#).unwrap_err().to_string();
        assert_eq!(error, "constraint \"fixed\": unknown field `value`, expected `bound`");
    }
}
