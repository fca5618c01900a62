//! NF4: 4-bit codes of the quantiles of a normal distribution, in blocks of 64 (arXiv 2305.14314, §3).
//!
//! An element is divided by the largest magnitude of its block, and its code is the nearest of 16 values. Double
//! quantisation stores these magnitudes, less their mean, in 8 bits with the dynamic map of bitsandbytes.

use rayon::prelude::*;

use super::{HostMatrix, NESTED_BLOCK, Nested, Quantisation, Scales};
use crate::optim::dynamic::SIGNED;

/// The number of elements in a block.
pub(super) const BLOCK: usize = 64;

/// The values of the codes (appendix E of the paper), as bitsandbytes writes them.
#[allow(clippy::excessive_precision, reason = "the digits of the source")]
const VALUES: [f32; 16] = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
];

/// Returns the two values of every byte, given the values of 4-bit codes: first the high half's, then the low
/// half's.
pub fn pairs(values: &[f32; 16]) -> Vec<f32> {
    (0..256).flat_map(|byte| [values[byte >> 4], values[byte & 15]]).collect()
}

/// Quantises a matrix. All blocks but the last are multiplied by the reciprocal of their scale, as in
/// bitsandbytes, and a partial last block is divided by it.
pub(super) fn quantise(values: &[f32], shape: [usize; 2]) -> HostMatrix {
    let mut bounds = [0.0; 15];
    bounds.iter_mut().zip(VALUES.windows(2)).for_each(|(bound, pair)| *bound = (pair[0] + pair[1]) / 2.0);
    let mut codes = vec![0; values.len().div_ceil(2)];
    let mut scales = vec![0.0; values.len().div_ceil(BLOCK)];
    let blocks = codes.par_chunks_mut(BLOCK / 2).zip(&mut scales).zip(values.par_chunks(BLOCK));
    blocks.for_each(|((codes, scale), values)| *scale = pack(values, &bounds, codes));
    let (table, scales) = (pairs(&VALUES), Scales::Plain(scales));
    HostMatrix { method: Quantisation::Nf4, shape, codes, table, block: BLOCK, scales }
}

/// Encodes a block and returns its scale.
fn pack(values: &[f32], bounds: &[f32; 15], codes: &mut [u8]) -> f32 {
    let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let (divisor, factor) = match values.len() == BLOCK {
        true => (1.0, 1.0 / largest.max(1e-38)),
        false => (largest.max(1e-38), 1.0),
    };
    // A tie gives the lower code.
    let code = |value: f32| -> u8 {
        let share = (value * factor / divisor).clamp(-1.0, 1.0);
        bounds.iter().map(|bound| u8::from(*bound < share)).sum()
    };
    for (byte, pair) in codes.iter_mut().zip(values.chunks(2)) {
        // The absent second element of the last byte counts as 0.
        *byte = code(pair[0]) << 4 | code(pair.get(1).copied().unwrap_or(0.0));
    }
    largest
}

/// Quantises the scales of a matrix.
pub(super) fn nested(matrix: HostMatrix) -> HostMatrix {
    let Scales::Plain(scales) = matrix.scales else { return matrix };
    let offset = (scales.iter().copied().map(f64::from).sum::<f64>() / scales.len().max(1) as f64) as f32;
    let rest: Vec<f32> = scales.iter().map(|scale| scale - offset).collect();
    let mut codes = vec![0; rest.len()];
    let largest = rest
        .chunks(NESTED_BLOCK)
        .zip(codes.chunks_mut(NESTED_BLOCK))
        .map(|(rest, codes)| SIGNED.pack(rest, codes));
    let scales = largest.collect();
    let nested = Nested { codes, table: SIGNED.values().to_vec(), block: NESTED_BLOCK, scales, offset };
    HostMatrix { method: Quantisation::Nf4Double, scales: Scales::Nested(nested), ..matrix }
}
