//! A parameter with 8-bit moments on a device: the operands of [`super::Kernels::adamw_8bit`].

use std::ops::Range;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::{HostData, HostTensor};
use crate::optim::dynamic::{BLOCK, Moment};
use crate::tensor::Tensor;

/// A moment in 8 bits on a device.
#[derive(Debug, Clone)]
pub struct QuantisedMoment {
    /// The code of every element, u8 `[elements]`.
    pub codes: Tensor,
    /// The largest magnitude of every block of [`BLOCK`] elements, f32 `[blocks]`.
    pub largest: Tensor,
}

impl QuantisedMoment {
    /// Uploads a moment to the device of `like`.
    ///
    /// # Errors
    /// Fails if the backend fails.
    pub fn upload(moment: Moment, like: &Tensor) -> Result<Self> {
        Ok(Self {
            codes: like.constant(&HostTensor::bytes(moment.codes))?,
            largest: like.constant(&HostTensor::vector(moment.largest))?,
        })
    }

    /// Reads the moment.
    ///
    /// # Errors
    /// Fails if the backend fails.
    pub fn read(&self) -> Result<Moment> {
        let HostData::U8(codes) = self.codes.read()?.into_data() else {
            return Err(Error::DType { op: "adamw_8bit", found: self.codes.dtype(), expected: "u8 codes" });
        };
        Ok(Moment { codes, largest: self.largest.read()?.into_f32() })
    }

    /// Overwrites the moment.
    ///
    /// # Errors
    /// Fails if the sizes differ.
    pub fn assign(&self, moment: Moment) -> Result<()> {
        let new = Self::upload(moment, &self.largest)?;
        self.codes.assign(&new.codes)?;
        self.largest.assign(&new.largest)
    }

    /// Returns a range of the elements, which begins with a block. It shares the storage.
    ///
    /// # Errors
    /// Fails if the range is not inside the moment.
    pub fn part(&self, range: Range<usize>) -> Result<Self> {
        let blocks = range.start / BLOCK..range.end.div_ceil(BLOCK);
        Ok(Self {
            codes: self.codes.narrow(0, range.start, range.len())?,
            largest: self.largest.narrow(0, blocks.start, blocks.len())?,
        })
    }
}

/// A parameter and its 8-bit moments, updated in place.
#[derive(Debug, Clone)]
pub struct QuantisedSlots {
    /// The parameter θ, f32.
    pub param: Tensor,
    /// First moment m, coded by the signed map.
    pub mean: QuantisedMoment,
    /// Second moment v, coded by the unsigned map.
    pub variance: QuantisedMoment,
    /// Both maps, f32 `[4, 256]`, of [`crate::optim::dynamic::maps`].
    pub maps: Tensor,
}

impl QuantisedSlots {
    /// Checks shapes and types against a gradient.
    ///
    /// # Errors
    /// Fails if they do not match.
    pub fn check(&self, gradient: &Tensor) -> Result<()> {
        const OP: &str = "adamw_8bit";
        let (shape, elements) = (self.param.shape(), self.param.size());
        let fits = |moment: &QuantisedMoment| {
            moment.codes.shape() == [elements] && moment.largest.shape() == [elements.div_ceil(BLOCK)]
        };
        let fit = fits(&self.mean) && fits(&self.variance) && self.maps.shape() == [4, 256];
        if !fit || gradient.shape() != shape {
            let message = format!("expected a code for each of {elements} elements and a number per block");
            let (codes, largest) = (self.mean.codes.shape(), self.mean.largest.shape());
            return Err(Error::shape(OP, message, &[&shape, &gradient.shape(), &codes, &largest]));
        }
        let floats = [&self.param, gradient, &self.mean.largest, &self.variance.largest, &self.maps];
        let codes = [&self.mean.codes, &self.variance.codes];
        let other = |wanted: DType| move |tensor: &&&Tensor| tensor.dtype() != wanted;
        let found = floats.iter().find(other(DType::F32)).or_else(|| codes.iter().find(other(DType::U8)));
        match found {
            Some(found) => {
                Err(Error::DType { op: OP, found: found.dtype(), expected: "u8 codes, and f32 otherwise" })
            }
            None => Ok(()),
        }
    }
}
