//! Storage of trained weights: f32, or bf16 with compensated or stochastic rounding.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::kernels::RandomBits;
use crate::tensor::Tensor;

/// The type of trained weights. Vectors (norms, biases) and scoring heads are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightType {
    /// f32 masters.
    #[default]
    F32,
    /// bf16 with a second bf16 tensor for the rounding error of each update, which is added to the next
    /// update (Kahan summation; Zamirai et al., arXiv 2010.06192).
    Bf16Kahan,
    /// bf16 with stochastic rounding: up or down at random, so that the mean is exact. The random bits depend
    /// on the seed, the step, the parameter's name and the element's position.
    Bf16Stochastic,
}

impl WeightType {
    /// Returns the number of bytes per matrix element, including the kept rounding error.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 | Self::Bf16Kahan => 4,
            Self::Bf16Stochastic => 2,
        }
    }
}

impl FromStr for WeightType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16-kahan" => Ok(Self::Bf16Kahan),
            "bf16-stochastic" => Ok(Self::Bf16Stochastic),
            _ => {
                let message = format!("{text:?} is unknown; expected f32, bf16-kahan or bf16-stochastic");
                Err(Error::invalid("weights", message))
            }
        }
    }
}

impl fmt::Display for WeightType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16Kahan => "bf16-kahan",
            Self::Bf16Stochastic => "bf16-stochastic",
        })
    }
}

/// A trained parameter and the state of its rounding.
#[derive(Debug)]
pub(super) struct Held {
    param: Tensor,
    rounding: Rounding,
}

#[derive(Debug)]
enum Rounding {
    None,
    /// The rounding error of each weight, bf16.
    Kahan(Tensor),
    /// The hash of the run's seed and the parameter's name, and the position of the first element.
    Stochastic {
        own: u64,
        first: u64,
    },
}

impl Held {
    /// Wraps a parameter that is stored in the type `weights`.
    ///
    /// # Errors
    /// Fails if the parameter is neither f32 nor bf16 with a rounding in `weights`.
    pub fn new(name: &str, param: &Tensor, weights: WeightType, seed: u64) -> Result<Self> {
        let rounding = match (param.dtype(), weights) {
            (DType::F32, _) => Rounding::None,
            (DType::BF16, WeightType::Bf16Kahan) => {
                let zeros = HostTensor::f32(param.shape(), vec![0.0; param.size()])?;
                Rounding::Kahan(param.constant(&zeros)?.cast(DType::BF16)?)
            }
            (DType::BF16, WeightType::Bf16Stochastic) => {
                Rounding::Stochastic { own: xxh3_64_with_seed(name.as_bytes(), seed), first: 0 }
            }
            (dtype, _) => {
                let message = format!("has the type {dtype}; a trained parameter must be f32");
                return Err(Error::invalid(name, message));
            }
        };
        Ok(Self { param: param.detach(), rounding })
    }

    pub fn param(&self) -> &Tensor {
        &self.param
    }

    /// Returns a range of the flattened parameter, which shares its storage.
    pub fn part(&self, range: Range<usize>) -> Result<Self> {
        let rounding = match &self.rounding {
            Rounding::None => Rounding::None,
            Rounding::Kahan(rest) => Rounding::Kahan(flat(rest, range.clone())?),
            Rounding::Stochastic { own, first } => {
                Rounding::Stochastic { own: *own, first: first + range.start as u64 }
            }
        };
        Ok(Self { param: flat(&self.param, range)?, rounding })
    }

    /// Returns the weight in f32. An f32 parameter returns its own storage, which may be updated in place.
    pub fn value(&self) -> Result<Tensor> {
        match &self.rounding {
            Rounding::None => Ok(self.param.clone()),
            Rounding::Kahan(rest) => self.param.cast(DType::F32)?.add(&rest.cast(DType::F32)?),
            Rounding::Stochastic { .. } => self.param.cast(DType::F32),
        }
    }

    /// Stores the weight after step `step`; `value` is the updated result of [`Held::value`].
    pub fn set(&self, value: &Tensor, step: u64) -> Result<()> {
        match &self.rounding {
            Rounding::None => self.param.assign(value),
            Rounding::Kahan(rest) => {
                let rounded = value.cast(DType::BF16)?;
                rest.assign(&value.sub(&rounded.cast(DType::F32)?)?.cast(DType::BF16)?)?;
                self.param.assign(&rounded)
            }
            Rounding::Stochastic { own, first } => {
                let bits = RandomBits { own: *own, step, first: *first };
                value.kernels().round_at_random(value, &self.param, &bits)
            }
        }
    }

    /// Returns true if the weight is rounded to bf16, so that [`Held::value`] returns a copy.
    pub fn is_rounded(&self) -> bool {
        !matches!(self.rounding, Rounding::None)
    }

    /// Returns the rounding error that a checkpoint stores with the weight, if there is one.
    pub fn rest(&self) -> Option<&Tensor> {
        match &self.rounding {
            Rounding::Kahan(rest) => Some(rest),
            Rounding::None | Rounding::Stochastic { .. } => None,
        }
    }
}

/// Returns a range of a flattened tensor. Trained parameters are contiguous, so it shares the storage.
pub(super) fn flat(tensor: &Tensor, range: Range<usize>) -> Result<Tensor> {
    tensor.reshape([tensor.size()])?.narrow(0, range.start, range.len())
}
