//! Storage of trained weights: f32, or bf16 with compensated or stochastic rounding.

use std::fmt;
use std::str::FromStr;

use half::bf16;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::{HostData, HostTensor};
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
    /// The hash of the run's seed and the parameter's name.
    Stochastic(u64),
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
                Rounding::Stochastic(xxh3_64_with_seed(name.as_bytes(), seed))
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

    /// Returns the weight in f32. An f32 parameter returns its own storage, which may be updated in place.
    pub fn value(&self) -> Result<Tensor> {
        match &self.rounding {
            Rounding::None => Ok(self.param.clone()),
            Rounding::Kahan(rest) => self.param.cast(DType::F32)?.add(&rest.cast(DType::F32)?),
            Rounding::Stochastic(_) => self.param.cast(DType::F32),
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
            Rounding::Stochastic(own) => {
                let host = value.read()?.into_f32();
                let drawn =
                    host.iter().zip(0_u64..).map(|(value, at)| up_or_down(*value, bits(*own, step, at)));
                let host = HostTensor::new(self.param.shape(), HostData::BF16(drawn.collect()))?;
                self.param.assign(&self.param.constant(&host)?.cast(DType::BF16)?)
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
            Rounding::None | Rounding::Stochastic(_) => None,
        }
    }
}

/// Returns sixteen random bits for an element at a step (SplitMix64).
fn bits(own: u64, step: u64, at: u64) -> u32 {
    let mut x = own ^ step.wrapping_mul(0xD134_2543_DE82_EF95);
    x = x.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 48) as u32
}

/// Rounds to bf16: away from 0 if the sum of the dropped bits and the random bits overflows, else towards 0.
fn up_or_down(value: f32, random: u32) -> bf16 {
    match value.is_finite() {
        true => bf16::from_bits((value.to_bits().saturating_add(random) >> 16) as u16),
        false => bf16::from_f32(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: stochastic rounding is exact in the mean, keeps bf16 values, and never moves a finite number
    /// beyond its neighbours.
    #[test]
    fn rounding_at_random_is_exact_in_the_mean() {
        for value in [1.001_f32, -0.3, 3e-5, 100.7] {
            let draws = 20_000;
            let rounded = (0..draws).map(|at| up_or_down(value, bits(7, 3, at)).to_f32());
            let mean = rounded.map(f64::from).sum::<f64>() / draws as f64;
            let step = f64::from(value.abs()) / 128.0;
            assert!((mean - f64::from(value)).abs() < 0.02 * step, "{value}: {mean}");
        }
        for value in [0.0_f32, 1.0, -2.5] {
            assert!((0..100).all(|at| up_or_down(value, bits(7, 3, at)).to_f32() == value));
        }
        assert_ne!(bits(1, 2, 3), bits(1, 2, 4));
        assert_ne!(bits(1, 2, 3), bits(1, 3, 3));
    }
}
