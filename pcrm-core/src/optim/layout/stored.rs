//! A slice of the vector, read from stored tensors one at a time.

use std::ops::Range;

use super::{Layout, Piece};
use crate::error::Result;
use crate::host::HostTensor;
use crate::tensor::Tensor;

impl Layout {
    /// Builds a slice like [`Layout::slice`] from tensors in host memory. `of` returns one by name, of a given shape;
    /// it is called once for every parameter that the slice has a part of, and for no other.
    pub fn stored_slice(
        &self,
        slice: usize,
        like: &Tensor,
        of: impl Fn(&str, &[usize]) -> Result<HostTensor>,
    ) -> Result<Tensor> {
        let (mut parts, mut end) = (vec![Vec::<(usize, Range<usize>)>::new(); self.places.len()], 0);
        for piece in self.parts(slice).flat_map(|part| self.pieces(part)) {
            match piece {
                Piece::Of(place, range) => {
                    let start = end;
                    end += range.len();
                    parts[place].push((start, range));
                }
                Piece::Zeros(count) => end += count,
            }
        }
        let mut values = vec![0.0; end];
        for (place, parts) in self.places.iter().zip(parts).filter(|(_, parts)| !parts.is_empty()) {
            let whole = of(&place.name, &place.shape)?.into_f32();
            for (start, range) in parts {
                values[start..start + range.len()].copy_from_slice(&whole[range]);
            }
        }
        like.constant(&HostTensor::vector(values))
    }
}
