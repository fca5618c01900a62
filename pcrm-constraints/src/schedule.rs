//! The scheduled constraint: another constraint's bounds, tightened or loosened during training.

use std::f64::consts::PI;

use pcrm_core::constraint::{Constraint, Effect, PairView, Priors};
use pcrm_core::registry::ConstraintPlugin;
use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::combine::named_or_tagged;
use crate::number::{Number, check_positive};

/// The path of the factor from its first value to its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactorPath {
    /// A straight line.
    #[default]
    Linear,
    /// Half a cosine, slow at both ends.
    Cosine,
    /// A single jump at `over`.
    Step,
}

/// Δ*(t) = f(t)·Δ* of another constraint, where t is the share of completed steps: f goes from `from` to `to`
/// while t goes from 0 to `over`, then stays constant.
///
/// [`Constraint::bounds`] returns the final bounds, `to`·Δ*, so that every consumer of a trained model sees
/// the bounds it ended with; [`Constraint::factor`] is f(t)/`to`. A `from` above `to` tightens, one below
/// loosens. A scheduled constraint can neither be part of `combine` nor be scheduled again.
///
/// As data: `{"kind": "schedule", "of": "length_ratio", "from": 2, "to": 1, "shape": "linear", "over": 1}`,
/// which are the defaults. `of` is a name or an object; `shape` is `linear`, `cosine` or `step`; 0 < `over` ≤
/// 1, and `over` < 1 for `step`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "ScheduleFields")]
pub struct Schedule {
    #[serde(serialize_with = "tagged")]
    of: Box<dyn Constraint>,
    from: f64,
    to: f64,
    shape: FactorPath,
    over: f64,
}

impl Schedule {
    /// Creates the constraint that multiplies the bounds of `of` by a factor between `from` and `to`.
    ///
    /// # Errors
    /// Fails if `of` itself changes during training, if a factor is not positive and finite (as `f32`), or if
    /// `over` is outside (0, 1], or not below 1 for a step.
    pub fn new(of: Box<dyn Constraint>, from: f64, to: f64, shape: FactorPath, over: f64) -> Result<Self> {
        if of.factor(0.0).is_some() {
            let message = format!(
                "{:?} changes over training already; expected a constraint with constant bounds",
                of.kind()
            );
            return Err(Error::invalid("of", message));
        }
        check_positive("from", from)?;
        check_positive("to", to)?;
        if !(over > 0.0 && over <= 1.0) {
            return Err(Error::invalid("over", format!("found {over}, expected a share above 0, at most 1")));
        }
        if shape == FactorPath::Step && over == 1.0 {
            let message = "found 1, expected a share below 1: a step at the end of training is never taken";
            return Err(Error::invalid("over", message));
        }
        Ok(Self { of, from, to, shape, over })
    }

    /// Computes f(t), the factor on the other constraint's bounds.
    pub fn times(&self, progress: f64) -> f64 {
        let t = progress / self.over;
        if t >= 1.0 {
            return self.to;
        }
        let left = match self.shape {
            FactorPath::Linear => 1.0 - t.max(0.0),
            FactorPath::Cosine => 0.5 * (1.0 + (PI * t.max(0.0)).cos()),
            FactorPath::Step => 1.0,
        };
        self.to + (self.from - self.to) * left
    }

    fn at_the_end(&self, bound: f32) -> f32 {
        (self.to * f64::from(bound)) as f32
    }
}

inventory::submit! {
    ConstraintPlugin {
        name: "schedule",
        about: "another constraint's bounds, tightened or loosened over training",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Schedule>(data)?)),
    }
}

impl Constraint for Schedule {
    fn kind(&self) -> &'static str {
        "schedule"
    }

    fn bounds(&self, pairs: &[PairView<'_>], priors: &Priors) -> Result<Vec<f32>> {
        let bounds = self.of.checked_bounds(pairs, priors)?;
        for (at, bound) in bounds.iter().enumerate().filter(|(_, bound)| bound.is_finite()) {
            for times in [self.from, self.to] {
                let scaled = (times * f64::from(*bound)) as f32;
                if !(scaled.is_finite() && scaled > 0.0) {
                    let message = format!(
                        "pair {at} has the bound {bound}, which times {times} is {scaled}; expected a positive \
                         number"
                    );
                    return Err(Error::Pair {
                        what: "constraint",
                        name: self.kind().to_owned(),
                        at,
                        message,
                    });
                }
            }
        }
        Ok(bounds.into_iter().map(|bound| self.at_the_end(bound)).collect())
    }

    fn similarities(&self, pairs: &[PairView<'_>], priors: &Priors) -> Result<Option<Vec<f32>>> {
        self.of.similarities(pairs, priors)
    }

    fn settle(&mut self, priors: &Priors) -> Result<()> {
        self.of.settle(priors)
    }

    fn folds(&self) -> usize {
        self.of.folds()
    }

    fn is_unfitted(&self) -> bool {
        self.of.is_unfitted()
    }

    fn fitted(&self, pairs: &[PairView<'_>], wins: &[f32], priors: &Priors) -> Result<Box<dyn Constraint>> {
        let of = self.of.fitted(pairs, wins, priors)?;
        Ok(Box::new(Self::new(of, self.from, self.to, self.shape, self.over)?))
    }

    fn formula(&self) -> Option<&'static str> {
        Some(
            "Δ*(t) = f(t)·(Δ* of the part); f goes from `from` to `to` while t, the share of completed \
             steps, goes from 0 to `over`",
        )
    }

    fn parameters(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("of", "the scheduled constraint: a name or an object"),
            ("from", "factor at the start"),
            ("to", "factor at the end, and in evaluations"),
            ("shape", "path of the factor: linear, cosine or step"),
            ("over", "share of a run's steps after which the factor is `to`"),
        ]
    }

    fn parts(&self) -> Vec<&dyn Constraint> {
        vec![self.of.as_ref()]
    }

    fn factor(&self, progress: f64) -> Option<f64> {
        Some(self.times(progress) / self.to)
    }

    fn effects(&self) -> Vec<Effect> {
        self.of.effects()
    }

    fn bound_at(&self, s: f64) -> Option<f32> {
        self.of.bound_at(s).map(|bound| self.at_the_end(bound))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleFields {
    #[serde(default = "length_ratio")]
    of: Value,
    #[serde(default)]
    from: Number,
    #[serde(default)]
    to: Number,
    #[serde(default)]
    shape: FactorPath,
    #[serde(default)]
    over: Number,
}

fn length_ratio() -> Value {
    json!("length_ratio")
}

impl TryFrom<ScheduleFields> for Schedule {
    type Error = Error;

    fn try_from(fields: ScheduleFields) -> Result<Self> {
        Self::new(
            named_or_tagged(fields.of).map_err(|error| Error::invalid("of", error))?,
            fields.from.finite("from", 2.0)?,
            fields.to.finite("to", 1.0)?,
            fields.shape,
            fields.over.finite("over", 1.0)?,
        )
    }
}

// serde's `serialize_with` gives a reference to the field, which is a box.
#[allow(clippy::borrowed_box)]
fn tagged<S: Serializer>(of: &Box<dyn Constraint>, serializer: S) -> Result<S::Ok, S::Error> {
    of.to_tagged().map_err(serde::ser::Error::custom)?.serialize(serializer)
}

#[cfg(test)]
mod tests;
