//! Layout of named parameters in one flat vector, whose chunks are dealt to slices, one slice per process.
//!
//! Matrices come first and vectors after them, each ordered by name, and every parameter begins at a multiple
//! of [`ALIGNED`]. The vector is padded to whole [`CHUNK`]s. Chunks are exchanged in the order of `order.rs`, in
//! buckets of consecutive ones; a slice is an equal part of every bucket. Buckets and slices therefore split
//! neither a chunk nor a vector instruction, and results do not depend on where they end.

mod order;
mod stored;

use std::collections::HashMap;
use std::ops::Range;

use self::order::exchanged;
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
    /// The places of names.
    named: HashMap<String, usize>,
    /// The number of elements of matrices, which come first.
    matrices: usize,
    /// The number of slices.
    slices: usize,
    /// The numbers of the vector's chunks in the order of exchange.
    order: Vec<usize>,
    /// The position of every chunk in the concatenation of all slices.
    gathered: Vec<usize>,
    buckets: Vec<Bucket>,
}

/// The range of one parameter.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub name: String,
    shape: Vec<usize>,
    range: Range<usize>,
    /// The buckets that hold a part of it, in order.
    pub buckets: Vec<usize>,
}

/// Chunks that are exchanged at once.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    /// Their positions in the order of exchange; each slice has an equal part of them.
    pub positions: Range<usize>,
    /// The places that they hold a part of.
    pub places: Vec<usize>,
}

/// A part of a bucket or of a slice.
enum Piece {
    /// A range of the parameter at a place.
    Of(usize, Range<usize>),
    /// Padding.
    Zeros(usize),
}

impl Layout {
    /// Creates the layout of the trained parameters for this number of slices. A bucket has at most `bytes`
    /// bytes, but at least a chunk of every slice; a single slice has one bucket.
    pub fn new(params: &Params, slices: usize, bytes: usize) -> Self {
        let shapes: Vec<_> = params.iter_trained().map(|(name, param)| (name, param.shape())).collect();
        Self::of(&shapes, slices, bytes)
    }

    fn of(shapes: &[(&str, Vec<usize>)], slices: usize, bytes: usize) -> Self {
        let (mut places, mut end) = (Vec::new(), 0);
        let mut place = |matrices: bool| {
            for (name, shape) in shapes.iter().filter(|(_, shape)| super::decays(shape) == matrices) {
                let range = end..end + shape.iter().product::<usize>();
                end = range.end.next_multiple_of(ALIGNED);
                places.push(Place {
                    name: (*name).to_owned(),
                    shape: shape.clone(),
                    range,
                    buckets: Vec::new(),
                });
            }
            end
        };
        let (matrices, all) = (place(true), place(false));
        let each = slice(all, slices) / CHUNK;
        let chunks = each * slices;
        let (order, most) = match slices {
            1 => ((0..chunks).collect(), chunks.max(1)),
            _ => (exchanged(&places, chunks), (bytes / (4 * CHUNK) / slices).max(1) * slices),
        };
        let named = places.iter().enumerate().map(|(at, place)| (place.name.clone(), at)).collect();
        let (gathered, buckets) = (vec![0; chunks], Vec::new());
        let mut made = Self { places, named, matrices, slices, order, gathered, buckets };
        for start in (0..chunks).step_by(most) {
            let positions = start..(start + most).min(chunks);
            let part = positions.len() / slices;
            for (at, chunk) in made.order[positions.clone()].iter().enumerate() {
                made.gathered[*chunk] = at / part * each + start / slices + at % part;
            }
            let mut places: Vec<usize> =
                made.pieces(positions.clone()).iter().filter_map(Piece::place).collect();
            places.sort_unstable();
            places.dedup();
            places.iter().for_each(|at| made.places[*at].buckets.push(made.buckets.len()));
            made.buckets.push(Bucket { positions, places });
        }
        made
    }

