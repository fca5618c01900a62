//! Decoding of floats that are stored as bytes; see [`crate::kernels::Coded`].

use multiversion::multiversion;

use super::Spread;
use crate::error::Result;

/// The approximate number of values that a thread decodes at once.
const PIECE: usize = 64 * 1024;

/// A table of 256 codes with one or several values each.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// The values of code 0, of code 1, and so on.
    pub values: &'a [f32],
    /// The number of values per code.
    pub each: usize,
}

/// Decodes the first `out.len()` values of `codes`: each is the table's, times the scale of its block.
///
/// # Errors
/// Fails with the errors of `spread`.
pub fn dequantise(
    spread: &impl Spread,
    codes: &[u8],
    table: Table<'_>,
    scales: &[f32],
    block: usize,
    out: &mut [f32],
) -> Result<()> {
    let blocks = (PIECE / block).max(1);
    let pieces: Vec<_> = out
        .chunks_mut(blocks * block)
        .zip(scales.chunks(blocks))
        .zip(codes.chunks(blocks * block / table.each))
        .collect();
    spread.each(pieces, |((out, scales), codes)| decode(codes, table, scales, block, out))?;
    Ok(())
}

/// Decodes blocks. A byte's values are copied together, and a block is then multiplied by its scale in lanes.
#[multiversion(targets = "simd")]
fn decode(codes: &[u8], table: Table<'_>, scales: &[f32], block: usize, out: &mut [f32]) {
    let blocks = out.chunks_mut(block).zip(scales).zip(codes.chunks(block / table.each));
    let (pairs, _) = table.values.as_chunks::<2>();
    let (pairs, singles): (Option<&[[f32; 2]; 256]>, Option<&[f32; 256]>) =
        (pairs.try_into().ok(), table.values.try_into().ok());
    for ((out, scale), codes) in blocks {
        match (table.each, pairs, singles) {
            (2, Some(pairs), _) => {
                let (whole, last) = out.as_chunks_mut::<2>();
                for (out, code) in whole.iter_mut().zip(codes) {
                    *out = pairs[usize::from(*code)];
                }
                if let ([last], Some(code)) = (last, codes.last()) {
                    *last = pairs[usize::from(*code)][0];
                }
            }
            (1, _, Some(singles)) => {
                for (out, code) in out.iter_mut().zip(codes) {
                    *out = singles[usize::from(*code)];
                }
            }
            (each, ..) => {
                for (out, code) in out.chunks_mut(each).zip(codes) {
                    let from = usize::from(*code) * each;
                    out.copy_from_slice(&table.values[from..from + out.len()]);
                }
            }
        }
        out.iter_mut().for_each(|value| *value *= scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slices::OneThread;

    /// Protects: one, two and four values per byte decode to the same numbers as the definition, with a
    /// partial last block and a partial last byte.
    #[test]
    fn values_are_those_of_the_table_times_the_scale() -> Result<()> {
        for (each, block, len) in [(1, 4, 11), (2, 4, 11), (2, 64, 200_001), (4, 8, 22), (1, 300_000, 5)] {
            let values: Vec<f32> = (0..256 * each).map(|at| (at as f32 - 100.0) / 7.0).collect();
            let codes: Vec<u8> = (0..len_of(len, each)).map(|at| (at * 37 % 256) as u8).collect();
            let scales: Vec<f32> = (0..len_of(len, block)).map(|at| 0.5 + at as f32).collect();
            let mut out = vec![0.0; len];
            dequantise(&OneThread, &codes, Table { values: &values, each }, &scales, block, &mut out)?;
            for (at, got) in out.iter().enumerate() {
                let want = values[usize::from(codes[at / each]) * each + at % each] * scales[at / block];
                assert_eq!(*got, want, "{each} per byte, blocks of {block}, value {at}");
            }
        }
        Ok(())
    }

    fn len_of(values: usize, part: usize) -> usize {
        values.div_ceil(part)
    }
}
