//! The features of a pair that f reads: similarities of other constraints, the gap of lengths, the gap of scores.

use pcrm_core::constraint::{self, Constraint, Direction, PairView, Priors};
use pcrm_core::{Error, Result};
use serde_json::{Value, json};

/// One number of every pair.
///
/// As data: `"length_gap"` (ln((1 + chosen)/(1 + rejected)), lengths in tokens from the first one that differs),
/// `"score_gap"` (the margin in the data, in its own units, below 0 where the scores speak against the label), or a
/// constraint whose similarity it is, by name or as an object. `"name"` in such an object is what the feature is
/// called, the kind by default.
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

/// The default features, the last only where every pair has a margin.
///
/// Lengths are not among them: judges prefer longer answers more often than labels do, and bounds that grow with
/// `length_gap`, or fall with `length_ratio`, hand that preference on to the model (BENCHMARKS.md has figures).
pub(super) const USUAL: [&str; 3] = ["cosine", "edit", SCORE_GAP];

impl Feature {
    /// Returns the default features that these pairs have: [`USUAL`], without `score_gap` where a margin is missing.
    ///
    /// # Errors
    /// Fails where a constraint of that name is not linked into the binary.
    pub(super) fn usual(pairs: &[PairView<'_>]) -> Result<Vec<Self>> {
        let with_margins = pairs.iter().all(|pair| pair.margin.is_some());
        let there = USUAL.into_iter().filter(|name| with_margins || *name != SCORE_GAP);
        there.map(|name| Self::from_value(json!(name))).collect()
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is neither a feature's name nor a constraint.
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
                            format!("found {name:?}, expected {LENGTH_GAP}, {SCORE_GAP} or a constraint's name: {error}"),
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

    /// As data.
    pub(super) fn to_value(&self) -> Result<Value> {
        let Source::Similarity(of) = &self.source else { return Ok(json!(self.name)) };
        let mut value = of.to_tagged()?;
        if self.name != of.kind() {
            value["name"] = json!(self.name);
        }
        Ok(value)
    }

    /// What [`Constraint::settle`] does, for the constraint whose similarity it is.
    ///
    /// # Errors
    /// That constraint's.
    pub(super) fn settle(&mut self, priors: &Priors) -> Result<()> {
        match &mut self.source {
            Source::Similarity(of) => of.settle(priors),
            Source::LengthGap | Source::ScoreGap => Ok(()),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which way Δ* goes with it where nobody says: answers more alike get tighter bounds, larger gaps of scores looser
    /// ones, and which answer is longer may mean anything.
    pub(super) fn usual_direction(&self) -> Direction {
        match self.source {
            Source::LengthGap => Direction::Free,
            Source::ScoreGap => Direction::Increasing,
            Source::Similarity(_) => Direction::Decreasing,
        }
    }

    /// Its value for every pair.
    ///
    /// # Errors
    /// A pair that lacks what it needs, by position, and a constraint that has no similarity.
    pub(super) fn of_each(&self, pairs: &[PairView<'_>], priors: &Priors) -> Result<Vec<f64>> {
        let values = match &self.source {
            Source::LengthGap => pairs.iter().map(length_gap).collect(),
            Source::ScoreGap => {
                let margin = |(at, pair): (usize, &PairView<'_>)| {
                    pair.margin.map(f64::from).ok_or_else(|| {
                        self.refuse_pair(at, &format!(
                            "pair {at} has no margin, expected a \"margin\" column, or columns of both answers' scores"
                        ))
                    })
                };
                pairs.iter().enumerate().map(margin).collect::<Result<Vec<_>>>()?
            }
            Source::Similarity(of) => {
                let similarities = of.similarities(pairs, priors)?.ok_or_else(|| {
                    self.refuse(&format!("the constraint {:?} knows no similarity of the answers", of.kind()))
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
