//! The features of a pair that f depends on: similarities of other constraints, the length gap, the score
//! gap.

use pcrm_core::constraint::{self, Constraint, Direction, PairView, Priors};
use pcrm_core::{Error, Result};
use serde_json::{Value, json};

/// A feature: one number per pair.
///
/// As data: `"length_gap"` (ln((1 + chosen)/(1 + rejected)), lengths in tokens from the first that differs),
/// `"score_gap"` (the margin in the data, in its own units, below 0 if the scores contradict the label), or a
/// constraint, by name or as an object, for its similarity. `"name"` in such an object sets the feature's
/// name, which defaults to the kind.
#[derive(Debug)]
pub struct Feature {
    name: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    LengthGap,
    ScoreGap,
    Similarity(Box<dyn Constraint>),
}

const LENGTH_GAP: &str = "length_gap";
const SCORE_GAP: &str = "score_gap";

/// The default features, the last one only if every pair has a margin.
///
/// Lengths are excluded: judges prefer longer answers more often than labels do, and bounds that grow with
/// `length_gap`, or fall with `length_ratio`, pass that preference on to the model (BENCHMARKS.md has
/// figures).
pub(super) const USUAL: [&str; 3] = ["cosine", "edit", SCORE_GAP];

impl Feature {
    /// Returns the default features of these pairs: [`USUAL`], without `score_gap` if a margin is missing.
    ///
    /// # Errors
    /// Fails if a constraint of that name is not linked into the binary.
    pub(super) fn usual(pairs: &[PairView<'_>]) -> Result<Vec<Self>> {
        let with_margins = pairs.iter().all(|pair| pair.margin.is_some());
        let there = USUAL.into_iter().filter(|name| with_margins || *name != SCORE_GAP);
        there.map(|name| Self::from_value(json!(name))).collect()
    }

    /// Parses a feature.
    ///
    /// # Errors
    /// Fails if the value is neither a feature's name nor a constraint.
    pub(super) fn from_value(value: Value) -> Result<Self> {
        let own = |name: &str, source| Ok(Self { name: name.to_owned(), source });
        match value {
            Value::String(name) => match name.as_str() {
                LENGTH_GAP => own(LENGTH_GAP, Source::LengthGap),
                SCORE_GAP => own(SCORE_GAP, Source::ScoreGap),
                name => {
                    let of = constraint::parse(name).map_err(|error| {
                        Error::invalid(
                            "features",
                            format!(
                                "found {name:?}, expected {LENGTH_GAP}, {SCORE_GAP} or a constraint's \
                                     name: {error}"
                            ),
                        )
                    })?;
                    own(name, Source::Similarity(of))
                }
            },
            Value::Object(mut fields) => {
                let name = match fields.shift_remove("name") {
                    None => None,
                    Some(Value::String(name)) => Some(name),
                    Some(other) => {
                        return Err(Error::invalid(
                            "features",
                            format!("\"name\" must be a string, found {other}"),
                        ));
                    }
                };
                let of = constraint::from_tagged(Value::Object(fields))
                    .map_err(|error| Error::invalid("features", error))?;
                let name = name.unwrap_or_else(|| of.kind().to_owned());
                Ok(Self { name, source: Source::Similarity(of) })
            }
            other => Err(Error::invalid("features", format!("found {other}, expected a name or an object"))),
        }
    }

    /// Returns the feature as data.
    pub(super) fn to_value(&self) -> Result<Value> {
        let Source::Similarity(of) = &self.source else { return Ok(json!(self.name)) };
        let mut value = of.to_tagged()?;
        if self.name != of.kind() {
            value["name"] = json!(self.name);
        }
        Ok(value)
    }

    /// Settles the underlying constraint; see [`Constraint::settle`].
    ///
    /// # Errors
    /// Fails with that constraint's errors.
    pub(super) fn settle(&mut self, priors: &Priors) -> Result<()> {
        match &mut self.source {
            Source::Similarity(of) => of.settle(priors),
            Source::LengthGap | Source::ScoreGap => Ok(()),
        }
    }

    /// Returns the feature's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the default direction of Δ*: more similar answers get tighter bounds, larger score gaps looser
    /// ones, and length gaps may act either way.
    pub(super) fn usual_direction(&self) -> Direction {
        match self.source {
            Source::LengthGap => Direction::Free,
            Source::ScoreGap => Direction::Increasing,
            Source::Similarity(_) => Direction::Decreasing,
        }
    }

    /// Computes the feature of every pair.
    ///
    /// # Errors
    /// Fails with the position of a pair without the needed data, and if a constraint has no similarity.
    pub(super) fn of_each(&self, pairs: &[PairView<'_>], priors: &Priors) -> Result<Vec<f64>> {
        let values = match &self.source {
            Source::LengthGap => pairs.iter().map(length_gap).collect(),
            Source::ScoreGap => {
                let margin =
                    |(at, pair): (usize, &PairView<'_>)| {
                        pair.margin.map(f64::from).ok_or_else(|| {
                            self.refuse_pair(at, &format!(
                            "pair {at} has no margin, expected a \"margin\" column, or columns of both \
                             answers' scores"
                        ))
                        })
                    };
                pairs.iter().enumerate().map(margin).collect::<Result<Vec<_>>>()?
            }
            Source::Similarity(of) => {
                let similarities = of.similarities(pairs, priors)?.ok_or_else(|| {
                    self.refuse(&format!("the constraint {:?} has no similarity of the answers", of.kind()))
                })?;
                similarities.into_iter().map(f64::from).collect()
            }
        };
        check(self, values, pairs.len())
    }

    fn refuse(&self, message: &str) -> Error {
        super::refused(format!("feature {:?}: {message}", self.name))
    }

    fn refuse_pair(&self, at: usize, message: &str) -> Error {
        match self.refuse(message) {
            Error::Plugin { what, name, message } => Error::Pair { what, name, at, message },
            other => other,
        }
    }
}

fn check(feature: &Feature, values: Vec<f64>, pairs: usize) -> Result<Vec<f64>> {
    if values.len() != pairs {
        return Err(feature.refuse(&format!("{} values for {pairs} pairs", values.len())));
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => {
            Err(feature.refuse_pair(at, &format!("pair {at} has {}, expected a finite number", values[at])))
        }
        None => Ok(values),
    }
}

fn length_gap(pair: &PairView<'_>) -> f64 {
    let [chosen, rejected] = [pair.chosen_ids, pair.rejected_ids].map(|ids| 1.0 + ids.len() as f64);
    (chosen / rejected).ln()
}
