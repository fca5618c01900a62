//! Prior constraints: an upper bound Δ* on the margin of every pair, known before training.
//!
//! PCRM (arXiv 2404.00978, §4.1) trains with L = −log σ(Δ) − log σ(Δ* − Δ), Δ = r_w − r_l, whose minimum over
//! Δ is at Δ*/2. A [`Constraint`] computes Δ* once per data set, without gradient. `f32::INFINITY` means "no
//! bound" and reduces the loss to −log σ(Δ).

mod effect;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::Value;

pub use self::effect::{Direction, Effect, Weight};
use crate::backend::Engine;
use crate::data::prompt_id::PromptId;
use crate::error::{Error, Result};
use crate::registry::ConstraintPlugin;
use crate::tagged;

/// A preference pair, as constraints see it.
#[derive(Debug, Clone, Copy)]
pub struct PairView<'a> {
    /// A hash of the pair's content: the same in any order, in any file and at any batch size.
    pub identity: u64,
    /// The identity of the prompt: the same in every data schema.
    pub prompt_id: PromptId,
    /// The prompt's text, templates applied.
    pub prompt: &'a str,
    /// The preferred answer's text.
    pub chosen: &'a str,
    /// The dispreferred answer's text.
    pub rejected: &'a str,
    /// The preferred answer's tokens, from the first one that differs.
    pub chosen_ids: &'a [u32],
    /// The dispreferred answer's tokens, from the first one that differs.
    pub rejected_ids: &'a [u32],
    /// The margin of the preferred answer, if the data state it.
    pub margin: Option<f32>,
}

/// An observer of the progress of a long computation.
pub trait Progress: Debug + Send + Sync {
    /// Reports that `done` of `total` items are complete; `what` names them: `texts encoded`. The last call
    /// has `done == total`.
    fn at(&self, what: &str, done: u64, total: u64);
}

/// A resolver of model names.
pub trait Folders: Debug + Send + Sync {
    /// Fetches a model that is not a local folder and returns its folder.
    ///
    /// # Errors
    /// Fails if the model is not available; the message lists the places searched.
    fn fetch(&self, named: &Path) -> Result<PathBuf>;
}

/// The context of a computation of bounds: seed, backend, cache folder, model and progress observer.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Priors {
    /// The run's seed, for constraints that draw random numbers.
    pub seed: u64,
    /// The cache folder for expensive results (embeddings); `None`: no cache.
    pub cache: Option<PathBuf>,
    /// The backend for encoders with weights; `None`: such encoders fail.
    pub engine: Option<Engine>,
    /// The folder of the model to be trained, in its initial state; `None`: there is none.
    pub model: Option<PathBuf>,
    /// The resolver of models that are not on disk; `None`: there is none.
    pub folders: Option<Arc<dyn Folders>>,
    /// The observer of computations that take minutes; `None`: there is none.
    pub progress: Option<Arc<dyn Progress>>,
}

impl Priors {
    /// Returns a context with this seed and nothing else.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Returns the absolute path of a model's folder: `named` itself if it exists, else the result of
    /// [`Priors::folders`].
    ///
    /// # Errors
    /// Fails as [`Folders::fetch`] does. Without a resolver, a missing folder is reported by its reader.
    pub fn folder(&self, named: &Path) -> Result<PathBuf> {
        match &self.folders {
            Some(folders) if !named.exists() => folders.fetch(named),
            _ => std::path::absolute(named).map_err(Error::io(named)),
        }
    }
}

/// A prior constraint. Only its kind and its bounds are required.
///
/// Implementations are plain serde structs with `deny_unknown_fields`, registered as a [`ConstraintPlugin`]
/// under the same name as [`Constraint::kind`].
pub trait Constraint: erased_serde::Serialize + Debug + Send + Sync {
    /// Returns the tag that selects this constraint: `length_ratio`, `fixed`.
    fn kind(&self) -> &'static str;

    /// Copies from `priors` into the configuration everything that may be unavailable later or elsewhere: see
    /// [`Encoder::settle`](crate::encoder::Encoder::settle). A constraint made of others or of an encoder
    /// settles those.
    ///
    /// # Errors
    /// Fails if `priors` lacks a needed item.
    fn settle(&mut self, _priors: &Priors) -> Result<()> {
        Ok(())
    }

