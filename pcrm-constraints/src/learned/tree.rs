//! A small tree of splits, as data: a number is a leaf, an object a split.

use pcrm_core::constraint::Direction;
use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::number::Number;

/// A function that is constant in boxes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Tree {
    /// This value.
    Leaf(f64),
    /// One of two trees.
    Split(Box<Split>),
}

/// Two trees, and how one tells which.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Split {
    /// Which feature, from 0.
    pub feature: usize,
    /// Where it is parted.
    pub at: f64,
    /// Where the feature is below that.
    pub below: Tree,
    /// Where it is not.
    pub above: Tree,
}

impl Tree {
    /// Its value at these features.
    pub fn at(&self, x: &[f64]) -> f64 {
        match self {
            Self::Leaf(value) => *value,
            Self::Split(split) if x[split.feature] < split.at => split.below.at(x),
            Self::Split(split) => split.above.at(x),
        }
    }

    /// The tree with all values multiplied by a positive number.
    pub(super) fn scaled(self, by: f64) -> Self {
        match self {
            Self::Leaf(value) => Self::Leaf(value * by),
            Self::Split(split) => Self::Split(Box::new(Split {
                below: split.below.scaled(by),
                above: split.above.scaled(by),
                ..*split
            })),
        }
    }

    /// Reads a tree over so many features that keeps to their directions.
    ///
    /// # Errors
    /// Numbers that are not finite, features that there are not, and splits against their feature's direction.
    pub(super) fn from_value(value: &Value, directions: &[Direction]) -> Result<Self> {
        if !value.is_object() {
            return Ok(Self::Leaf(Number::from(value.clone()).finite("trees", 0.0)?));
        }
        let fields = Fields::deserialize(value).map_err(|error| Error::invalid("trees", error))?;
        let count = directions.len() as u64;
        let feature = match fields.feature.whole("feature", count)? {
            feature if feature < count => feature as usize,
            feature => {
                return Err(Error::invalid(
                    "feature",
                    format!("found {feature}, expected less than {count}"),
                ));
            }
        };
        let split = Split {
            feature,
            at: fields.at.finite("at", f64::NAN)?,
            below: Self::from_value(&fields.below, directions)?,
            above: Self::from_value(&fields.above, directions)?,
        };
        let ([low, high], [lowest, highest]) = (split.below.ends(), split.above.ends());
        let in_order = match directions[feature] {
            Direction::Free => true,
            Direction::Increasing => high <= lowest,
            Direction::Decreasing => highest <= low,
        };
        if !in_order {
            return Err(Error::invalid(
                "trees",
                format!("a split of feature {feature} goes against its direction"),
            ));
        }
        Ok(Self::Split(Box::new(split)))
    }

    /// The least and the largest value.
    fn ends(&self) -> [f64; 2] {
        match self {
            Self::Leaf(value) => [*value; 2],
            Self::Split(split) => {
                let ([a, b], [c, d]) = (split.below.ends(), split.above.ends());
                [a.min(c), b.max(d)]
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    feature: Number,
    at: Number,
    below: Value,
    above: Value,
}
