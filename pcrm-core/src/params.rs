//! Named parameters and their gradients, in the order of their names on every backend.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Parameters by their name in the checkpoint.
#[derive(Debug, Clone, Default)]
pub struct Params(BTreeMap<String, Tensor>);

impl Params {
    /// Adds or replaces a parameter.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.0.insert(name.into(), tensor);
    }

    /// The parameter of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).ok_or_else(|| Error::invalid(name, "the model has no such parameter"))
    }

    /// Whether there is a parameter of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// All parameters, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The number of parameters, each counted with its elements.
    pub fn elements(&self) -> usize {
        self.0.values().map(Tensor::size).sum()
    }

    /// The same storage without history: what a frozen model computes with.
    pub fn detached(&self) -> Self {
        Self(self.0.iter().map(|(name, tensor)| (name.clone(), tensor.detach())).collect())
    }

    /// The same storage as leaves whose gradients are wanted.
    pub fn variables(&self) -> Self {
        Self(self.0.iter().map(|(name, tensor)| (name.clone(), tensor.variable())).collect())
    }
}

/// Gradients by parameter name.
#[derive(Debug, Clone, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// Adds or replaces a gradient.
    pub fn insert(&mut self, name: impl Into<String>, gradient: Tensor) {
        self.0.insert(name.into(), gradient);
    }

    /// The gradient of this parameter.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).ok_or_else(|| Error::MissingGradient { names: vec![name.to_owned()] })
    }

    /// All gradients, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Adds the gradients of another micro-batch.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn accumulate(&mut self, more: Gradients) -> Result<()> {
        for (name, gradient) in more.0 {
            let sum = match self.0.get(&name) {
                Some(before) => before.add(&gradient)?,
                None => gradient,
            };
            self.0.insert(name, sum);
        }
        Ok(())
    }

    /// √Σ g² over all gradients; not finite when any element is not.
    ///
    /// # Errors
    /// The backend's.
    pub fn global_norm(&self) -> Result<f64> {
        let gradients: Vec<&Tensor> = self.0.values().collect();
        let Some(first) = gradients.first() else { return Ok(0.0) };
        Ok(first.kernels().sum_of_all_squares(&gradients)?.sqrt())
    }
}
