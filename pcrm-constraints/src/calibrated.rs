//! The calibrated constraint: another constraint's similarity, with β fitted to how often preferred answers win.

use pcrm_core::constraint::{Constraint, PairView, Priors, from_tagged, parse};
use pcrm_core::registry::ConstraintPlugin;
use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::calibration::{Settings, Verdict, observations};
use crate::fixed::Fixed;
use crate::number::Number;

pub use crate::calibration::Calibration;

/// Asks to fit Δ*(s) = β1/(s + β2) + β3, s being the similarity of the constraint `of`, to how often judges that do not
/// know a pair prefer its preferred answer; β2 is given. What is fitted is `of` with those β, or `fixed` where s says
/// nothing of use (see [`Calibration`]). Until then there are no bounds.
///
/// As data: `{"kind": "calibrated", "of": "length_ratio", "beta2": 0.001, "folds": 5, "bootstrap": 1000, "level": 0.95}`.
/// `of` is a name or an object of a kind that has β (the default is `length_ratio`), `beta2` by default that of `of`;
/// folds, by prompt, are those of cross-fitting and of the comparison on prompts that were not fitted to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct Calibrated {
    #[serde(serialize_with = "tagged")]
    of: Box<dyn Constraint>,
    beta2: f64,
    folds: usize,
    bootstrap: usize,
    level: f64,
}

inventory::submit! {
    ConstraintPlugin {
        name: "calibrated",
        about: "another constraint with beta fitted to how often preferred answers win",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Calibrated>(data)?)),
    }
}

impl Calibrated {
    /// A constraint of this kind as what it is; `None` for others.
    pub fn of_kind(constraint: &dyn Constraint) -> Option<Self> {
        let mut tagged = constraint.to_tagged().ok()?;
        let fields = tagged.as_object_mut()?;
        let kind = fields.shift_remove("kind")?;
        (kind == "calibrated").then(|| serde_json::from_value(tagged).ok()).flatten()
    }

    /// The constraint whose similarity is calibrated.
    pub fn of(&self) -> &dyn Constraint {
        self.of.as_ref()
    }

    /// What the wins say about Δ*(s).
    ///
    /// # Errors
    /// Similarities that cannot be computed, wins outside \[0, 1\], no pairs, and prompts that all fall into one fold.
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

    /// The constraint that follows: `of` with the fitted β, or `fixed`.
    ///
    /// # Errors
    /// Judges no better than a coin.
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
                    tagged[name] = json!(value);
                }
                from_tagged(tagged)
            }
            Verdict::Flat | Verdict::Reversed | Verdict::NoGain => {
                Ok(Box::new(Fixed::new(calibration.constant)?))
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
            "is not fitted yet and has no bounds; `pcrm reward` fits it when it trains, `pcrm calibrate` writes what it \
             fits to a file that --constraint takes"
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
        self.constraint(&self.calibrate(pairs, wins, priors)?)
    }

    fn formula(&self) -> Option<&'static str> {
        Some(
            "Δ* = beta1/(s + beta2) + beta3, s as in \"of\", beta1 and beta3 fitted so that σ(Δ*/2) is how often preferred answers win",
        )
    }
}

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
                "found {:?}, which has no beta1, beta2 and beta3 to fit; expected such as length_ratio, cosine, edit or \
                 score_gap",
                of.kind()
            );
            return Err(Error::invalid("of", message));
        };
        let beta2 = fields.beta2.finite("beta2", beta2)?;
        if beta2 <= 0.0 {
            return Err(Error::invalid("beta2", format!("found {beta2}, expected a number above 0")));
        }
        let at_least = |field: &'static str, least: u64, value: u64| match value >= least {
            true => Ok(value as usize),
            false => Err(Error::invalid(field, format!("found {value}, expected at least {least}"))),
        };
        let level = fields.level.finite("level", 0.95)?;
        if !(level > 0.0 && level < 1.0) {
            return Err(Error::invalid("level", format!("found {level}, expected a number between 0 and 1")));
        }
        Ok(Self {
            of,
            beta2,
            folds: at_least("folds", 2, fields.folds.whole("folds", 5)?)?,
            bootstrap: at_least("bootstrap", 100, fields.bootstrap.whole("bootstrap", 1000)?)?,
            level,
        })
    }
}

// serde's `serialize_with` gives a reference to the field, which is a box.
#[allow(clippy::borrowed_box)]
fn tagged<S: Serializer>(of: &Box<dyn Constraint>, serializer: S) -> Result<S::Ok, S::Error> {
    of.to_tagged().map_err(serde::ser::Error::custom)?.serialize(serializer)
}
