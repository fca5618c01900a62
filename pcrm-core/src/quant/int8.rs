//! int8: every row divided by its largest magnitude and multiplied by 127 (LLM.int8, arXiv 2208.07339, §2.1).
//!
//! As in bitsandbytes, elements are rounded to f16 first.

use half::f16;
use rayon::prelude::*;

use super::{HostMatrix, Quantisation, Scales};
use crate::error::{Error, Result};

/// The largest code.
const MOST: f32 = 127.0;

/// Returns the values of the codes: signed bytes over 127.
pub fn table() -> Vec<f32> {
    (0..=u8::MAX).map(|code| f32::from(code.cast_signed()) / MOST).collect()
}

/// Quantises a matrix.
///
/// # Errors
/// Fails if an element is beyond the range of f16.
pub(super) fn quantise(values: &[f32], [rows, columns]: [usize; 2]) -> Result<HostMatrix> {
    let mut codes = vec![0; values.len()];
    let mut scales = vec![0.0; rows];
    let lines = codes.par_chunks_mut(columns.max(1)).zip(&mut scales).zip(values.par_chunks(columns.max(1)));
    lines.for_each(|((codes, scale), values)| *scale = pack(values, codes));
    if scales.iter().any(|scale| !scale.is_finite()) {
        return Err(Error::invalid("the weight", "has an element beyond 65504, the range of f16, for int8"));
    }
    let (shape, block) = ([rows, columns], columns.max(1));
    let scales = Scales::Plain(scales);
    Ok(HostMatrix { method: Quantisation::Int8, shape, codes, table: table(), block, scales })
}

/// Encodes a row and returns its scale.
fn pack(values: &[f32], codes: &mut [u8]) -> f32 {
    let half = |value: &f32| f16::from_f32(*value).to_f32();
    let largest = values.iter().fold(0.0_f32, |most, value| most.max(half(value).abs()));
    if largest > 0.0 {
        // bitsandbytes divides by multiplying with the reciprocal.
        let factor = largest.recip() * MOST;
        for (code, value) in codes.iter_mut().zip(values) {
            *code = ((half(value) * factor).round_ties_even() as i8).cast_unsigned();
        }
    }
    largest
}
