//! Prior constraints: an upper bound Δ* for the margin of every pair, known before training.
//!
//! PCRM (arXiv 2404.00978, §4.1) trains with L = −log σ(Δ) − log σ(Δ* − Δ), Δ = r_w − r_l, whose minimum over Δ
//! is at Δ*/2. A [`Constraint`] says what Δ* is; it is computed once per data set and carries no gradient.
//! `f32::INFINITY` means "no bound" and leaves −log σ(Δ) alone.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::backend::Engine;
use crate::data::prompt_id::PromptId;
use crate::error::{Error, Result};
use crate::registry::ConstraintPlugin;
use crate::tagged;

/// What a constraint may look at of one preference pair.
#[derive(Debug, Clone, Copy)]
pub struct PairView<'a> {
    /// A hash of the pair's content: the same in any order, in any file and at any batch size.
    pub identity: u64,
    /// The identity of the prompt: the same whichever schema the data write it in.
    pub prompt_id: PromptId,
    /// The prompt's text, templates applied.
    pub prompt: &'a str,
    /// The preferred answer's text.
    pub chosen: &'a str,
    /// The dispreferred answer's text.
    pub rejected: &'a str,
    /// Tokens of the preferred answer from the first one where the two differ.
    pub chosen_ids: &'a [u32],
    /// Tokens of the dispreferred answer from the first one where the two differ.
    pub rejected_ids: &'a [u32],
    /// How much better the preferred answer is, where the data says so.
    pub margin: Option<f32>,
}

/// Hears how far a long computation has come.
pub trait Progress: Debug + Send + Sync {
    /// `done` of `total` are through; `what` names them: `texts encoded`. The last call has `done == total`.
    fn at(&self, what: &str, done: u64, total: u64);
}

/// Finds models by the names that people give them.
pub trait Folders: Debug + Send + Sync {
    /// The folder of the model of this name, which is no folder here.
    ///
    /// # Errors
    /// A model that cannot be had; the message tells where it was looked for.
    fn fetch(&self, named: &Path) -> Result<PathBuf>;
}

/// What surrounds the computation of bounds: the run's seed, what computes, where costly priors may be kept, who
/// watches.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Priors {
    /// The run's seed, for constraints that draw.
    pub seed: u64,
    /// A folder for what is costly to compute twice (embeddings); `None`: keep nothing.
    pub cache: Option<PathBuf>,
    /// What encoders with weights compute on; `None`: they cannot.
    pub engine: Option<Engine>,
    /// The folder of the model that is to be trained, as it is before; `None`: there is none.
    pub model: Option<PathBuf>,
    /// Where models are looked for that are not on the disk; `None`: nowhere.
    pub folders: Option<Arc<dyn Folders>>,
    /// Who is told how far a computation of minutes has come; `None`: nobody.
    pub progress: Option<Arc<dyn Progress>>,
}

impl Priors {
    /// Priors of a run with this seed and nothing else.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// The absolute path of a model's folder: `named` itself where it exists, else what [`Priors::folders`] finds.
    ///
    /// # Errors
    /// Those of [`Folders::fetch`]. Without anyone to ask, who reads the folder says that it is not there.
    pub fn folder(&self, named: &Path) -> Result<PathBuf> {
        match &self.folders {
            Some(folders) if !named.exists() => folders.fetch(named),
            _ => std::path::absolute(named).map_err(Error::io(named)),
        }
    }
}

/// Which way Δ* goes as a feature grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Either way.
    Free,
    /// It never falls.
    Increasing,
    /// It never rises.
    Decreasing,
}

/// What one feature does to Δ*, for constraints that were fitted to several; what is shown to people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    /// The feature's name.
    pub feature: String,
    /// Which way Δ* was allowed to go as it grows.
    pub direction: Direction,
    /// Its mean over the pairs that were fitted to, in its own units.
    pub mean: f64,
    /// Its standard deviation there.
    pub std: f64,
    /// Its weight, where it has one.
    pub weight: Option<Weight>,
    /// Its value and Δ* there, from its 1st to its 99th percentile, the other features at their means.
    pub points: Vec<(f64, f64)>,
}

/// The weight of a feature: by how much a standard deviation of it moves what Δ* is made of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Weight {
    /// Over the models of all folds.
    pub mean: f64,
    /// The least of them.
    pub low: f64,
    /// The largest of them.
    pub high: f64,
}

/// A prior constraint. One method is required besides the name.
///
/// Implementations are plain serde structs with `deny_unknown_fields`, registered as a [`ConstraintPlugin`]
/// under the same name as [`Constraint::kind`].
pub trait Constraint: erased_serde::Serialize + Debug + Send + Sync {
    /// The tag that selects this constraint: `length_ratio`, `fixed`.
    fn kind(&self) -> &'static str;

