//! Layers over resolved parameters: the linear maps, norms and embeddings of decoders and encoders.
//!
//! A layer looks up its parameters once, when the model is created. It casts f32 masters to the type of the
//! computation, once per forward pass; a parameter stored in that type is not cast.

use std::sync::Arc;

use crate::dtype::DType;
use crate::error::Result;
use crate::host::HostTensor;
use crate::model::family::NormKind;
use crate::model::lora::{Adapter, Adapters, Noise};
use crate::params::Params;
use crate::quant::CodedMatrix;
use crate::tensor::Tensor;

/// A parameter of a layer.
#[derive(Debug, Clone)]
pub(super) struct Weight {
    name: Arc<str>,
    tensor: Tensor,
}

impl Weight {
    pub fn new(name: &str, tensor: Tensor) -> Self {
        Self { name: name.into(), tensor }
    }

    /// Looks up a parameter.
    pub fn of(params: &Params, name: &str) -> Result<Self> {
        Ok(Self::new(name, params.get(name)?.clone()))
    }

    /// Looks up a parameter that a model may lack.
    pub fn find(params: &Params, name: &str) -> Option<Self> {
        params.find(name).map(|tensor| Self::new(name, tensor.clone()))
    }

    /// Returns the parameter of this name among `params`, or this one if there is none.
    pub fn over(&self, params: &Params) -> Self {
        let tensor = params.find(&self.name).unwrap_or(&self.tensor).clone();
        Self { name: Arc::clone(&self.name), tensor }
    }

    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    fn cast(&self, dtype: DType) -> Result<Tensor> {
        self.tensor.cast(dtype)
    }
}

/// The weight of a linear layer: floats, or a frozen quantised matrix.
#[derive(Debug, Clone)]
enum Matrix {
    Floats(Weight),
    Quantised(Box<CodedMatrix>),
}

impl Matrix {
    fn of(params: &Params, name: &str) -> Result<Self> {
        match params.quantised(name) {
            Some(matrix) => Ok(Self::Quantised(Box::new(matrix.clone()))),
            None => Weight::of(params, name).map(Self::Floats),
        }
    }

    fn over(&self, params: &Params) -> Self {
        match self {
            Self::Floats(weight) => Self::Floats(weight.over(params)),
            Self::Quantised(_) => self.clone(),
        }
    }

    fn floats(&self) -> Option<&Tensor> {
        match self {
            Self::Floats(weight) => Some(weight.tensor()),
            Self::Quantised(_) => None,
        }
    }

    fn linear(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match self {
            Self::Floats(weight) => x.kernels().linear(x, &weight.cast(x.dtype())?, bias),
            Self::Quantised(matrix) => matrix.linear(x, bias),
        }
    }
}

/// x·Wᵀ + b, plus an adapter's contribution: W `[out, in]`, b `[out]`.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    weight: Matrix,
    bias: Option<Weight>,
    adapter: Option<Adapter>,
}

impl Linear {
    pub fn new(weight: Weight, bias: Option<Weight>) -> Self {
        Self { weight: Matrix::Floats(weight), bias, adapter: None }
    }

    /// Looks up `NAME.weight` and, if the model has them, `NAME.bias` and an adapter.
    pub fn of(params: &Params, name: &str, adapters: Option<&Adapters>) -> Result<Self> {
        Ok(Self {
            weight: Matrix::of(params, &format!("{name}.weight"))?,
            bias: Weight::find(params, &format!("{name}.bias")),
            adapter: Adapter::find(params, name, adapters)?,
        })
    }

    pub fn over(&self, params: &Params) -> Self {
        Self {
            weight: self.weight.over(params),
            bias: self.bias.as_ref().map(|bias| bias.over(params)),
            adapter: self.adapter.as_ref().map(|adapter| adapter.over(params)),
        }
    }

    /// Adds the weights that want gradients, including those of the adapter.
    pub fn trained(&self, all: &mut Vec<Tensor>) {
        let own = self.weight.floats().into_iter().chain(self.bias.as_ref().map(Weight::tensor));
        let all_of_it = own.chain(self.adapter.iter().flat_map(Adapter::tensors));
        all.extend(all_of_it.filter(|tensor| tensor.has_history()).cloned());
    }

