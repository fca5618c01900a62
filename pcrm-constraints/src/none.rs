//! No constraint: plain Bradley–Terry training.

use pcrm_core::Result;
use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::registry::ConstraintPlugin;
use serde::{Deserialize, Serialize};

/// Δ* = ∞ for every pair, which reduces the loss to Bradley–Terry, −log σ(Δ): the baseline.
///
/// As data: `{"kind": "none"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unbounded {}

inventory::submit! {
    ConstraintPlugin {
        name: "none",
        about: "no bound: plain Bradley-Terry",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Unbounded>(data)?)),
    }
}

impl Constraint for Unbounded {
    fn kind(&self) -> &'static str {
        "none"
    }

    fn bounds(&self, pairs: &[PairView<'_>], _priors: &Priors) -> Result<Vec<f32>> {
        Ok(vec![f32::INFINITY; pairs.len()])
    }

    fn reads_margins(&self) -> bool {
        false
    }

    fn formula(&self) -> Option<&'static str> {
        Some("Δ* = ∞")
    }

    fn bound_at(&self, _s: f64) -> Option<f32> {
        Some(f32::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use pcrm_core::constraint::parse;
    use serde_json::json;

    use super::*;
    use crate::testing::pair_of_lengths;

    /// Protects: infinity means "no bound" to trainers, and the checks accept it.
    #[test]
    fn no_pair_is_bounded() {
        let none = parse("none").unwrap();
        let pairs = [pair_of_lengths(1, &[1], &[2]); 3];
        assert_eq!(none.checked_bounds(&pairs, &Priors::default()).unwrap(), [f32::INFINITY; 3]);
        assert_eq!(none.to_tagged().unwrap(), json!({"kind": "none"}));
    }

    /// Protects: a bound given to the constraint that takes none is reported.
    #[test]
    fn takes_no_fields() {
        let error = parse(r#"{"kind": "none", "bound": 3}"#).unwrap_err().to_string();
        assert_eq!(error, "constraint \"none\": unknown field `bound`, there are no fields");
    }
}
