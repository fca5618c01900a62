//! Named parameters and their gradients, sorted by name on every backend.

use std::collections::BTreeMap;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::quant::CodedMatrix;
use crate::tensor::Tensor;

/// Parameters by their name in the checkpoint, each trained or frozen.
///
/// A trained parameter gets a gradient and an optimiser state; training does not change a frozen one. Frozen
/// matrices may be quantised; these have no tensor of floats, and only the methods that name them see them.
#[derive(Debug, Clone, Default)]
pub struct Params {
    floats: BTreeMap<String, Param>,
    quantised: BTreeMap<String, CodedMatrix>,
}

#[derive(Debug, Clone)]
struct Param {
    tensor: Tensor,
    trained: bool,
}

impl Params {
    /// Adds or replaces a trained parameter.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.floats.insert(name.into(), Param { tensor, trained: true });
    }

    /// Adds or replaces a frozen parameter.
    pub fn insert_frozen(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.floats.insert(name.into(), Param { tensor, trained: false });
    }

    /// Adds or replaces a quantised matrix, which is frozen.
    pub fn insert_quantised(&mut self, name: impl Into<String>, matrix: CodedMatrix) {
        self.quantised.insert(name.into(), matrix);
    }

    /// Returns the quantised matrix of this name, or `None` if there is none.
    pub fn quantised(&self, name: &str) -> Option<&CodedMatrix> {
        self.quantised.get(name)
    }

    /// Returns whether there is a parameter of this name, quantised or not.
    pub fn holds(&self, name: &str) -> bool {
        self.contains(name) || self.quantised.contains_key(name)
    }

    /// Gives `other` a handle to the parameter of this name, if there is one.
    pub(crate) fn hand(&self, name: &str, other: &mut Self) {
        if let Some(param) = self.floats.get(name) {
            other.floats.insert(name.to_owned(), param.clone());
        }
        if let Some(matrix) = self.quantised.get(name) {
            other.quantised.insert(name.to_owned(), matrix.clone());
        }
    }

    /// Iterates over the quantised matrices, by name.
    pub fn iter_quantised(&self) -> impl Iterator<Item = (&str, &CodedMatrix)> {
        self.quantised.iter().map(|(name, matrix)| (name.as_str(), matrix))
    }

    /// Returns the parameter of this name.
    ///
    /// # Errors
    /// Fails if there is none, and if it is quantised.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        let missing = || match self.quantised.get(name) {
            Some(matrix) => Error::invalid(name, format!("is stored in {}, not as floats", matrix.method())),
            None => Error::invalid(name, "the model has no such parameter"),
        };
        self.find(name).ok_or_else(missing)
    }

    /// Returns the parameter of this name, or `None` if there is none.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.floats.get(name).map(|param| &param.tensor)
    }

    /// Returns whether there is a parameter of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.floats.contains_key(name)
    }

    /// Returns whether there is a parameter of this name and training changes it.
    pub fn is_trained(&self, name: &str) -> bool {
        self.floats.get(name).is_some_and(|param| param.trained)
    }

    /// Iterates over all parameters that are not quantised, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.floats.iter().map(|(name, param)| (name.as_str(), &param.tensor))
    }

    /// Iterates over the parameters that training changes, by name.
    pub fn iter_trained(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let trained = self.floats.iter().filter(|(_, param)| param.trained);
        trained.map(|(name, param)| (name.as_str(), &param.tensor))
    }

    /// Returns handles to the parameters that training changes.
    pub fn trained(&self) -> Self {
        let trained = self.floats.iter().filter(|(_, param)| param.trained);
        let floats = trained.map(|(name, param)| (name.clone(), param.clone())).collect();
        Self { floats, quantised: BTreeMap::new() }
    }

    /// Returns handles to the parameters that are not quantised and whose names satisfy a predicate.
    pub fn only(&self, names: impl Fn(&str) -> bool) -> Self {
        let named = self.floats.iter().filter(|(name, _)| names(name));
        let floats = named.map(|(name, param)| (name.clone(), param.clone())).collect();
        Self { floats, quantised: BTreeMap::new() }
    }

    /// Returns the number of elements of all parameters.
    pub fn elements(&self) -> usize {
        let quantised = self.quantised.values().map(|matrix| matrix.shape().iter().product::<usize>());
        self.floats.values().map(|param| param.tensor.size()).chain(quantised).sum()
    }

    /// Returns the same storage without history. An optimiser that updates these parameters in place changes
    /// the result too; [`Params::snapshot`] makes a copy.
    pub fn detached(&self) -> Self {
        self.map(|_, param| Param { tensor: param.tensor.detach(), ..*param })
    }

    /// Returns the same storage with the trained parameters as leaves that get gradients.
    pub fn variables(&self) -> Self {
        self.map(|_, param| match param.trained {
            true => Param { tensor: param.tensor.variable(), trained: true },
            false => Param { tensor: param.tensor.detach(), trained: false },
        })
    }

    /// Returns the same storage, with every parameter frozen except those that `trained` selects.
    pub fn training(&self, trained: impl Fn(&str) -> bool) -> Self {
        self.map(|name, param| Param { tensor: param.tensor.detach(), trained: trained(name) })
    }

    /// Returns a frozen copy, each parameter in the type that `dtype` gives by name and shape. Later updates
    /// of the original do not reach it.
    pub fn snapshot(&self, dtype: impl Fn(&str, &[usize]) -> DType) -> Result<Self> {
        let copy = |(name, param): (&String, &Param)| {
            let tensor = param.tensor.detach().copied(dtype(name, &param.tensor.shape()))?;
            Ok((name.clone(), Param { tensor, trained: false }))
        };
        let floats = self.floats.iter().map(copy).collect::<Result<_>>()?;
        Ok(Self { floats, quantised: self.quantised.clone() })
    }

    /// Returns frozen parameters, each in the type that `dtype` gives by name. Those that have it share their
    /// storage.
    pub fn cast(&self, dtype: impl Fn(&str, &Tensor) -> DType) -> Result<Self> {
        let cast = |(name, param): (&String, &Param)| {
            let tensor = param.tensor.detach().cast(dtype(name, &param.tensor))?;
            Ok((name.clone(), Param { tensor, trained: false }))
        };
        let floats = self.floats.iter().map(cast).collect::<Result<_>>()?;
        Ok(Self { floats, quantised: self.quantised.clone() })
    }

    fn map(&self, change: impl Fn(&str, &Param) -> Param) -> Self {
        let floats = self.floats.iter().map(|(name, param)| (name.clone(), change(name, param))).collect();
        Self { floats, quantised: self.quantised.clone() }
    }
}