    /// Computes Δ* of every pair, in order; positive, or `f32::INFINITY` for no bound.
    ///
    /// # Errors
    /// Fails with the pair's position if a prior cannot be computed.
    fn bounds(&self, pairs: &[PairView<'_>], priors: &Priors) -> Result<Vec<f32>>;

    /// Computes the prior s behind every bound, if the constraint has one: a similarity in [0, 1].
    ///
    /// # Errors
    /// Fails as [`Constraint::bounds`] does.
    fn similarities(&self, _pairs: &[PairView<'_>], _priors: &Priors) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }

    /// Returns whether Δ*, or the judges that it is fitted to, may depend on [`PairView::margin`]. By default
    /// every constraint may, and one made of others if one of these may.
    fn reads_margins(&self) -> bool {
        let parts = self.parts();
        parts.is_empty() || parts.into_iter().any(|part| part.reads_margins())
    }

    /// Returns whether this is an unfitted form, which has no bounds yet.
    fn is_unfitted(&self) -> bool {
        false
    }

    /// Returns this form with its parameters fitted to pairs: `wins[i]`, in \[0, 1\], is the share of judges
    /// not trained on pair i that prefer its preferred answer. The fitted constraint bounds no pair by a fit
    /// that the pair took part in; folds come from [`crate::folds::fold`].
    ///
    /// # Errors
    /// Fails if the constraint has nothing to fit, or cannot be fitted to these wins.
    fn fitted(
        &self,
        _pairs: &[PairView<'_>],
        _wins: &[f32],
        _priors: &Priors,
    ) -> Result<Box<dyn Constraint>> {
        Err(Error::Plugin {
            what: "constraint",
            name: self.kind().to_owned(),
            message: "has nothing to fit".to_owned(),
        })
    }

    /// Fits as [`Constraint::fitted`] does, and also returns the evidence as JSON, if there is more than the
    /// parameters.
    ///
    /// # Errors
    /// Fails as [`Constraint::fitted`] does.
    fn fitted_with_evidence(
        &self,
        pairs: &[PairView<'_>],
        wins: &[f32],
        priors: &Priors,
    ) -> Result<(Box<dyn Constraint>, Option<Value>)> {
        Ok((self.fitted(pairs, wins, priors)?, None))
    }

    /// Returns the number of cross-fitting folds that an unfitted form needs.
    fn folds(&self) -> usize {
        5
    }

    /// Returns the formula of Δ*, with the meaning of s and the parameters by name; for display.
    fn formula(&self) -> Option<&'static str> {
        None
    }

    /// Returns the meanings of the parameters, by their names in the tagged form; for display.
    fn parameters(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Returns the constraints that this one consists of, in order; for display.
    fn parts(&self) -> Vec<&dyn Constraint> {
        Vec::new()
    }

    /// Returns the factor on [`Constraint::bounds`] after a share `progress` in \[0, 1\] of a run's steps,
    /// for constraints that change during training: positive, finite, a function of `progress` alone, and 1
    /// at the end. `None`: the bounds are constant.
    fn factor(&self, _progress: f64) -> Option<f64> {
        None
    }

    /// Returns Δ* at the prior `s`, for constraints whose bound is a function of one similarity in [0, 1]
    /// alone; for plots.
    fn bound_at(&self, _s: f64) -> Option<f32> {
        None
    }

    /// Returns the effect of each feature on Δ*, for constraints fitted to several features; for plots.
    fn effects(&self) -> Vec<Effect> {
        Vec::new()
    }
}

erased_serde::serialize_trait_object!(Constraint);

impl dyn Constraint + '_ {
    /// Computes [`Constraint::bounds`] and checks that there is one positive number per pair.
    ///
    /// # Errors
    /// Fails with the constraint's errors, and with the pair's position if a bound is not positive (NaN
    /// included).
    pub fn checked_bounds(&self, pairs: &[PairView<'_>], priors: &Priors) -> Result<Vec<f32>> {
        let refuse =
            |message: String| Error::Plugin { what: "constraint", name: self.kind().to_owned(), message };
        let bounds = self.bounds(pairs, priors)?;
        if bounds.len() != pairs.len() {
            return Err(refuse(format!("gave {} bounds for {} pairs", bounds.len(), pairs.len())));
        }
        match bounds.iter().position(|bound| bound.is_nan() || *bound <= 0.0) {
            Some(at) => Err(Error::Pair {
                what: "constraint",
                name: self.kind().to_owned(),
                at,
                message: format!("pair {at} got the bound {}; a bound must be positive", bounds[at]),
            }),
            None => Ok(bounds),
        }
    }

    /// Returns the tagged form: the configuration with its `kind` first.
    ///
    /// # Errors
    /// Fails if the configuration does not serialise to an object.
    pub fn to_tagged(&self) -> Result<Value> {
        tagged::to_value::<ConstraintPlugin>(self.kind(), self)
    }
}

/// Builds a constraint from a name (`length_ratio`) or a tagged object (`{"kind": "fixed", "bound": 3}`).
///
/// # Errors
/// Fails if the text is neither, if the kind is unknown (the error lists the known ones), and if the
/// constraint refuses its configuration.
pub fn parse(text: &str) -> Result<Box<dyn Constraint>> {
    tagged::parse::<ConstraintPlugin>(text)
}

/// Builds a constraint from its tagged object.
///
/// # Errors
/// Fails as [`parse`] does.
pub fn from_tagged(value: Value) -> Result<Box<dyn Constraint>> {
    tagged::from_value::<ConstraintPlugin>(value)
}

impl<'de> Deserialize<'de> for Box<dyn Constraint> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_tagged(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
