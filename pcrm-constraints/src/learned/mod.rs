//! The learned constraint: a bound from several priors at once, fitted to the agreement of judges with the
//! labels.

mod boosted;
mod crossfit;
mod evidence;
mod features;
mod likelihood;
mod linear;
mod minimise;
mod model;
mod stored;
mod table;
mod tree;

use std::collections::BTreeMap;

use pcrm_core::constraint::{Constraint, Direction, Effect, PairView, Priors, Weight};
use pcrm_core::folds::fold;
use pcrm_core::registry::ConstraintPlugin;
use pcrm_core::{Error, Result};

pub use boosted::Boosted;
pub use evidence::{Evidence, FeatureStats, Gain, LogLikelihood};
pub use features::Feature;
pub use linear::{Input, Linear};
pub use model::{Model, ModelForm};
pub use tree::{Split, Tree};

use self::model::FitSpec;
use self::table::FitData;

/// Δ* = 2·softplus(f(x)), where x are features of the pair: the loss of PCRM (arXiv 2404.00978, §4.1) is
/// smallest at Δ*/2, so the bound pulls P(chosen ≻ rejected) towards σ(softplus(f)), which is at least ½.
/// Unitless.
///
/// f is fitted to wins by maximum likelihood, Σ w·ln σ(Δ*/2) + (1 − w)·ln σ(−Δ*/2), once per fold of prompts
/// ([`pcrm_core::folds`]) and without that fold. The model of its prompt's fold bounds a pair, so no pair is
/// bounded by a fit that it, or another answer to its prompt, took part in.
///
/// As data: `{"kind": "learned", "features": ["length_ratio", {"kind": "cosine", "encoder": "bag-of-words"},
/// "edit"], "monotone": {"cosine": "decreasing"}, "folds": 5, "form": "linear"}`. `features` are names or
/// objects ([`Feature`]); the default is `cosine` and `edit` with their constraints' defaults, and
/// `score_gap` if every pair has a margin. `length_gap` and `length_ratio` must be requested, because their
/// bounds teach the model to prefer longer answers. `monotone` maps features to `increasing`, `decreasing` or
/// `free`; by default bounds decrease in similarities, increase in `score_gap`, and are free in `length_gap`.
/// `folds` is from 3 to 20; `form` is `linear` or `boosted` (a sum of small trees). A fitted constraint also
/// has `models`, one per fold, `evidence`, and a `digest` that detects manual edits.
#[derive(Debug)]
pub struct Learned {
    /// The features; `None` means the default ones, not yet fitted.
    features: Option<Vec<Feature>>,
    /// The requested directions; after fitting, those of every feature.
    monotone: BTreeMap<String, Direction>,
    folds: usize,
    form: ModelForm,
    fit: Option<Fit>,
}

/// The result of a fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The models, one per fold, fitted without it.
    pub models: Vec<Model>,
    /// The evidence behind the fit.
    pub evidence: Evidence,
}

/// The number of points of an effect curve.
const POINTS: usize = 41;

inventory::submit! {
    ConstraintPlugin {
        name: "learned",
        about: "bound from several priors at once, fitted to the agreement of judges with the labels",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Learned>(data)?)),
    }
}

impl Learned {
    /// Returns the fit, if the constraint is fitted.
    pub fn fit(&self) -> Option<&Fit> {
        self.fit.as_ref()
    }

    fn fitted_or_refused(&self) -> Result<(&[Feature], &Fit)> {
        match (&self.features, &self.fit) {
            (Some(features), Some(fit)) => Ok((features, fit)),
            _ => Err(refused(
                "is not fitted yet: `pcrm calibrate --constraint learned` writes a fitted one, and `pcrm \
                 reward` fits it before training",
            )),
        }
    }

    fn shape<'a>(&self, features: &'a [Feature]) -> FitSpec<'a> {
        let direction = |feature: &Feature| {
            self.monotone.get(feature.name()).copied().unwrap_or_else(|| feature.usual_direction())
        };
        FitSpec {
            form: self.form,
            names: features.iter().map(Feature::name).collect(),
            directions: features.iter().map(direction).collect(),
        }
    }

    /// Returns copies of the features, or the default features of these pairs.
    fn features_for(&self, pairs: &[PairView<'_>]) -> Result<Vec<Feature>> {
        let Some(features) = &self.features else {
            let features = Feature::usual(pairs)?;
            let known: Vec<&str> = features.iter().map(Feature::name).collect();
            return match self.monotone.keys().find(|name| !known.contains(&name.as_str())) {
                Some(name) => Err(refused(format!(
                    "monotone: {name:?} is not a feature of these pairs; features: {}",
                    known.join(", ")
                ))),
                None => Ok(features),
            };
        };
        features.iter().map(|feature| Feature::from_value(feature.to_value()?)).collect()
    }
}

