//! The storage of a model's parameters on their device.

use super::pool::WeightPool;
use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::model::adoption::Stored;
use crate::model::parameters::{Parameter, SCORE, VALUE};
use crate::optim::WeightType;
use crate::params::Params;
use crate::quant::{CodedMatrix, HostMatrix, Quantisation};

/// The storage type of a model's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Trained f32 masters, cast if the model computes in another type.
    #[default]
    Masters,
    /// Trained parameters. Matrices are bf16 and rounded by the optimiser
    /// ([`WeightType`]); vectors and scalar heads are f32.
    Rounded,
    /// Frozen parameters. Matrices have the type of the computation; vectors and scalar heads, which are
    /// small but matter most, are f32.
    Compute,
}

/// The storage of the weights of a body's linear layers. Embeddings, norms, biases, routers and heads are
/// always floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinearStorage {
    /// Floats, or for a frozen model the quantised matrices of a bitsandbytes checkpoint. A quantised
    /// checkpoint is refused if the model is trained in full.
    #[default]
    AsStored,
    /// As in the files, under adapters: a quantised checkpoint stays quantised and is never refused.
    Kept,
    /// Quantised on loading, for a frozen model. A quantised checkpoint is kept as it is.
    Quantised(Quantisation),
    /// Floats; a quantised checkpoint is dequantised.
    Floats,
}

/// The device and the types of a model's parameters.
#[derive(Clone, Copy)]
pub struct Loading<'a> {
    /// The device.
    pub backend: &'a dyn Backend,
    /// The type of the computation.
    pub compute: DType,
    /// The storage type.
    pub precision: Precision,
    /// The storage of the body's linear weights.
    pub linear: LinearStorage,
    /// Frozen weights to use instead of another copy of the same.
    pub pool: Option<&'a WeightPool>,
}

impl<'a> Loading<'a> {
    /// Returns the options for f32 masters, for training.
    pub fn masters(backend: &'a dyn Backend, compute: DType) -> Self {
        Self::new(backend, compute, Precision::Masters)
    }

    /// Returns the options for trained weights that an optimiser with this weight type updates.
    pub fn trained(backend: &'a dyn Backend, compute: DType, weights: WeightType) -> Self {
        let precision = match weights {
            WeightType::F32 => Precision::Masters,
            WeightType::Bf16Kahan | WeightType::Bf16Stochastic => Precision::Rounded,
        };
        Self::new(backend, compute, precision)
    }

    /// Returns the options for a frozen model, stored in the type that it computes in.
    pub fn frozen(backend: &'a dyn Backend, compute: DType) -> Self {
        Self::new(backend, compute, Precision::Compute)
    }

    fn new(backend: &'a dyn Backend, compute: DType, precision: Precision) -> Self {
        Self { backend, compute, precision, linear: LinearStorage::AsStored, pool: None }
    }

    /// Shares frozen weights with other models of a pool; `None` changes nothing.
    pub fn sharing(self, pool: Option<&'a WeightPool>) -> Self {
        Self { pool: pool.or(self.pool), ..self }
    }

    /// Quantises the linear weights of the body, which are then frozen; `None` changes nothing.
    pub fn quantised(self, method: Option<Quantisation>) -> Self {
        let linear = method.map_or(self.linear, LinearStorage::Quantised);
        Self { linear, ..self }
    }

    /// Dequantises the weights of a quantised checkpoint.
    pub fn dequantised(self) -> Self {
        Self { linear: LinearStorage::Floats, ..self }
    }

    /// Returns the options for a base under adapters, which is frozen.
    pub(in crate::model) fn beneath(self) -> Self {
        let linear = match self.linear {
            LinearStorage::AsStored => LinearStorage::Kept,
            other => other,
        };
        Self { linear, precision: Precision::Compute, ..self }
    }

    /// Returns the quantisation of a parameter on loading, if there is one.
    pub(super) fn method(&self, parameter: &Parameter) -> Option<Quantisation> {
        match self.linear {
            LinearStorage::Quantised(method) if parameter.linear => Some(method),
            _ => None,
        }
    }

    /// Uploads a parameter, quantised if it is to be.
    pub(super) fn put_stored(
        &self,
        params: &mut Params,
        parameter: &Parameter,
        stored: Stored,
    ) -> Result<()> {
        let name = &parameter.name;
        let matrix = match (stored, self.method(parameter)) {
            (Stored::Floats(host), None) => return self.put(params, name, &host),
            (Stored::Quantised(matrix), _) if !parameter.linear || self.linear == LinearStorage::Floats => {
                return self.put(params, name, &HostTensor::f32(matrix.shape, matrix.decoded()?)?);
            }
            (Stored::Floats(host), Some(method)) => {
                method.quantise(&host).map_err(|error| Error::invalid(name, error))?
            }
            (Stored::Quantised(matrix), _) => matrix,
        };
        params.insert_quantised(name, self.upload(matrix)?);
        Ok(())
    }

    fn upload(&self, matrix: HostMatrix) -> Result<CodedMatrix> {
        CodedMatrix::new(matrix, |host| self.backend.upload(host, host.dtype()))
    }

    /// Uploads a parameter.
    pub(in crate::model) fn put(&self, params: &mut Params, name: &str, host: &HostTensor) -> Result<()> {
        match self.precision {
            Precision::Masters => params.insert(name, self.backend.upload(host, DType::F32)?),
            Precision::Rounded => {
                let dtype = held(name, host.shape(), DType::BF16);
                // Uploaded as f32 and cast, because candle on a CPU uploads only f32.
                params.insert(name, self.backend.upload(host, DType::F32)?.cast(dtype)?);
            }
            Precision::Compute => {
                let dtype = held(name, host.shape(), self.compute);
                params.insert_frozen(name, self.backend.upload(host, dtype)?);
            }
        }
        Ok(())
    }
}

/// Returns the storage type of a frozen parameter for a model that computes in `compute`.
pub(in crate::model) fn held(name: &str, shape: &[usize], compute: DType) -> DType {
    if shape.len() < 2 || name == SCORE || name == VALUE { DType::F32 } else { compute }
}