    /// Writes into the configuration what it takes from `priors` and what else may not be found later or elsewhere: see
    /// [`Encoder::settle`](crate::encoder::Encoder::settle). A constraint made of others or of an encoder settles those.
    ///
    /// # Errors
    /// What of `priors` is missing.
    fn settle(&mut self, _priors: &Priors) -> Result<()> {
        Ok(())
    }

    /// Δ* of every pair, in order; positive, or `f32::INFINITY` for no bound.
    ///
    /// # Errors
    /// A prior that cannot be computed for some pair, naming the pair's position.
    fn bounds(&self, pairs: &[PairView<'_>], priors: &Priors) -> Result<Vec<f32>>;

    /// The prior s behind every bound, where the constraint has one: a similarity in [0, 1].
    ///
    /// # Errors
    /// As [`Constraint::bounds`].
    fn similarities(&self, _pairs: &[PairView<'_>], _priors: &Priors) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }

    /// Whether this is a form whose numbers are still to be fitted, which gives no bounds before.
    fn is_unfitted(&self) -> bool {
        false
    }

    /// This form with its numbers fitted to pairs: `wins[i]`, in \[0, 1\], is how often judges that were not trained on
    /// pair i prefer its preferred answer. What is fitted bounds no pair by numbers that the pair itself took part in:
    /// folds are those of [`crate::folds::fold`].
    ///
    /// # Errors
    /// A constraint that has nothing to fit, and wins that it cannot be fitted to.
    fn fitted(
        &self,
        _pairs: &[PairView<'_>],
        _wins: &[f32],
        _priors: &Priors,
    ) -> Result<Box<dyn Constraint>> {
        Err(Error::Plugin {
            what: "constraint",
            name: self.kind().to_owned(),
            message: "has nothing that could be fitted".to_owned(),
        })
    }

    /// As [`Constraint::fitted`], with the evidence in the pairs as JSON, where there is more to it than the numbers.
    ///
    /// # Errors
    /// As [`Constraint::fitted`].
    fn fitted_with_evidence(
        &self,
        pairs: &[PairView<'_>],
        wins: &[f32],
        priors: &Priors,
    ) -> Result<(Box<dyn Constraint>, Option<Value>)> {
        Ok((self.fitted(pairs, wins, priors)?, None))
    }

    /// The number of folds whose judges give the wins that an unfitted form is fitted to.
    fn folds(&self) -> usize {
        5
    }

    /// Δ* in words, with what s is and the parameters by name; what is shown to people.
    fn formula(&self) -> Option<&'static str> {
        None
    }

    /// What parameters mean, by their names in the tagged form; what is shown to people.
    fn parameters(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// The constraints that this one is made of, in order; what is shown to people.
    fn parts(&self) -> Vec<&dyn Constraint> {
        Vec::new()
    }

    /// How many times as loose as [`Constraint::bounds`] the bounds are once a share `progress` in \[0, 1\] of a run's
    /// steps is made, for constraints that change over training: positive, finite, a function of `progress` alone, and
    /// 1 at its end. `None`: they do not change.
    fn factor(&self, _progress: f64) -> Option<f64> {
        None
    }

    /// Δ* where the prior is `s`, for constraints whose bound is a function of one similarity in [0, 1] and
    /// nothing else; what is plotted.
    fn bound_at(&self, _s: f64) -> Option<f32> {
        None
    }

    /// What each feature does to Δ*, for constraints that were fitted to several; what is plotted.
    fn effects(&self) -> Vec<Effect> {
        Vec::new()
    }
}

erased_serde::serialize_trait_object!(Constraint);

impl dyn Constraint + '_ {
    /// [`Constraint::bounds`], checked: one positive number per pair.
    ///
    /// # Errors
    /// Those of the constraint, and a bound that is not positive (NaN included), with the pair's position.
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

    /// The tagged form: the configuration with its `kind` first.
    ///
    /// # Errors
    /// A configuration that does not serialise to an object.
    pub fn to_tagged(&self) -> Result<Value> {
        tagged::to_value::<ConstraintPlugin>(self.kind(), self)
    }
}

/// Builds a constraint from a name (`length_ratio`) or a tagged object (`{"kind": "fixed", "bound": 3}`).
///
/// # Errors
/// Text that is neither, an unknown kind (the known ones are listed), and a refused configuration.
pub fn parse(text: &str) -> Result<Box<dyn Constraint>> {
    tagged::parse::<ConstraintPlugin>(text)
}

/// Builds a constraint from its tagged object.
///
/// # Errors
/// As [`parse`].
pub fn from_tagged(value: Value) -> Result<Box<dyn Constraint>> {
    tagged::from_value::<ConstraintPlugin>(value)
}

impl<'de> Deserialize<'de> for Box<dyn Constraint> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_tagged(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
