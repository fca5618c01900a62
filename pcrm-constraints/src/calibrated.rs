//! The calibrated constraint: another constraint's similarity, with β fitted to measured win rates.

use pcrm_core::constraint::{Constraint, PairView, Priors, from_tagged, parse};
use pcrm_core::registry::ConstraintPlugin;
use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::calibration::{Beta2, Conclusion, Settings, observations};
use crate::fixed::Fixed;
use crate::number::Number;

pub use crate::calibration::Calibration;

/// A request to fit Δ*(s) = β1/(s + β2) + β3 to win rates, where s is the similarity of the constraint `of`
/// and the wins come from judges that were not trained on the pair. β2 is given, or `"fitted"` too. The fit
/// results in `of` with those β, or in `fixed` if s is not informative (see [`Calibration`]). Until then
/// there are no bounds.
///
/// As data: `{"kind": "calibrated", "of": "length_ratio", "beta2": 0.001, "folds": 5, "bootstrap": 1000,
/// "level": 0.95}`. `of` is a name or an object of a kind that has β (default `length_ratio`); `beta2`
/// defaults to that of `of`. The same folds, by prompt, serve cross-fitting and the comparison on held-out
/// prompts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "CalibratedFields")]
pub struct Calibrated {
    #[serde(serialize_with = "tagged")]
    of: Box<dyn Constraint>,
    #[serde(serialize_with = "number_or_word")]
    beta2: Beta2,
    folds: usize,
    bootstrap: usize,
    level: f64,
}

inventory::submit! {
    ConstraintPlugin {
        name: "calibrated",
        about: "another constraint with beta fitted to measured win rates",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Calibrated>(data)?)),
    }
}

impl Calibrated {
    /// Calibrates Δ*(s) against the wins of these pairs.
    ///
    /// # Errors
    /// Fails if similarities cannot be computed, if a win is outside \[0, 1\], without pairs, and if all
    /// prompts fall into one fold.
    pub fn calibrate(&self, pairs: &[PairView<'_>], wins: &[f32], priors: &Priors) -> Result<Calibration> {
        let Some(similarities) = self.of.similarities(pairs, priors)? else {
            let message = format!("found {:?}, which has no similarities", self.of.kind());
            return Err(Error::invalid("of", message));
        };
        let given = self.of.checked_bounds(pairs, priors)?;
        let seen = observations(pairs, &similarities, wins, &given, self.folds)?;
        let Self { beta2, bootstrap, level, .. } = *self;
        Calibration::of(&seen, &Settings { beta2, bootstrap, level, seed: priors.seed })
    }

    /// Returns the resulting constraint: `of` with the fitted β, or `fixed`.
    ///
    /// # Errors
    /// Fails if the judges are no better than a coin.
    pub fn constraint(&self, calibration: &Calibration) -> Result<Box<dyn Constraint>> {
        match calibration.verdict {
            Conclusion::Chance => Err(refused(calibration.sentence())),
            Conclusion::Informative => {
                let mut tagged = self.of.to_tagged()?;
                tagged["beta1"] = json!(rounded(calibration.beta1));
                // β2 is given, or one of a few candidates; rounding would turn a small one into 0.
                tagged["beta2"] = json!(calibration.beta2);
                tagged["beta3"] = json!(rounded(calibration.beta3()));
                from_tagged(tagged)
            }
            Conclusion::Flat | Conclusion::Reversed | Conclusion::NoGain => {
                Ok(Box::new(Fixed::new(rounded(calibration.constant))?))
            }
        }
    }
}

impl Constraint for Calibrated {
    fn kind(&self) -> &'static str {
        "calibrated"
    }

    fn settle(&mut self, priors: &Priors) -> Result<()> {
        self.of.settle(priors)
    }

