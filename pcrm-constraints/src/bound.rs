//! The map from similarity to bound that the paper's constraints share: Δ*(s) = β1 / (s + β2) + β3.

use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::number::{Number, check_finite};

/// Δ*(s) = β1 / (s + β2) + β3 for a similarity s in \[0, 1\] (arXiv 2404.00978, §4.1); unitless.
///
/// With β1 > 0, similar answers (s near 1) get a tight bound and different answers a loose one. Every value
/// of this type has finite β, β2 > 0, and a Δ* that is positive and finite (as `f32`) for all s in \[0, 1\].
///
/// As data: `{"beta1": 20, "beta2": 0.001, "beta3": -15}`; absent fields take these values, unknown fields
/// are errors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "HyperbolaFields")]
pub struct Hyperbola {
    beta1: f64,
    beta2: f64,
    beta3: f64,
}

impl Hyperbola {
    /// Creates the map with these β.
    ///
    /// # Errors
    /// Fails if a β is not finite, if β2 ≤ 0, or if Δ* is not positive and finite everywhere in \[0, 1\]; the
    /// error has the s where it fails and the value there.
    pub fn new(beta1: f64, beta2: f64, beta3: f64) -> Result<Self> {
        check_finite("beta1", beta1)?;
        check_finite("beta2", beta2)?;
        check_finite("beta3", beta3)?;
        if beta2 <= 0.0 {
            return Err(Error::invalid("beta2", format!("found {beta2}, expected a number above 0")));
        }
        let map = Self { beta1, beta2, beta3 };
        // Δ* is monotone in s, so its extremes are at the ends.
        for s in [0.0, 1.0] {
            let value = map.at(s);
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::invalid(
                    "beta1, beta2, beta3",
                    format!(
                        "Δ* = beta1/(s + beta2) + beta3 is {value} at s = {s} with beta1 = {beta1}, beta2 = \
                         {beta2}, beta3 = {beta3}; expected a positive finite bound for every s in [0, 1]"
                    ),
                ));
            }
        }
        Ok(map)
    }

    /// The meanings of the fields, for [`pcrm_core::constraint::Constraint::parameters`].
    pub(crate) const PARAMETERS: [(&str, &str); 3] = [
        ("beta1", "how fast the bound loosens as the answers differ more"),
        ("beta2", "keeps the bound finite at s = 0; above 0"),
        ("beta3", "shifts all bounds; none may become negative"),
    ];

    /// Creates the map with these β unchecked; for literals in this crate that are known to be valid.
    pub(crate) const fn literal(beta1: f64, beta2: f64, beta3: f64) -> Self {
        Self { beta1, beta2, beta3 }
    }

    /// Returns β1: how fast the bound loosens as the answers differ more.
    pub fn beta1(&self) -> f64 {
        self.beta1
    }

    /// Returns β2, which keeps the bound finite at s = 0.
    pub fn beta2(&self) -> f64 {
        self.beta2
    }

    /// Returns β3, which shifts all bounds.
    pub fn beta3(&self) -> f64 {
        self.beta3
    }

    /// Computes Δ*(s). An s outside \[0, 1\] (a cosine of 1 + rounding) is clamped; NaN gives NaN.
    pub fn at(&self, s: f64) -> f32 {
        (self.beta1 / (s.clamp(0.0, 1.0) + self.beta2) + self.beta3) as f32
    }
}

impl Default for Hyperbola {
    /// Returns β = (20, 0.001, −15), the paper's setting for dialogue.
    fn default() -> Self {
        Self { beta1: 20.0, beta2: 0.001, beta3: -15.0 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HyperbolaFields {
    #[serde(default)]
    beta1: Number,
    #[serde(default)]
    beta2: Number,
    #[serde(default)]
    beta3: Number,
}

impl TryFrom<HyperbolaFields> for Hyperbola {
    type Error = Error;

    fn try_from(fields: HyperbolaFields) -> Result<Self> {
        let default = Self::default();
        Self::new(
            fields.beta1.finite("beta1", default.beta1)?,
            fields.beta2.finite("beta2", default.beta2)?,
            fields.beta3.finite("beta3", default.beta3)?,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the formula, against numbers from Python's `decimal`, and clamping of s.
    #[test]
    fn gives_the_papers_bounds() {
        let map = Hyperbola::default();
        for (s, expected) in [
            (0.0, 19985.0),
            (0.25, 64.681_274_900_398_4),
            (0.6, 18.277_870_216_306_156),
            (0.9, 7.197_558_268_590_455),
            (1.0, 4.980_019_980_019_98),
        ] {
            assert_eq!(map.at(s), expected as f32, "s = {s}");
        }
        assert_eq!(map.at(1.0 + 1e-7), map.at(1.0));
        assert_eq!(map.at(-1e-7), map.at(0.0));
        assert!(map.at(f64::NAN).is_nan());
    }

    /// Protects: all released settings are accepted.
    #[test]
    fn accepts_the_released_settings() {
        for (beta1, beta2, beta3) in [(20.0, 0.001, -15.0), (10.0, 0.001, -5.0), (30.0, 0.001, -25.0)] {
            Hyperbola::new(beta1, beta2, beta3).unwrap();
        }
    }

    /// Protects: β that would give a bound ≤ 0 are refused with the s and the value, at either end.
    #[test]
    fn refuses_bounds_that_are_not_positive() {
        let error = Hyperbola::new(10.0, 0.001, -15.0).unwrap_err().to_string();
        assert!(error.contains("is -5.00999 at s = 1 "), "{error}");
        assert!(error.contains("beta3 = -15"), "{error}");
        // A negative β1 reverses the map: the smallest bound is then at s = 0.
        let error = Hyperbola::new(-1.0, 0.5, 1.0).unwrap_err().to_string();
        assert!(error.contains("is -1 at s = 0 "), "{error}");
        // No margin can stay under a bound of exactly zero.
        assert!(Hyperbola::new(2.0, 1.0, -1.0).unwrap_err().to_string().contains("is 0 at s = 1 "));
        assert!(Hyperbola::new(1e300, 1e-300, 0.0).unwrap_err().to_string().contains("is inf at s = 0 "));
    }

    /// Protects: β2 ≤ 0 and β that are not finite are refused by name.
    #[test]
    fn refuses_beta_by_name() {
        let error = Hyperbola::new(20.0, 0.0, -15.0).unwrap_err().to_string();
        assert_eq!(error, "beta2: found 0, expected a number above 0");
        let error = Hyperbola::new(20.0, 0.001, f64::NAN).unwrap_err().to_string();
        assert_eq!(error, "beta3: found NaN, expected a finite number");
        let error = Hyperbola::new(f64::INFINITY, 0.001, 0.0).unwrap_err().to_string();
        assert_eq!(error, "beta1: found inf, expected a finite number");
    }

    /// Protects: defaults of absent fields, and validation while parsing, so that invalid β get no further.
    #[test]
    fn parsing_fills_defaults_and_validates() {
        let map: Hyperbola = serde_json::from_str(r#"{"beta1": 30, "beta3": -25}"#).unwrap();
        assert_eq!(map, Hyperbola::new(30.0, 0.001, -25.0).unwrap());
        let again: Hyperbola = serde_json::from_str(&serde_json::to_string(&map).unwrap()).unwrap();
        assert_eq!(again, map);
        let error = serde_json::from_str::<Hyperbola>(r#"{"beta3": -40}"#).unwrap_err().to_string();
        assert!(error.contains("at s = 1"), "{error}");
    }
}
