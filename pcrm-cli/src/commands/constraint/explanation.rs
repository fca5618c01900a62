//! The explanation of a constraint, whatever its kind.

use anyhow::Result;
use pcrm_core::constraint::{Constraint, Effect};
use pcrm_core::data::survey::bounds::sureness;
use pcrm_core::registry::{self, ConstraintPlugin};
use serde::Serialize;
use serde_json::Value;

use crate::report::{evidence, is_setting, setting};

/// Points per curve.
const POINTS: usize = 200;

/// The explanation of a constraint.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The tagged form with defaults filled in.
    pub constraint: Value,
    /// A one-line description.
    pub about: &'static str,
    /// The formula of Δ*.
    pub formula: Option<&'static str>,
    /// The parameters, in the order of the formula.
    pub parameters: Vec<Parameter>,
    /// True if its numbers still have to be fitted to data.
    pub unfitted: bool,
    /// Δ* by the similarity s of the answers, at 0, 0.1, .. 1; empty if it is not a function of a single s.
    pub bounds: Vec<BoundAt>,
    /// The factor on bounds by the share of completed steps, at 0, 0.1, .. 1; empty if it is constant.
    pub factors: Vec<FactorAt>,
    /// The evidence it was fitted to, if it carries any.
    pub evidence: Option<String>,
    /// The effect of each feature, if Δ* has several.
    pub effects: Vec<Effect>,
    /// The constraints it consists of.
    pub parts: Vec<Explanation>,
    /// s and Δ*, on a fine grid.
    #[serde(skip)]
    pub curve: Vec<(f64, f64)>,
    /// The share of completed steps and the factor, on a fine grid.
    #[serde(skip)]
    pub course: Vec<(f64, f64)>,
}

/// A parameter.
#[derive(Debug, Serialize)]
pub struct Parameter {
    /// The name of the parameter, as in JSON.
    pub name: String,
    /// The value in this constraint.
    pub value: Value,
    /// The meaning; empty if the constraint does not document it.
    pub meaning: &'static str,
}

impl Parameter {
    /// Formats the value, shortened if long; `None` if the parameter is not set.
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
    /// Δ*; absent if there is no bound.
    pub bound: Option<f32>,
    /// The confidence in a pair that the bound allows: σ(Δ*/2).
    pub probability: f64,
}

/// The factor on bounds at a point of training.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct FactorAt {
    /// The share of completed steps.
    pub share: f64,
    /// The bounds divided by those at the end.
    pub factor: f64,
}

/// The shape of a constraint's bounds over s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BoundForm {
    /// Not a function of a single s.
    Other,
    /// No pair has a bound.
    None,
    /// The same bound for every pair.
    Constant(f64),
    /// Bounds that change with s.
    Curve,
}

impl Explanation {
    /// Explains a constraint and its parts.
    ///
    /// # Errors
    /// Fails if a constraint cannot be serialised.
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

    /// Returns its kind.
    pub fn kind(&self) -> &str {
        self.constraint["kind"].as_str().unwrap_or_default()
    }

    /// Returns the shape of its bounds over s.
    pub fn form(&self) -> BoundForm {
        let Some((_, first)) = self.curve.first().copied() else { return BoundForm::Other };
        match self.curve.iter().all(|(_, bound)| *bound == first) {
            true if first.is_finite() => BoundForm::Constant(first),
            true => BoundForm::None,
            false => BoundForm::Curve,
        }
    }

    /// Returns the part of the curve below the height above which bounds rarely act, and that height if the
    /// curve exceeds it: a bound of 19985 would hide one of 5. The part ends where the curve crosses the
    /// height.
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

/// Returns the crossing of the line between two points with a height; the finite point if the other is not
/// finite.
fn crossing(a: (f64, f64), b: (f64, f64), height: f64) -> f64 {
    match (a.1.is_finite(), b.1.is_finite()) {
        (true, true) => a.0 + (b.0 - a.0) * (height - a.1) / (b.1 - a.1),
        (true, false) => a.0,
        _ => b.0,
    }
}

/// Returns the fields of the tagged form with their meanings, followed by documented fields that it leaves
/// out.
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