/// Takes the gradient of the parameter of this name, which is complete.
pub type Ready<'a> = &'a mut dyn FnMut(&str, Tensor) -> Result<()>;

/// Gradients by parameter name.
#[derive(Debug, Clone, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// Adds or replaces a gradient.
    pub fn insert(&mut self, name: impl Into<String>, gradient: Tensor) {
        self.0.insert(name.into(), gradient);
    }

    /// Returns the gradient of this parameter.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).ok_or_else(|| Error::MissingGradient { names: vec![name.to_owned()] })
    }

    /// Iterates over all gradients, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Adds the gradients of another micro-batch.
    ///
    /// # Errors
    /// Fails if shapes differ.
    pub fn accumulate(&mut self, more: Gradients) -> Result<()> {
        for (name, gradient) in more.0 {
            let sum = self.take_sum(&name, gradient)?;
            self.0.insert(name, sum);
        }
        Ok(())
    }

    /// Takes out the gradient of this parameter and returns its sum with `more`, or `more` if there is none.
    ///
    /// # Errors
    /// Fails if shapes differ.
    pub fn take_sum(&mut self, name: &str, more: Tensor) -> Result<Tensor> {
        match self.0.remove(name) {
            Some(before) => before.add(&more),
            None => Ok(more),
        }
    }

    /// Returns √Σ g² over all gradients; not finite if any element is not.
    pub fn global_norm(&self) -> Result<f64> {
        let gradients: Vec<&Tensor> = self.0.values().collect();
        match gradients.first() {
            Some(first) => Ok(first.kernels().sum_of_squares(&gradients)?.sqrt()),
            None => Ok(0.0),
        }
    }
}
