//! The explanation of a constraint of any kind.

use anyhow::Result;
use pcrm_core::constraint::{Constraint, Effect};
use pcrm_core::data::survey::bounds::sureness;
use pcrm_core::registry::{self, ConstraintPlugin};
use serde::Serialize;
use serde_json::Value;

use crate::report::{evidence, is_setting, setting};

/// Points of a curve.
const POINTS: usize = 200;

/// The explanation of a constraint.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// Its tagged form, defaults filled in.
    pub constraint: Value,
    /// One line.
    pub about: &'static str,
    /// Δ* in words.
    pub formula: Option<&'static str>,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// Whether its numbers are still to be fitted to data.
    pub unfitted: bool,
    /// Δ* by the similarity s of the answers, at 0, 0.1, .. 1; empty where it is no function of one s.
    pub bounds: Vec<BoundAt>,
    /// By how much looser bounds are when a share of the steps is made, at 0, 0.1, .. 1; empty where they do not change.
    pub factors: Vec<FactorAt>,
    /// The evidence that it was fitted to, where it carries any.
    pub evidence: Option<String>,
    /// The effect of each feature, where Δ* has several.
    pub effects: Vec<Effect>,
    /// The constraints it consists of.
    pub parts: Vec<Explanation>,
    /// s and Δ*, finely.
    #[serde(skip)]
    pub curve: Vec<(f64, f64)>,
    /// The share of steps made and the factor, finely.
    #[serde(skip)]
    pub course: Vec<(f64, f64)>,
}

/// A parameter.
#[derive(Debug, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its value here.
    pub value: Value,
    /// What it means; empty where the constraint does not say.
    pub meaning: &'static str,
}

impl Parameter {
    /// The value as people read it, cut where it is long; none where the parameter is not set.
    pub fn shown(&self) -> Option<String> {
        const MOST: usize = 160;
        let text = setting(&self.value);
        let cut = text.char_indices().nth(MOST).map(|(at, _)| format!("{}…", &text[..at]));
        (!self.value.is_null()).then(|| cut.unwrap_or(text))
    }
}

/// The bound at a similarity.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct BoundAt {
    /// The similarity.
    pub s: f64,
    /// Δ*; absent for no bound.
    pub bound: Option<f32>,
    /// How sure of a pair that lets the model be: σ(Δ*/2).
    pub probability: f64,
}

/// The factor of bounds at a time.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct FactorAt {
    /// The share of steps made.
    pub share: f64,
    /// Bounds over those of the end.
    pub factor: f64,
}

/// What a constraint's bounds are, seen over s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    /// They are no function of one s.
    Other,
    /// No pair is bounded.
    None,
    /// The same for every pair.
    Constant(f64),
    /// They change with s.
    Curve,
}

impl Explanation {
    /// Asks the constraint, and its parts.
    ///
    /// # Errors
    /// A constraint that does not serialise.
    pub fn of(constraint: &dyn Constraint) -> Result<Self> {
        let tagged = constraint.to_tagged()?;
        let over = |points: usize| (0..=points).map(move |at| at as f64 / points as f64);
        let bound = |s: f64| constraint.bound_at(s).map(|bound| (s, bound));
        let bounds = over(10).filter_map(bound).map(|(s, bound)| BoundAt {
            s,
            bound: bound.is_finite().then_some(bound),
            probability: sureness(bound.into()),
        });
        let factor = |share: f64| constraint.factor(share).map(|factor| FactorAt { share, factor });
        Ok(Self {
            about: registry::find::<ConstraintPlugin>(constraint.kind()).map_or("", |plugin| plugin.about),
            formula: constraint.formula(),
            parameters: parameters(constraint, &tagged),
            unfitted: constraint.is_unfitted(),
            bounds: bounds.collect(),
            factors: over(10).filter_map(factor).collect(),
            evidence: evidence(&tagged),
            effects: constraint.effects(),
            parts: constraint.parts().into_iter().map(Self::of).collect::<Result<_>>()?,
            curve: over(POINTS).filter_map(bound).map(|(s, bound)| (s, bound.into())).collect(),
            course: over(POINTS).filter_map(factor).map(|at| (at.share, at.factor)).collect(),
            constraint: tagged,
        })
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        self.constraint["kind"].as_str().unwrap_or_default()
    }

    /// What its bounds are, seen over s.
    pub fn form(&self) -> Form {
        let Some((_, first)) = self.curve.first().copied() else { return Form::Other };
        match self.curve.iter().all(|(_, bound)| *bound == first) {
            true if first.is_finite() => Form::Constant(first),
            true => Form::None,
            false => Form::Curve,
        }
    }

    /// The part of the curve below a height above which bounds hardly ever act, and that height where the curve exceeds
    /// it: a bound of 19985 would leave nothing to see of one of 5. The part ends where the curve crosses the height.
    pub fn visible_curve(&self) -> (Vec<(f64, f64)>, Option<f64>) {
        const ENOUGH: f64 = 20.0;
        let low = self.curve.iter().map(|(_, bound)| *bound).fold(f64::INFINITY, f64::min);
        let most = ENOUGH.max(4.0 * low);
        let mut visible: Vec<(f64, f64)> = Vec::new();
        let mut before: Option<(f64, f64)> = None;
        for point in &self.curve {
            if let Some(before) = before
                && (before.1 <= most) != (point.1 <= most)
            {
                visible.push((crossing(before, *point, most), most));
            }
            if point.1 <= most {
                visible.push(*point);
            }
            before = Some(*point);
        }
        (visible, self.curve.iter().any(|(_, bound)| *bound > most).then_some(most))
    }
}

/// Where the line between two points crosses a height; at the finite one if the other is not.
fn crossing(a: (f64, f64), b: (f64, f64), height: f64) -> f64 {
    match (a.1.is_finite(), b.1.is_finite()) {
        (true, true) => a.0 + (b.0 - a.0) * (height - a.1) / (b.1 - a.1),
        (true, false) => a.0,
        _ => b.0,
    }
}

/// The fields of the tagged form with what they mean, and the meanings of those that it leaves out.
fn parameters(constraint: &dyn Constraint, tagged: &Value) -> Vec<Parameter> {
    let meanings = constraint.parameters();
    let meaning =
        |name: &str| meanings.iter().find(|(known, _)| *known == name).map_or("", |(_, meaning)| meaning);
    let fields =
        tagged.as_object().into_iter().flatten().filter(|(name, value)| is_setting(name.as_str(), value));
    let mut all: Vec<Parameter> = fields
        .map(|(name, value)| Parameter { name: name.clone(), value: value.clone(), meaning: meaning(name) })
        .collect();
    for (name, meaning) in meanings {
        if tagged.get(name).is_none() {
            all.push(Parameter { name: (*name).to_owned(), value: Value::Null, meaning });
        }
    }
    all
}
