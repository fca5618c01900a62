//! The calibrated constraint: another constraint's similarity, with β fitted to measured win rates.

use pcrm_core::constraint::{Constraint, PairView, Priors, from_tagged, parse};
use pcrm_core::registry::ConstraintPlugin;
use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::calibration::{Beta2, Settings, Verdict, observations};
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
#[serde(try_from = "Fields")]
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
            Verdict::Chance => Err(refused(calibration.sentence())),
            Verdict::Informative => {
                let mut tagged = self.of.to_tagged()?;
                for (name, value) in [
                    ("beta1", calibration.beta1),
                    ("beta2", calibration.beta2),
                    ("beta3", calibration.beta3()),
                ] {
                    tagged[name] = json!(rounded(value));
                }
                from_tagged(tagged)
            }
            Verdict::Flat | Verdict::Reversed | Verdict::NoGain => {
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

/// The most folds; each trains a model.
const MOST_FOLDS: u64 = 1000;

/// The most bootstrap draws.
const MOST_DRAWS: u64 = 1_000_000;

fn refused(message: String) -> Error {
    Error::Plugin { what: "constraint", name: "calibrated".to_owned(), message }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
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

impl TryFrom<Fields> for Calibrated {
    type Error = Error;

    fn try_from(fields: Fields) -> Result<Self> {
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
mod tests {
    use pcrm_core::data::prompt_id::PromptId;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::testing::pair_of_lengths;

    /// Fits the constraint `text` to simulated wins with P(win) = `p(s)`, for pairs with random answer
    /// lengths, each with its own prompt.
    fn fitted(text: &str, p: impl Fn(f64) -> f64) -> Result<Value> {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let tokens = [7; 40];
        let prompts: Vec<String> = (0..3000).map(|at| format!("prompt {at}")).collect();
        let pair = |prompt| {
            let rejected = rng.random_range(4..=40);
            PairView {
                prompt,
                prompt_id: PromptId::of_text(prompt),
                ..pair_of_lengths(1, &tokens, &tokens[..rejected])
            }
        };
        let pairs: Vec<PairView<'_>> = prompts.iter().map(String::as_str).map(pair).collect();
        let win = |pair: &PairView<'_>| {
            let p = p(pair.rejected_ids.len() as f64 / 40.0);
            f32::from(u8::from(rng.random_bool(p)))
        };
        let wins: Vec<f32> = pairs.iter().map(win).collect();
        let form = parse(text)?;
        let constraint = form.fitted(&pairs, &wins, &Priors::seeded(3))?;
        assert_eq!(constraint.checked_bounds(&pairs, &Priors::default())?.len(), pairs.len());
        constraint.to_tagged()
    }

    /// Protects: where similarity predicts the strength of preferences, the result is the constraint itself
    /// with β near those that generated the data and its other fields kept.
    #[test]
    fn fits_the_constraint_it_names() {
        let p = |s: f64| 1.0 / (1.0 + (-(0.8 / (s + 0.1) - 0.2) / 2.0).exp());
        let form = r#"{"kind": "calibrated", "of": "length_ratio", "beta2": 0.1, "bootstrap": 200}"#;
        let found = fitted(form, p).unwrap();
        assert_eq!((&found["kind"], &found["beta2"]), (&json!("length_ratio"), &json!(0.1)));
        let beta = |name: &str| found[name].as_f64().unwrap();
        assert!((beta("beta1") - 0.8).abs() < 0.3 && (beta("beta3") + 0.2).abs() < 0.4, "{found}");
        let cosine =
            r#"{"kind": "calibrated", "of": {"kind": "cosine", "similarity": "angular"}, "bootstrap": 100}"#;
        // Both texts are the same for every pair, so there is only one s.
        assert_eq!(fitted(cosine, p).unwrap()["kind"], "fixed");
    }

    /// Protects: an uninformative similarity gives one bound for all pairs, 2·logit of the share of wins, and
    /// judges at chance give none.
    #[test]
    fn fits_fixed_or_nothing() {
        let found = fitted(r#"{"kind": "calibrated", "bootstrap": 200}"#, |_| 0.75).unwrap();
        assert_eq!(found["kind"], "fixed");
        let bound = found["bound"].as_f64().unwrap();
        assert!((bound - 2.0 * 3_f64.ln()).abs() < 0.3, "{bound}");
        let error = fitted(r#"{"kind": "calibrated", "bootstrap": 100}"#, |_| 0.45).unwrap_err().to_string();
        assert!(error.starts_with("constraint \"calibrated\": the judges prefer"), "{error}");
    }

    /// Protects: the unfitted form has no bounds and points to the commands that fit it; its tagged form
    /// round-trips, with β2 taken from `of`.
    #[test]
    fn the_form_is_unfitted() {
        let form =
            parse(r#"{"kind": "calibrated", "of": {"kind": "edit", "beta2": 0.2}, "folds": 3}"#).unwrap();
        assert!(form.is_unfitted());
        let error = form.bounds(&[], &Priors::default()).unwrap_err().to_string();
        assert!(error.contains("is not fitted yet") && error.contains("pcrm calibrate"), "{error}");
        let tagged = form.to_tagged().unwrap();
        assert_eq!(
            (&tagged["beta2"], &tagged["folds"], &tagged["of"]["kind"]),
            (&json!(0.2), &json!(3), &json!("edit"))
        );
        assert_eq!(from_tagged(tagged.clone()).unwrap().to_tagged().unwrap(), tagged);
        let word = parse(r#"{"kind": "calibrated", "beta2": "fitted"}"#).unwrap().to_tagged().unwrap();
        assert_eq!(from_tagged(word.clone()).unwrap().to_tagged().unwrap()["beta2"], "fitted");
        assert_eq!((form.folds(), &tagged["bootstrap"]), (3, &json!(1000)));
    }

    /// Protects: refusals name the field and the expectation.
    #[test]
    fn refusals_say_what_was_expected() {
        for (fields, expected) in [
            (r#""of": "fixed""#, "of: found \"fixed\", which has no beta1, beta2 and beta3"),
            (r#""of": "calibrated""#, "of: found \"calibrated\", which has no beta1"),
            (r#""of": "lenght""#, "unknown constraint \"lenght\""),
            (r#""beta2": 0"#, "beta2: found 0, expected a number above 0 or \"fitted\""),
            (r#""beta2": "best""#, "beta2: found \"best\", expected a finite number"),
            (r#""folds": 1"#, "folds: found 1, expected at least 2"),
            (r#""folds": 1000000000000"#, "folds: found 1000000000000, expected at most 1000"),
            (r#""bootstrap": 1000000000000"#, "bootstrap: found 1000000000000, expected at most 1000000"),
            (r#""folds": 2.5"#, "folds: found 2.5, expected a whole number"),
            (r#""bootstrap": 10"#, "bootstrap: found 10, expected at least 100"),
            (r#""level": 95"#, "level: found 95, expected a number between 0 and 1"),
            (r#""beta1": 3"#, "unknown field `beta1`"),
        ] {
            let error = parse(&format!(r#"{{"kind": "calibrated", {fields}}}"#)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("constraint \"calibrated\": {expected}")), "{error}");
        }
    }
}