impl Constraint for Learned {
    fn kind(&self) -> &'static str {
        "learned"
    }

    fn settle(&mut self, priors: &Priors) -> Result<()> {
        self.features.iter_mut().flatten().try_for_each(|feature| feature.settle(priors))
    }

    fn bounds(&self, pairs: &[PairView<'_>], priors: &Priors) -> Result<Vec<f32>> {
        let (features, fit) = self.fitted_or_refused()?;
        let columns: Vec<Vec<f64>> =
            features.iter().map(|feature| feature.of_each(pairs, priors)).collect::<Result<_>>()?;
        let bound = |(at, pair): (usize, &PairView<'_>)| {
            let x: Vec<f64> = columns.iter().map(|column| column[at]).collect();
            // softplus may underflow as f32, and a bound must be positive.
            (fit.models[fold(pair.prompt_id, self.folds)].bound(&x) as f32).max(f32::MIN_POSITIVE)
        };
        Ok(pairs.iter().enumerate().map(bound).collect())
    }

    fn folds(&self) -> usize {
        self.folds
    }

    fn is_unfitted(&self) -> bool {
        self.fit.is_none()
    }

    fn fitted(&self, pairs: &[PairView<'_>], wins: &[f32], priors: &Priors) -> Result<Box<dyn Constraint>> {
        let features = self.features_for(pairs)?;
        let shape = self.shape(&features);
        let table = FitData::new(&features, pairs, wins, self.folds, priors)?;
        let models = crossfit::models(&shape, &table, self.folds);
        let evidence = crossfit::evidence(&shape, &table, &models);
        let monotone =
            shape.names.iter().zip(&shape.directions).map(|(name, way)| ((*name).to_owned(), *way)).collect();
        Ok(Box::new(Self {
            features: Some(features),
            monotone,
            folds: self.folds,
            form: self.form,
            fit: Some(Fit { models, evidence }),
        }))
    }

    fn formula(&self) -> Option<&'static str> {
        Some(match self.form {
            ModelForm::Linear => {
                "Δ* = 2 softplus(f), f = intercept + sum of weight × (feature - mean)/std, by fold"
            }
            ModelForm::Boosted => "Δ* = 2 softplus(f), f = intercept + sum of trees of the features, by fold",
        })
    }

    fn parameters(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("features", "features: length_gap, score_gap, or constraints whose similarity is used"),
            ("monotone", "direction of the bound in a feature: increasing, decreasing or free"),
            ("folds", "number of models, each for the prompts of the fold it was fitted without"),
            ("form", "form of f: linear, or boosted (a sum of small trees)"),
        ]
    }

    fn effects(&self) -> Vec<Effect> {
        let Ok((features, fit)) = self.fitted_or_refused() else { return Vec::new() };
        let shape = self.shape(features);
        let seen = &fit.evidence.features;
        let means: Vec<f64> = seen.iter().map(|seen| seen.mean).collect();
        let models = fit.models.len() as f64;
        let effect = |at: usize| {
            let FeatureStats { feature, mean, std, p1, p99 } = seen[at].clone();
            let point = |step: usize| {
                let value = p1 + (p99 - p1) * step as f64 / (POINTS - 1) as f64;
                let mut x = means.clone();
                x[at] = value;
                (value, fit.models.iter().map(|model| model.bound(&x)).sum::<f64>() / models)
            };
            Effect {
                feature,
                direction: shape.directions[at],
                mean,
                std,
                weight: weight(&fit.models, at),
                points: (0..POINTS).map(point).collect(),
            }
        };
        (0..seen.len()).map(effect).collect()
    }
}

/// Returns a feature's weight over the folds' models, if they have weights.
fn weight(models: &[Model], at: usize) -> Option<Weight> {
    let of = |model: &Model| match model {
        Model::Linear(linear) => Some(linear.inputs[at].weight),
        Model::Boosted(_) => None,
    };
    let weights = models.iter().map(of).collect::<Option<Vec<f64>>>()?;
    Some(Weight {
        mean: weights.iter().sum::<f64>() / weights.len() as f64,
        low: weights.iter().copied().fold(f64::INFINITY, f64::min),
        high: weights.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    })
}

fn refused(message: impl Into<String>) -> Error {
    Error::Plugin { what: "constraint", name: "learned".to_owned(), message: message.into() }
}

#[cfg(test)]
mod tests;
