//! The fitted model of f, in one of two forms.

use pcrm_core::constraint::Direction;
use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::boosted::{Boosted, TREES};
use super::likelihood::{loss, softplus};
use super::linear::{Input, Linear, PENALTIES};
use super::table::FitData;
use super::tree::Tree;
use crate::number::Number;

/// The form of f.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelForm {
    /// Linear in standardised features.
    #[default]
    Linear,
    /// A sum of small trees.
    Boosted,
}

/// A fitted f.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Model {
    /// The form `linear`.
    Linear(Linear),
    /// The form `boosted`.
    Boosted(Boosted),
}

/// The specification of a fit: the form, and the features' names and directions, in order.
#[derive(Debug, Clone)]
pub(super) struct FitSpec<'a> {
    pub form: ModelForm,
    pub names: Vec<&'a str>,
    pub directions: Vec<Direction>,
}

impl FitSpec<'_> {
    /// Fits to `rows` at each strength, from weak to strong, and returns the losses on each list of held-out
    /// rows.
    pub fn losses<const N: usize>(
        &self,
        table: &FitData,
        rows: &[usize],
        held_out: [&[usize]; N],
    ) -> [Vec<f64>; N] {
        match self.form {
            ModelForm::Linear => {
                let path = Linear::path(table, &self.names, &self.directions, rows);
                held_out.map(|rows| {
                    let of_row =
                        |model: &Linear, row: usize| loss(model.at(&table.row(row)), table.wins[row]);
                    path.iter().map(|model| rows.iter().map(|&row| of_row(model, row)).sum()).collect()
                })
            }
            ModelForm::Boosted => {
                let model = Boosted::fit(table, &self.names, &self.directions, rows, TREES);
                held_out.map(|rows| {
                    let mut losses = vec![0.0; TREES + 1];
                    for &row in rows {
                        let (x, win) = (table.row(row), table.wins[row]);
                        let mut f = model.intercept;
                        losses[0] += loss(f, win);
                        for (tree, total) in model.trees.iter().zip(&mut losses[1..]) {
                            f += tree.at(&x);
                            *total += loss(f, win);
                        }
                    }
                    losses
                })
            }
        }
    }

    /// Fits to `rows` at this strength.
    pub fn fit(&self, table: &FitData, rows: &[usize], strength: usize) -> Model {
        match self.form {
            ModelForm::Linear => {
                let mut path = Linear::path(table, &self.names, &self.directions, rows);
                Model::Linear(path.swap_remove(strength.min(PENALTIES.len() - 1)))
            }
            ModelForm::Boosted => {
                Model::Boosted(Boosted::fit(table, &self.names, &self.directions, rows, strength))
            }
        }
    }

    /// Parses a model of this shape.
    ///
    /// # Errors
    /// Fails on other features or fields, on non-finite numbers, and if a model contradicts a feature's
    /// direction.
    pub fn model(&self, value: &Value) -> Result<Model> {
        match self.form {
            ModelForm::Linear => self.linear(value).map(Model::Linear),
            ModelForm::Boosted => self.boosted(value).map(Model::Boosted),
        }
    }

    fn linear(&self, value: &Value) -> Result<Linear> {
        let fields = LinearFields::deserialize(value).map_err(|error| Error::invalid("linear", error))?;
        let names: Vec<&str> = fields.inputs.iter().map(|input| input.feature.as_str()).collect();
        self.check_names(&names)?;
        let inputs = fields.inputs.iter().zip(&self.directions).map(|(input, direction)| {
            let read = || -> Result<Input> {
                let weight = input.weight.finite("weight", 0.0)?;
                let std = input.std.finite("std", 1.0)?;
                let against = match direction {
                    Direction::Free => false,
                    Direction::Increasing => weight < 0.0,
                    Direction::Decreasing => weight > 0.0,
                };
                if against {
                    let direction = if weight < 0.0 { "increasing" } else { "decreasing" };
                    return Err(Error::invalid(
                        "weight",
                        format!("found {weight}, where the bound must be {direction}"),
                    ));
                }
                if std <= 0.0 {
                    return Err(Error::invalid("std", format!("found {std}, expected a number above 0")));
                }
                Ok(Input {
                    feature: input.feature.clone(),
                    mean: input.mean.finite("mean", 0.0)?,
                    std,
                    weight,
                })
            };
            read().map_err(|error| Error::invalid("inputs", format!("{}: {error}", input.feature)))
        });
        Ok(Linear {
            inputs: inputs.collect::<Result<_>>()?,
            penalty: fields.penalty.finite("penalty", 0.0)?,
            intercept: fields.intercept.finite("intercept", 0.0)?,
        })
    }

    fn boosted(&self, value: &Value) -> Result<Boosted> {
        let fields = BoostedFields::deserialize(value).map_err(|error| Error::invalid("boosted", error))?;
        self.check_names(&fields.inputs.iter().map(String::as_str).collect::<Vec<_>>())?;
        let tree = |(at, tree): (usize, &Value)| {
            Tree::from_value(tree, &self.directions)
                .map_err(|error| Error::invalid("trees", format!("tree {at}: {error}")))
        };
        Ok(Boosted {
            trees: fields.trees.iter().enumerate().map(tree).collect::<Result<_>>()?,
            intercept: fields.intercept.finite("intercept", 0.0)?,
            inputs: fields.inputs,
        })
    }

    fn check_names(&self, found: &[&str]) -> Result<()> {
        if found == self.names {
            return Ok(());
        }
        let message = format!(
            "fitted to {} features ({}), but the constraint has {} ({}); the fit is of other features",
            found.len(),
            found.join(", "),
            self.names.len(),
            self.names.join(", ")
        );
        Err(Error::invalid("inputs", message))
    }
}

impl Model {
    /// Computes f from a pair's features.
    pub fn at(&self, x: &[f64]) -> f64 {
        match self {
            Self::Linear(model) => model.at(x),
            Self::Boosted(model) => model.at(x),
        }
    }

    /// Computes Δ* = 2·softplus(f).
    pub fn bound(&self, x: &[f64]) -> f64 {
        2.0 * softplus(self.at(x))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinearFields {
    penalty: Number,
    intercept: Number,
    inputs: Vec<InputFields>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputFields {
    feature: String,
    mean: Number,
    std: Number,
    weight: Number,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BoostedFields {
    intercept: Number,
    inputs: Vec<String>,
    trees: Vec<Value>,
}