    /// Computes x `[rows, in]` → `[rows, out]`, in the type of x.
    pub fn forward(&self, x: &Tensor, noise: Noise<'_>) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(|bias| bias.cast(x.dtype())).transpose()?;
        let y = self.weight.linear(x, bias.as_ref())?;
        match &self.adapter {
            Some(adapter) => adapter.add(x, &y, noise),
            None => Ok(y),
        }
    }
}

/// A norm over the last dimension.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    kind: NormKind,
    eps: f64,
    weight: Weight,
    /// The bias, for layer norms only.
    bias: Option<Weight>,
}

impl Norm {
    /// Creates a layer norm with a bias.
    pub fn layer(weight: Weight, bias: Weight, eps: f64) -> Self {
        Self { kind: NormKind::Layer, eps, weight, bias: Some(bias) }
    }

    /// Creates a layer norm without a bias.
    pub fn unbiased(weight: Weight, eps: f64) -> Self {
        Self { kind: NormKind::LayerUnbiased, eps, weight, bias: None }
    }

    /// Looks up `NAME.weight` and, for a layer norm, `NAME.bias`.
    pub fn of(params: &Params, name: &str, kind: NormKind, eps: f64) -> Result<Self> {
        let weight = Weight::of(params, &format!("{name}.weight"))?;
        let bias = match kind {
            NormKind::Layer => Some(Weight::of(params, &format!("{name}.bias"))?),
            NormKind::Rms | NormKind::RmsAroundOne | NormKind::LayerUnbiased => None,
        };
        Ok(Self { kind, eps, weight, bias })
    }

    pub fn over(&self, params: &Params) -> Self {
        let bias = self.bias.as_ref().map(|bias| bias.over(params));
        Self { weight: self.weight.over(params), bias, ..*self }
    }

    /// Computes x + y, both `[rows, width]`, and its norm.
    pub fn forward_sum(&self, x: &Tensor, y: &Tensor) -> Result<[Tensor; 2]> {
        match self.kind {
            NormKind::Rms | NormKind::RmsAroundOne => {
                x.kernels().add_rms_norm(x, y, &self.effective_weight(x.dtype())?, self.eps)
            }
            NormKind::Layer | NormKind::LayerUnbiased => {
                let sum = x.add(y)?;
                let normed = self.forward(&sum)?;
                Ok([sum, normed])
            }
        }
    }

    fn effective_weight(&self, dtype: DType) -> Result<Tensor> {
        match self.kind {
            NormKind::RmsAroundOne => self.weight.tensor.affine(1.0, 1.0)?.cast(dtype),
            NormKind::Rms | NormKind::Layer | NormKind::LayerUnbiased => self.weight.cast(dtype),
        }
    }

    /// Computes x `[rows, width]` → `[rows, width]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let weight = self.effective_weight(x.dtype())?;
        match (&self.bias, self.kind) {
            (Some(bias), _) => x.kernels().layer_norm(x, &weight, &bias.cast(x.dtype())?, self.eps),
            (None, NormKind::LayerUnbiased) => {
                let width = self.weight.tensor.size();
                let zeros = x.constant(&HostTensor::f32([width], vec![0.0; width])?)?.cast(x.dtype())?;
                x.kernels().layer_norm(x, &weight, &zeros, self.eps)
            }
            (None, _) => x.kernels().rms_norm(x, &weight, self.eps),
        }
    }
}

/// A table with one row per id, `[ids, width]`.
#[derive(Debug, Clone)]
pub(super) struct Embedding {
    table: Weight,
}

impl Embedding {
    pub fn new(table: Weight) -> Self {
        Self { table }
    }

    pub fn over(&self, params: &Params) -> Self {
        Self::new(self.table.over(params))
    }

    pub fn table(&self) -> &Tensor {
        self.table.tensor()
    }

    /// Returns the name of the table.
    pub fn name(&self) -> &str {
        &self.table.name
    }

    /// Returns the rows of these ids, `[ids, width]`, in the type of the table.
    pub fn forward(&self, ids: Vec<u32>) -> Result<Tensor> {
        let table = self.table.tensor();
        table.kernels().embedding(table, &table.constant(&HostTensor::indices(ids))?)
    }
}
