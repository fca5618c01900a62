//! The combined constraint: one bound from the bounds of several other constraints.

use pcrm_core::constraint::{Constraint, PairView, Priors, from_tagged, parse};
use pcrm_core::registry::ConstraintPlugin;
use pcrm_core::{Error, Result};
use serde::ser::{Error as _, SerializeStruct};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::number::check_positive;

/// The way to combine several bounds into one.
#[derive(Debug, Clone, PartialEq)]
pub enum How {
    /// min Δ*ᵢ, the strictest bound.
    Min,
    /// Σ Δ*ᵢ / n; unbounded if any part is.
    Mean,
    /// Π Δ*ᵢ; a part near 1 changes little, so `fixed` with a bound below 1 scales another constraint.
    Product,
    /// Σ wᵢ·Δ*ᵢ with these wᵢ > 0, which need not sum to 1; unbounded if any part is.
    Sum(Vec<f64>),
}

/// Δ* from the Δ* of other constraints, which may be combined themselves; in the unit of the parts.
///
/// As data: `{"kind": "combine", "how": "min", "of": ["length_ratio", {"kind": "fixed", "bound": 4}]}`. `how`
/// is `min` (the default), `mean`, `product` or `sum`; `sum` takes `weights`, a number per part. `of` lists
/// the parts, by name or as objects; the default is `length_ratio` and `edit`.
#[derive(Debug)]
pub struct Combine {
    how: How,
    of: Vec<Box<dyn Constraint>>,
}

impl Combine {
    /// Combines these constraints.
    ///
    /// # Errors
    /// Fails without constraints, with a constraint that changes during training, and unless every part has a
    /// weight that is positive and finite (as `f32`).
    pub fn new(how: How, of: Vec<Box<dyn Constraint>>) -> Result<Self> {
        if of.is_empty() {
            return Err(Error::invalid("of", "found no constraint, expected at least one"));
        }
        if let Some(at) = of.iter().position(|part| part.factor(0.0).is_some()) {
            return Err(Error::invalid(
                "of",
                format!(
                    "part {at}: {:?} changes over training, which a part may not; use a schedule of combine \
                     instead",
                    of[at].kind()
                ),
            ));
        }
        if let How::Sum(weights) = &how {
            if weights.len() != of.len() {
                let message = format!("found {} numbers, expected {}, one per part", weights.len(), of.len());
                return Err(Error::invalid("weights", message));
            }
            for weight in weights {
                check_positive("weights", *weight)?;
            }
        }
        Ok(Self { how, of })
    }

    /// Returns the way the bounds are combined.
    pub fn how(&self) -> &How {
        &self.how
    }

    /// Returns the combined constraints.
    pub fn of(&self) -> &[Box<dyn Constraint>] {
        &self.of
    }

    fn one(&self, bounds: impl Iterator<Item = f64>) -> f64 {
        match &self.how {
            How::Min => bounds.fold(f64::INFINITY, f64::min),
            How::Mean => bounds.sum::<f64>() / self.of.len() as f64,
            How::Product => bounds.product(),
            How::Sum(weights) => bounds.zip(weights).map(|(bound, weight)| weight * bound).sum(),
        }
    }
}

inventory::submit! {
    ConstraintPlugin {
        name: "combine",
        about: "min, mean, product or weighted sum of other constraints' bounds",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Combine>(data)?)),
    }
}

