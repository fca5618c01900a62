//! Layout of named parameters in one flat vector, which is cut into equal slices, one per process.
//!
//! Matrices come first and vectors after them, each ordered by name, and every parameter begins at a multiple
//! of [`ALIGNED`]. The vector is padded to whole [`CHUNK`]s, and every slice has the same number of chunks.
//! Slice boundaries, which depend on the number of processes, therefore split neither a chunk nor a vector
//! instruction, and results do not depend on them.

use std::ops::Range;

use crate::error::Result;
use crate::host::HostTensor;
use crate::params::Params;
use crate::tensor::Tensor;

/// The alignment of parameters in elements.
const ALIGNED: usize = 64;
/// The number of elements over which squares are summed before the sums of chunks are added.
pub(super) const CHUNK: usize = 4096;

/// The positions of parameters in a flat vector of f32.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    places: Vec<Place>,
    /// The number of elements of matrices, which come first.
    matrices: usize,
    /// The number of elements in a slice.
    slice: usize,
    /// The number of slices.
    slices: usize,
}

#[derive(Debug, Clone)]
struct Place {
    name: String,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl Layout {
    /// Creates the layout of the trained parameters for this number of slices.
    pub fn new(params: &Params, slices: usize) -> Self {
        let (mut places, mut end) = (Vec::new(), 0);
        let mut add = |matrices: bool| {
            for (name, param) in params.iter_trained() {
                let shape = param.shape();
                if super::decays(&shape) == matrices {
                    let range = end..end + param.size();
                    end = range.end.next_multiple_of(ALIGNED);
                    places.push(Place { name: name.to_owned(), shape, range });
                }
            }
            end
        };
        let (matrices, all) = (add(true), add(false));
        Self { places, matrices, slice: slice(all, slices), slices }
    }

    /// Returns the number of elements in a slice.
    pub fn slice(&self) -> usize {
        self.slice
    }

    /// Returns the names of the parameters in the order of the vector.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| place.name.as_str())
    }

    /// Returns the ranges of a slice that hold matrices or vectors, with true for matrices.
    pub fn runs(&self, slice: usize) -> Vec<(Range<usize>, bool)> {
        let (start, end) = (slice * self.slice, (slice + 1) * self.slice);
        let cut = self.matrices.clamp(start, end);
        let runs = [(0..cut - start, true), (cut - start..self.slice, false)];
        runs.into_iter().filter(|(run, _)| !run.is_empty()).collect()
    }

    /// Builds the whole vector from the tensors that `of` returns by name.
    pub fn flat(&self, of: impl Fn(&str) -> Result<Tensor>) -> Result<Tensor> {
        let mut parts = Vec::with_capacity(2 * self.places.len());
        let mut end = 0;
        for place in &self.places {
            let part = of(&place.name)?.detach();
            if end < place.range.start {
                parts.push(zeros(&part, place.range.start - end)?);
            }
            parts.push(part.reshape([place.range.len()])?);
            end = place.range.end;
        }
        if let Some(last) = parts.last().filter(|_| end < self.slice * self.slices) {
            parts.push(zeros(last, self.slice * self.slices - end)?);
        }
        Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
    }

    /// Calls `to` with every parameter's name and part of the vector, in the parameter's shape.
    pub fn each(&self, flat: &Tensor, mut to: impl FnMut(&str, Tensor) -> Result<()>) -> Result<()> {
        self.places.iter().try_for_each(|Place { name, shape, range }| {
            to(name, flat.narrow(0, range.start, range.len())?.reshape(shape)?)
        })
    }
}

/// Returns the number of elements in each slice of a vector.
fn slice(all: usize, slices: usize) -> usize {
    all.div_ceil(CHUNK).div_ceil(slices) * CHUNK
}

/// Returns the number of elements in each slice, given the sizes of the trained parameters.
pub fn slice_of(sizes: impl Iterator<Item = usize>, slices: usize) -> usize {
    slice(sizes.map(|size| size.next_multiple_of(ALIGNED)).sum(), slices)
}

/// Returns a vector of zeros on the device of another tensor.
pub(super) fn zeros(like: &Tensor, count: usize) -> Result<Tensor> {
    like.constant(&HostTensor::vector(vec![0.0; count]))
}