    fn bounds(&self, _pairs: &[PairView<'_>], _priors: &Priors) -> Result<Vec<f32>> {
        Err(refused(
            "is not fitted yet and has no bounds; `pcrm reward` fits it before training, `pcrm calibrate` \
             writes the fitted constraint to a file for --constraint"
                .to_owned(),
        ))
    }

    fn similarities(&self, pairs: &[PairView<'_>], priors: &Priors) -> Result<Option<Vec<f32>>> {
        self.of.similarities(pairs, priors)
    }

    fn is_unfitted(&self) -> bool {
        true
    }

    fn fitted(&self, pairs: &[PairView<'_>], wins: &[f32], priors: &Priors) -> Result<Box<dyn Constraint>> {
        Ok(self.fitted_with_evidence(pairs, wins, priors)?.0)
    }

    fn fitted_with_evidence(
        &self,
        pairs: &[PairView<'_>],
        wins: &[f32],
        priors: &Priors,
    ) -> Result<(Box<dyn Constraint>, Option<Value>)> {
        let calibration = self.calibrate(pairs, wins, priors)?;
        let evidence =
            serde_json::to_value(&calibration).map_err(|error| Error::invalid("evidence", error))?;
        Ok((self.constraint(&calibration)?, Some(evidence)))
    }

    fn folds(&self) -> usize {
        self.folds
    }

    fn parameters(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("of", "the constraint whose similarity is used: a name or an object"),
            ("beta2", "that of \"of\" by default, another number, or \"fitted\""),
            ("folds", "number of cross-fitted judges, each trained on all folds of prompts but one"),
            ("bootstrap", "number of bootstrap resamples of prompts, for intervals"),
            ("level", "confidence level of the intervals"),
        ]
    }

    fn formula(&self) -> Option<&'static str> {
        Some(
            "Δ* = beta1/(s + beta2) + beta3, s as in \"of\", beta1 and beta3 fitted so that σ(Δ*/2) is the \
             win rate of preferred answers",
        )
    }
}

/// Rounds to six decimals: more than the evidence supports, yet readable.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// The maximum number of folds; each trains a model.
const MOST_FOLDS: u64 = 1000;

/// The maximum number of bootstrap draws.
const MOST_DRAWS: u64 = 1_000_000;

fn refused(message: String) -> Error {
    Error::Plugin { what: "constraint", name: "calibrated".to_owned(), message }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CalibratedFields {
    of: Option<Value>,
    #[serde(default)]
    beta2: Number,
    #[serde(default)]
    folds: Number,
    #[serde(default)]
    bootstrap: Number,
    #[serde(default)]
    level: Number,
}

impl TryFrom<CalibratedFields> for Calibrated {
    type Error = Error;

    fn try_from(fields: CalibratedFields) -> Result<Self> {
        let of = match fields.of {
            None => parse("length_ratio")?,
            Some(Value::String(name)) => parse(&name)?,
            Some(value) => from_tagged(value)?,
        };
        let tagged = of.to_tagged()?;
        let [beta1, beta2, beta3] = ["beta1", "beta2", "beta3"].map(|name| tagged[name].as_f64());
        let (Some(_), Some(beta2), Some(_)) = (beta1, beta2, beta3) else {
            let message = format!(
                "found {:?}, which has no beta1, beta2 and beta3 to fit; expected a kind like length_ratio, \
                 cosine, edit or score_gap",
                of.kind()
            );
            return Err(Error::invalid("of", message));
        };
        let beta2 = match fields.beta2.is("fitted") {
            true => Beta2::Fitted,
            false => Beta2::Given(fields.beta2.finite("beta2", beta2)?),
        };
        if let Beta2::Given(beta2) = beta2
            && beta2 <= 0.0
        {
            let message = format!("found {beta2}, expected a number above 0 or \"fitted\"");
            return Err(Error::invalid("beta2", message));
        }
        let within = |field: &'static str, least: u64, most: u64, value: u64| match value {
            _ if value < least => {
                Err(Error::invalid(field, format!("found {value}, expected at least {least}")))
            }
            _ if value > most => {
                Err(Error::invalid(field, format!("found {value}, expected at most {most}")))
            }
            _ => Ok(value as usize),
        };
        let level = fields.level.finite("level", 0.95)?;
        if !(level > 0.0 && level < 1.0) {
            return Err(Error::invalid("level", format!("found {level}, expected a number between 0 and 1")));
        }
        // The extremes of n draws span an interval of level 1 − 2/(n + 1) at most.
        let fewest = ((2.0 / (1.0 - level)).round() as u64).saturating_sub(1).max(100);
        Ok(Self {
            of,
            beta2,
            folds: within("folds", 2, MOST_FOLDS, fields.folds.whole("folds", 5)?)?,
            bootstrap: within("bootstrap", fewest, MOST_DRAWS, fields.bootstrap.whole("bootstrap", 1000)?)?,
            level,
        })
    }
}

fn number_or_word<S: Serializer>(beta2: &Beta2, serializer: S) -> Result<S::Ok, S::Error> {
    match beta2 {
        Beta2::Given(beta2) => serializer.serialize_f64(*beta2),
        Beta2::Fitted => serializer.serialize_str("fitted"),
    }
}

// serde's `serialize_with` gives a reference to the field, which is a box.
#[allow(clippy::borrowed_box)]
fn tagged<S: Serializer>(of: &Box<dyn Constraint>, serializer: S) -> Result<S::Ok, S::Error> {
    of.to_tagged().map_err(serde::ser::Error::custom)?.serialize(serializer)
}

#[cfg(test)]
mod tests;