impl Constraint for Combine {
    fn kind(&self) -> &'static str {
        "combine"
    }

    fn settle(&mut self, priors: &Priors) -> Result<()> {
        self.of.iter_mut().try_for_each(|part| part.settle(priors))
    }

    fn bounds(&self, pairs: &[PairView<'_>], priors: &Priors) -> Result<Vec<f32>> {
        // Each part is checked, so that a NaN is attributed to the constraint that gave it and `min` hides
        // none.
        let parts =
            self.of.iter().map(|part| part.checked_bounds(pairs, priors)).collect::<Result<Vec<_>>>()?;
        Ok((0..pairs.len()).map(|at| self.one(parts.iter().map(|part| f64::from(part[at]))) as f32).collect())
    }

    fn folds(&self) -> usize {
        let unfitted = self.of.iter().filter(|part| part.is_unfitted());
        unfitted.map(|part| part.folds()).max().unwrap_or(2)
    }

    fn is_unfitted(&self) -> bool {
        self.of.iter().any(|part| part.is_unfitted())
    }

    /// Fits the parts that are unfitted.
    fn fitted(&self, pairs: &[PairView<'_>], wins: &[f32], priors: &Priors) -> Result<Box<dyn Constraint>> {
        let part = |part: &dyn Constraint| match part.is_unfitted() {
            true => part.fitted(pairs, wins, priors),
            false => from_tagged(part.to_tagged()?),
        };
        let of = self.of.iter().map(|of| part(of.as_ref())).collect::<Result<_>>()?;
        Ok(Box::new(Self { how: self.how.clone(), of }))
    }

    fn formula(&self) -> Option<&'static str> {
        Some(match self.how {
            How::Min => "Δ* = min of the parts' Δ*",
            How::Mean => "Δ* = mean of the parts' Δ*",
            How::Product => "Δ* = product of the parts' Δ*",
            How::Sum(_) => "Δ* = sum of weight × Δ* over the parts",
        })
    }

    fn parameters(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("how", "combination of the bounds: min, mean, product or sum"),
            ("weights", "for sum: a positive number per part"),
            ("of", "the combined constraints: names or objects"),
        ]
    }

    fn parts(&self) -> Vec<&dyn Constraint> {
        self.of.iter().map(AsRef::as_ref).collect()
    }
}

impl Serialize for Combine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of = self.of.iter().map(|part| part.to_tagged()).collect::<Result<Vec<_>>>();
        let mut fields = serializer.serialize_struct("Combine", 3)?;
        let (how, weights) = match &self.how {
            How::Min => ("min", None),
            How::Mean => ("mean", None),
            How::Product => ("product", None),
            How::Sum(weights) => ("sum", Some(weights)),
        };
        fields.serialize_field("how", how)?;
        match weights {
            Some(weights) => fields.serialize_field("weights", weights)?,
            None => fields.skip_field("weights")?,
        }
        fields.serialize_field("of", &of.map_err(S::Error::custom)?)?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Combine {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        CombineFields::deserialize(deserializer)?.combined().map_err(serde::de::Error::custom)
    }
}

/// The fields as any values, which are then checked by name, for better messages.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CombineFields {
    #[serde(default = "min")]
    how: Value,
    #[serde(default = "length_ratio_and_edit")]
    of: Value,
    #[serde(default)]
    weights: Value,
}

fn min() -> Value {
    json!("min")
}

fn length_ratio_and_edit() -> Value {
    json!(["length_ratio", "edit"])
}

impl CombineFields {
    fn combined(self) -> Result<Combine> {
        let how = match (self.how.as_str(), &self.weights) {
            (Some("sum"), weights) => How::Sum(numbers(weights)?),
            (_, weights) if !weights.is_null() => {
                return Err(Error::invalid(
                    "weights",
                    format!("only \"how\": \"sum\" takes them, found {}", self.how),
                ));
            }
            (Some("min"), _) => How::Min,
            (Some("mean"), _) => How::Mean,
            (Some("product"), _) => How::Product,
            _ => {
                let message =
                    format!("found {}, expected \"min\", \"mean\", \"product\" or \"sum\"", self.how);
                return Err(Error::invalid("how", message));
            }
        };
        let Value::Array(parts) = self.of else {
            return Err(Error::invalid("of", format!("found {}, expected a list of constraints", self.of)));
        };
        let part = |(at, value): (usize, Value)| {
            named_or_tagged(value).map_err(|error| Error::invalid("of", format!("part {at}: {error}")))
        };
        Combine::new(how, parts.into_iter().enumerate().map(part).collect::<Result<_>>()?)
    }
}

/// Parses a constraint from its name or its tagged object.
pub(crate) fn named_or_tagged(value: Value) -> Result<Box<dyn Constraint>> {
    match &value {
        Value::String(name) => parse(name),
        _ => from_tagged(value),
    }
}

fn numbers(weights: &Value) -> Result<Vec<f64>> {
    let list = weights.as_array().map(|list| list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>());
    list.flatten().ok_or_else(|| {
        Error::invalid("weights", format!("found {weights}, expected a list of numbers, one per part"))
    })
}

#[cfg(test)]
mod tests;
