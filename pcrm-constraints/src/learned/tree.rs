//! A small decision tree, as data: a number is a leaf, an object a split.

use pcrm_core::constraint::Direction;
use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::number::Number;

/// A piecewise constant function.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Tree {
    /// A constant.
    Leaf(f64),
    /// A choice between two trees.
    Split(Box<Split>),
}

/// Two trees and the condition that selects one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Split {
    /// The index of the feature.
    pub feature: usize,
    /// The threshold.
    pub at: f64,
    /// The tree for values below the threshold.
    pub below: Tree,
    /// The tree for all other values.
    pub above: Tree,
}

impl Tree {
    /// Returns the value at these features.
    pub fn at(&self, x: &[f64]) -> f64 {
        match self {
            Self::Leaf(value) => *value,
            Self::Split(split) if x[split.feature] < split.at => split.below.at(x),
            Self::Split(split) => split.above.at(x),
        }
    }

    /// Returns the tree with all values multiplied by a positive number.
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

    /// Parses a tree over features with these directions.
    ///
    /// # Errors
    /// Fails on non-finite numbers, on indices of unknown features, and on splits against a feature's
    /// direction.
    pub(super) fn from_value(value: &Value, directions: &[Direction]) -> Result<Self> {
        if !value.is_object() {
            return Ok(Self::Leaf(Number::from(value.clone()).finite("trees", 0.0)?));
        }
        let fields = TreeFields::deserialize(value).map_err(|error| Error::invalid("trees", error))?;
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

    /// Returns the smallest and the largest value.
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
struct TreeFields {
    feature: Number,
    at: Number,
    below: Value,
    above: Value,
}
