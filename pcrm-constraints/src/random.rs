//! The random constraint: a bound drawn per pair, always the same for the same pair.

use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::registry::ConstraintPlugin;
use pcrm_core::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::number::{Number, check_positive};

/// Δ* ~ U(low, high), drawn from the run's seed and the pair's identity alone, so that order, file and batch
/// size do not change it (arXiv 2404.00978: the control without a prior).
///
/// As data: `{"kind": "random", "low": 1, "high": 2}`, which are the defaults; 0 < low ≤ high.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RandomFields")]
pub struct Random {
    low: f64,
    high: f64,
}

impl Random {
    /// Creates the constraint with bounds uniform between `low` and `high`.
    ///
    /// # Errors
    /// Fails if `low` or `high` is not positive and finite (as `f32`), or if `low` is above `high`.
    pub fn new(low: f64, high: f64) -> Result<Self> {
        check_positive("low", low)?;
        check_positive("high", high)?;
        if low > high {
            return Err(Error::invalid(
                "low",
                format!("found {low}, expected at most high, which is {high}"),
            ));
        }
        Ok(Self { low, high })
    }

    /// Returns the smallest bound.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// Returns the largest bound.
    pub fn high(&self) -> f64 {
        self.high
    }

    fn draw(&self, seed: u64, identity: u64) -> f32 {
        // The key holds both numbers in full: mixed into one word, two pairs could share a stream.
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&identity.to_le_bytes());
        let unit: f64 = ChaCha8Rng::from_seed(key).random();
        (self.low + unit * (self.high - self.low)) as f32
    }
}

impl Default for Random {
    fn default() -> Self {
        Self { low: 1.0, high: 2.0 }
    }
}

inventory::submit! {
    ConstraintPlugin {
        name: "random",
        about: "a bound per pair, uniform between low and high",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Random>(data)?)),
    }
}

impl Constraint for Random {
    fn kind(&self) -> &'static str {
        "random"
    }

    fn bounds(&self, pairs: &[PairView<'_>], priors: &Priors) -> Result<Vec<f32>> {
        Ok(pairs.iter().map(|pair| self.draw(priors.seed, pair.identity)).collect())
    }

    fn reads_margins(&self) -> bool {
        false
    }

    fn formula(&self) -> Option<&'static str> {
        Some("Δ* ~ U(low, high), drawn from the run's seed and the pair's content")
    }

    fn parameters(&self) -> &'static [(&'static str, &'static str)] {
        &[("low", "the smallest bound; above 0"), ("high", "the largest bound")]
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RandomFields {
    #[serde(default)]
    low: Number,
    #[serde(default)]
    high: Number,
}

impl TryFrom<RandomFields> for Random {
    type Error = Error;

    fn try_from(fields: RandomFields) -> Result<Self> {
        let default = Self::default();
        Self::new(fields.low.finite("low", default.low)?, fields.high.finite("high", default.high)?)
    }
}

#[cfg(test)]
mod tests {
    use pcrm_core::constraint::parse;
    use serde_json::Value;

    use super::*;
    use crate::testing::pair_of_lengths;

    fn bounds(constraint: &Random, seed: u64, identities: &[u64]) -> Vec<f32> {
        let pairs: Vec<_> =
            identities.iter().map(|&identity| pair_of_lengths(identity, &[1], &[2])).collect();
        constraint.bounds(&pairs, &Priors::seeded(seed)).unwrap()
    }

    /// Protects: runs stay reproducible across releases and platforms; the expected numbers come from a
    /// ChaCha8 written in Python (tests/golden/constraints/random.py).
    #[test]
    fn draws_equal_an_independent_chacha() {
        let golden: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/golden/constraints/random.json")).unwrap();
        assert_eq!(golden.len(), 6);
        for case in golden {
            let number = |name: &str| case[name].as_u64().unwrap();
            let random = Random::new(case["low"].as_f64().unwrap(), case["high"].as_f64().unwrap()).unwrap();
            let drawn = bounds(&random, number("seed"), &[number("identity")])[0];
            assert_eq!(drawn, case["bound"].as_f64().unwrap() as f32, "{case}");
        }
    }

    /// Protects: a pair's bound depends on seed and identity alone, not on its neighbours.
    #[test]
    fn order_and_batch_size_change_nothing() {
        let random = Random::default();
        let together = bounds(&random, 7, &[3, 1, 2, 1]);
        assert_eq!(together[1], together[3]);
        for (at, identity) in [3, 1, 2, 1].into_iter().enumerate() {
            assert_eq!(bounds(&random, 7, &[identity]), [together[at]]);
        }
        assert_ne!(together[0], together[1]);
        assert_ne!(bounds(&random, 8, &[3]), [together[0]]);
        // Seed and identity have separate places in the key.
        assert_ne!(bounds(&random, 3, &[7]), [together[0]]);
    }

    /// Protects: the distribution is U(low, high), also for consecutive identities.
    #[test]
    fn draws_are_uniform() {
        let random = Random::new(3.0, 4.0).unwrap();
        let identities: Vec<u64> = (0..20_000).collect();
        let mut drawn = bounds(&random, 0, &identities);
        drawn.sort_by(f32::total_cmp);
        assert!(drawn[0] >= 3.0 && drawn[drawn.len() - 1] <= 4.0);
        // Kolmogorov-Smirnov: 1.95 / sqrt(n) is exceeded by chance once in a thousand seeds.
        let distance = drawn.iter().enumerate().fold(0.0_f64, |worst, (at, &bound)| {
            worst.max((f64::from(bound) - 3.0 - (at as f64 + 0.5) / 20_000.0).abs())
        });
        assert!(distance < 1.95 / 20_000_f64.sqrt(), "distance {distance}");
    }

    /// Protects: equal ends give a constant; reversed and non-positive ends are refused by name.
    #[test]
    fn ends_are_checked() {
        assert_eq!(bounds(&Random::new(2.0, 2.0).unwrap(), 5, &[9]), [2.0]);
        let refusal = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(
            refusal(r#"{"kind": "random", "low": 5}"#),
            "constraint \"random\": low: found 5, expected at most high, which is 2"
        );
        assert_eq!(
            refusal(r#"{"kind": "random", "low": 0}"#),
            "constraint \"random\": low: found 0, expected a positive finite number"
        );
        assert_eq!(
            refusal(r#"{"kind": "random", "lo": 1}"#),
            "constraint \"random\": unknown field `lo`, expected `low` or `high`"
        );
    }
}