    /// Returns the places of all parameters, in the order of the vector.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Returns the place of a parameter, or `None` if the layout does not have it.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.named.get(name).copied()
    }

    /// Returns the buckets in the order of their exchange.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Returns the position of every chunk of the vector in the concatenation of all slices.
    pub fn gathered(&self) -> &[usize] {
        &self.gathered
    }

    /// Returns the number of elements in a slice.
    pub fn size(&self) -> usize {
        self.gathered.len() / self.slices * CHUNK
    }

    /// Returns the positions of a slice in the order of exchange: a part of each bucket.
    fn parts(&self, slice: usize) -> impl Iterator<Item = Range<usize>> {
        self.buckets.iter().map(move |Bucket { positions, .. }| {
            let part = positions.len() / self.slices;
            let start = positions.start + slice * part;
            start..start + part
        })
    }

    /// Returns the ranges of the vector at these positions of the order of exchange.
    fn ranges(&self, positions: Range<usize>) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for chunk in &self.order[positions] {
            add(&mut found, chunk * CHUNK..(chunk + 1) * CHUNK);
        }
        found
    }

    /// Returns the pieces of the vector at these positions of the order of exchange.
    fn pieces(&self, positions: Range<usize>) -> Vec<Piece> {
        let mut found = Vec::new();
        for range in self.ranges(positions) {
            let mut end = range.start;
            let first = self.places.partition_point(|place| place.range.end <= range.start);
            for (at, place) in self.places.iter().enumerate().skip(first) {
                let (from, until) = (place.range.start.max(end), place.range.end.min(range.end));
                if from >= range.end {
                    break;
                }
                if end < from {
                    found.push(Piece::Zeros(from - end));
                }
                found.push(Piece::Of(at, from - place.range.start..until - place.range.start));
                end = until;
            }
            if end < range.end {
                found.push(Piece::Zeros(range.end - end));
            }
        }
        found
    }

    /// Builds the part of the vector at these positions of the order of exchange. `of` returns the elements
    /// of the parameter at a place; `like` is any tensor on the same device.
    pub fn part(
        &self,
        positions: Range<usize>,
        like: &Tensor,
        of: impl Fn(usize) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let piece = |piece: Piece| match piece {
            Piece::Of(place, range) => of(place)?.narrow(0, range.start, range.len()),
            Piece::Zeros(count) => zeros(like, count),
        };
        let parts = self.pieces(positions).into_iter().map(piece).collect::<Result<Vec<_>>>()?;
        Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
    }

    /// Builds a slice from the tensors that `of` returns by name.
    pub fn slice(&self, slice: usize, like: &Tensor, of: impl Fn(&str) -> Result<Tensor>) -> Result<Tensor> {
        let of = |place: &Place| of(&place.name)?.detach().reshape([place.size()]);
        let all = self.places.iter().map(of).collect::<Result<Vec<_>>>()?;
        let parts = self.parts(slice).map(|part| self.part(part, like, |at| Ok(all[at].clone())));
        let parts = parts.collect::<Result<Vec<_>>>()?;
        Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
    }

    /// Returns the ranges of a slice that hold matrices or vectors, with true for matrices.
    pub fn runs(&self, slice: usize) -> Vec<(Range<usize>, bool)> {
        let mut runs: Vec<(Range<usize>, bool)> = Vec::new();
        for range in self.parts(slice).flat_map(|part| self.ranges(part)) {
            let cut = self.matrices.clamp(range.start, range.end);
            for (length, matrices) in [(cut - range.start, true), (range.end - cut, false)] {
                let end = runs.last().map_or(0, |(run, _)| run.end);
                match runs.last_mut().filter(|(_, last)| *last == matrices) {
                    _ if length == 0 => {}
                    Some((run, _)) => run.end += length,
                    None => runs.push((end..end + length, matrices)),
                }
            }
        }
        runs
    }

    /// Calls `to` with every parameter's name and value, in the parameter's shape, given the concatenation of
    /// all slices.
    pub fn each(&self, gathered: &Tensor, mut to: impl FnMut(&str, Tensor) -> Result<()>) -> Result<()> {
        self.places.iter().try_for_each(|Place { name, shape, range, .. }| {
            let (mut found, mut from) = (Vec::new(), range.start);
            while from < range.end {
                let until = (from / CHUNK * CHUNK + CHUNK).min(range.end);
                let start = self.gathered[from / CHUNK] * CHUNK + from % CHUNK;
                add(&mut found, start..start + until - from);
                from = until;
            }
            let parts = found.into_iter().map(|part| gathered.narrow(0, part.start, part.len()));
            let parts = parts.collect::<Result<Vec<_>>>()?;
            to(name, Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?.reshape(shape)?)
        })
    }
}

impl Place {
    /// Returns the parameter's number of elements.
    pub fn size(&self) -> usize {
        self.range.len()
    }
}

impl Bucket {
    /// Returns the number of elements.
    pub fn size(&self) -> usize {
        self.positions.len() * CHUNK
    }
}

impl Piece {
    fn place(&self) -> Option<usize> {
        match self {
            Self::Of(place, _) => Some(*place),
            Self::Zeros(_) => None,
        }
    }
}

/// Adds a range to ranges, as a continuation of the last one if it begins where that ends.
fn add(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    match ranges.last_mut().filter(|last| last.end == range.start) {
        Some(last) => last.end = range.end,
        None => ranges.push(range),
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

#[cfg(test)]
mod tests;
