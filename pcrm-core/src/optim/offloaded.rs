//! Moments in host memory, which pass through the device in pieces.

use std::ops::Range;

use super::held::flat;
use crate::cuda::SLOTS;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::{HostData, HostTensor};
use crate::kernels::{Offloaded, Vectors};
use crate::memory;
use crate::tensor::Tensor;

/// The number of elements of a piece: a multiple of all blocks, large enough that copying a piece takes longer
/// than starting the copy, and small compared with the memory of a GPU, which holds a few pieces at once.
pub(super) const PIECE: usize = 1 << 22;

/// Returns the bytes of f32 moments in host memory that are on a GPU at once; `largest` is the number of elements of
/// the largest parameter.
pub fn passing_bytes(largest: u64) -> u64 {
    SLOTS as u64 * 8 * largest.min(PIECE as u64)
}

/// Returns the pieces of a parameter of this size.
pub(super) fn pieces(size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..size).step_by(PIECE).map(move |start| start..(start + PIECE).min(size))
}

/// The moments of several parameters, numbered from 0.
#[derive(Debug)]
pub(super) struct OffloadedMoments {
    parts: Vec<Part>,
    memory: Box<dyn Offloaded>,
}

/// A piece of a parameter.
#[derive(Debug)]
struct Part {
    slot: usize,
    range: Range<usize>,
    vectors: Vectors,
}

impl OffloadedMoments {
    /// Creates moments of zeros for parameters of these sizes on the device of `like`; `vectors` returns the
    /// types and lengths of the moments of a given number of elements.
    ///
    /// # Errors
    /// Fails if the host has too little memory.
    pub fn new(
        like: &Tensor,
        sizes: impl Iterator<Item = usize>,
        vectors: impl Fn(usize) -> Vectors,
    ) -> Result<Self> {
        let of = |(slot, size): (usize, usize)| pieces(size).map(move |range| (slot, range));
        let parts: Vec<Part> = sizes
            .enumerate()
            .flat_map(of)
            .map(|(slot, range)| Part { slot, vectors: vectors(range.len()), range })
            .collect();
        let all: Vec<Vectors> = parts.iter().map(|part| part.vectors.clone()).collect();
        memory::require(
            "the optimiser's moments in host memory",
            Some(all.iter().flatten().map(bytes).sum()),
        )?;
        Ok(Self { parts, memory: like.kernels().offload(like, &all)? })
    }

    /// Calls `update` with every piece: the parameter's number, its range of elements, and its moments on the device,
    /// which may change in place.
    ///
    /// # Errors
    /// Fails if the backend fails, and with the error of `update`.
    pub fn each(
        &mut self,
        mut update: impl FnMut(usize, Range<usize>, &[Tensor]) -> Result<()>,
    ) -> Result<()> {
        let Self { parts, memory } = self;
        memory.each(&mut |part, vectors| update(parts[part].slot, parts[part].range.clone(), vectors))
    }

    /// Returns the parts of a parameter with their first positions in the parameter's vector.
    fn of(&self, slot: usize, vector: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        let parts = self.parts.iter().enumerate().filter(move |(_, part)| part.slot == slot);
        parts.scan(0, move |end, (at, part)| {
            let start = *end;
            *end += part.vectors.get(vector)?.1;
            Some((at, start..*end))
        })
    }

    /// Returns one of the vectors of a parameter as floats.
    pub fn floats(&self, slot: usize, vector: usize) -> Result<Vec<f32>> {
        let mut all = Vec::new();
        for (part, _) in self.of(slot, vector) {
            all.extend(self.memory.read(part, vector)?.into_f32());
        }
        Ok(all)
    }

    /// Returns one of the vectors of a parameter as bytes.
    pub fn codes(&self, slot: usize, vector: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        for (part, _) in self.of(slot, vector) {
            match self.memory.read(part, vector)?.into_data() {
                HostData::U8(codes) => all.extend(codes),
                _ => return Err(Error::invalid("optimiser", "its moments are not codes")),
            }
        }
        Ok(all)
    }

    /// Overwrites one of the vectors of a parameter, which has the length of all its parts.
    pub fn put(&mut self, slot: usize, vector: usize, all: &HostData) -> Result<()> {
        let parts: Vec<_> = self.of(slot, vector).collect();
        for (part, range) in parts {
            let host = match all {
                HostData::F32(all) => HostTensor::vector(all[range].to_vec()),
                HostData::U8(all) => HostTensor::bytes(all[range].to_vec()),
                _ => return Err(Error::invalid("optimiser", "its moments are neither f32 nor codes")),
            };
            self.memory.write(part, vector, host)?;
        }
        Ok(())
    }
}

/// Returns the error of a piece without all of its moments.
pub(super) fn incomplete() -> Error {
    Error::invalid("optimiser", "a piece in host memory lacks a moment")
}

fn bytes((dtype, length): &(DType, usize)) -> u64 {
    let element = if *dtype == DType::U8 { 1 } else { 4 };
    element * *length as u64
}

/// Gradients by parameter; the last one used is flattened once for all its pieces.
#[derive(Debug, Default)]
pub(super) struct FlatGradient(Option<(usize, Tensor)>);

impl FlatGradient {
    /// Returns a range of a parameter's gradient, f32; `of` returns the gradient.
    pub fn part<'g>(
        &mut self,
        slot: usize,
        range: Range<usize>,
        of: impl FnOnce() -> Result<&'g Tensor>,
    ) -> Result<Tensor> {
        let whole = match self.0.take() {
            Some((last, whole)) if last == slot => whole,
            _ => {
                let gradient = of()?.detach();
                gradient.reshape([gradient.size()])?
            }
        };
        let part = flat(&whole, range)?.cast(DType::F32);
        self.0 = Some((slot, whole));
        part
    }
}
