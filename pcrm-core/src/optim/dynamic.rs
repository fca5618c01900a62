//! Block-wise 8-bit quantisation of moments (Dettmers et al., arXiv 2110.02861), as in bitsandbytes.
//!
//! A block of 256 elements stores its largest magnitude in f32, and for every element an 8-bit code: the
//! index of the nearest of 256 values between −1 and 1 (or 0 and 1). The values are dense near 0: each is a
//! fraction times a power of ten, and each exponent has twice as many fractions as the next lower one.

use std::sync::LazyLock;

use crate::error::Result;
use crate::host::HostTensor;

/// The number of elements in a block.
pub const BLOCK: usize = 256;

/// The map for first moments, which are signed.
pub static SIGNED: LazyLock<Map> = LazyLock::new(|| Map::new(true));

/// The map for second moments, which are never negative.
pub static UNSIGNED: LazyLock<Map> = LazyLock::new(|| Map::new(false));

/// The 256 values of codes in ascending order, and the bounds between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    values: [f32; 256],
    bounds: [f32; 255],
}

impl Map {
    /// Builds the dynamic map of bitsandbytes (`create_dynamic_map` with 7 exponent bits of 8).
    fn new(signed: bool) -> Self {
        const EXPONENTS: u32 = 7;
        let mut values = vec![0.0, 1.0];
        for exponent in 0..EXPONENTS {
            let fractions = if signed { 1 << exponent } else { 2 << exponent };
            let bound = |at: usize| linear(at, fractions + 1);
            let scale = 10_f64.powi(exponent as i32 - EXPONENTS as i32 + 1) as f32;
            for at in 0..fractions {
                let value = scale * ((bound(at) + bound(at + 1)) / 2.0);
                values.push(value);
                if signed {
                    values.push(-value);
                }
            }
        }
        values.sort_by(f32::total_cmp);
        let mut map = Self { values: [0.0; 256], bounds: [0.0; 255] };
        map.values.copy_from_slice(&values);
        for (bound, pair) in map.bounds.iter_mut().zip(values.windows(2)) {
            *bound = (pair[0] + pair[1]) / 2.0;
        }
        map
    }

    /// Returns the value of a code.
    pub fn value(&self, code: u8) -> f32 {
        self.values[usize::from(code)]
    }

    /// Returns the code of the nearest value; a tie gives the lower one.
    pub fn code(&self, value: f32) -> u8 {
        self.bounds.partition_point(|bound| *bound < value) as u8
    }

    /// Returns all values in ascending order.
    pub fn values(&self) -> &[f32; 256] {
        &self.values
    }

    /// Decodes a block.
    pub fn unpack(&self, codes: &[u8], largest: f32, into: &mut [f32]) {
        codes.iter().zip(into).for_each(|(code, value)| *value = self.value(*code) * largest);
    }

    /// Encodes a block and returns its largest magnitude.
    pub fn pack(&self, values: &[f32], codes: &mut [u8]) -> f32 {
        let largest = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let scale = 1.0 / largest.max(1e-38);
        // As in bitsandbytes: whole blocks are multiplied by the reciprocal, and a partial block is divided.
        let whole = values.len() == BLOCK;
        let share = |value: f32| if whole { value * scale } else { value / largest.max(1e-38) };
        codes
            .iter_mut()
            .zip(values)
            .for_each(|(code, value)| *code = self.code(share(*value).clamp(-1.0, 1.0)));
        largest
    }
}

/// Returns both maps for a device, f32 `[4, 256]`: values and bounds of the signed map, then of the unsigned
/// one. The last bound is infinite, so that every code has one.
///
/// # Errors
/// Never fails: the size fits the shape.
pub fn maps() -> Result<HostTensor> {
    let rows = |map: &Map| [&map.values[..], &map.bounds[..], &[f32::INFINITY]].concat();
    let all = [rows(&SIGNED), rows(&UNSIGNED)].concat();
    HostTensor::f32([4, 256], all)
}

/// Returns element `at` of `count` evenly spaced numbers from 0.1 to 1, computed in f32 from both ends as in
/// torch.
fn linear(at: usize, count: usize) -> f32 {
    let (first, last) = (0.1_f32, 1.0_f32);
    let step = (last - first) / (count - 1) as f32;
    match at < count / 2 {
        true => first + step * at as f32,
        false => last - step * (count - 1 - at) as f32,
    }
}

/// A quantised moment of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// The code of every element.
    pub codes: Vec<u8>,
    /// The largest magnitude of every block.
    pub largest: Vec<f32>,
}

impl Moment {
    /// Returns a moment of zeros.
    pub fn zeros(size: usize) -> Self {
        Self { codes: vec![0; size], largest: vec![0.0; size.div_ceil(BLOCK)] }
    }

    /// Returns the codes packed four to a number, the first in the lowest bits, as checkpoints store them.
    pub fn packed(&self) -> Vec<u32> {
        let number =
            |codes: &[u8]| codes.iter().rev().fold(0_u32, |number, code| (number << 8) | u32::from(*code));
        self.codes.chunks(4).map(number).collect()
    }

    /// Restores the codes from the numbers of [`Moment::packed`].
    pub fn unpack(&mut self, packed: &[u32]) {
        let bytes = packed.iter().flat_map(|number| number.to_le_bytes());
        self.codes.iter_mut().zip(bytes).for_each(|(code, byte)| *code = byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: packing and unpacking a moment returns the same codes for any length.
    #[test]
    fn packed_codes_come_back() {
        for size in [1_usize, 4, 7, 300] {
            let codes: Vec<u8> = (0..size).map(|at| (at * 37 % 256) as u8).collect();
            let moment = Moment { codes, largest: vec![1.0; size.div_ceil(BLOCK)] };
            let mut read = Moment::zeros(size);
            read.unpack(&moment.packed());
            assert_eq!(read.codes, moment.codes);
        }
    }

    /// Protects: the bounds that a device counts lead to the host's codes, also for numbers beyond the map.
    #[test]
    fn bounds_on_a_device_lead_to_the_same_codes() {
        let all = maps().unwrap().into_f32();
        for (map, rows) in [&*SIGNED, &*UNSIGNED].into_iter().zip(all.chunks_exact(512)) {
            assert_eq!(rows[..256], map.values()[..]);
            let tried = (-300..300).map(|at| at as f32 / 250.0).chain(rows[..511].iter().copied());
            for value in tried.chain([f32::NAN, f32::INFINITY, f32::NEG_INFINITY]) {
                let below = rows[256..].iter().filter(|bound| **bound < value).count();
                assert_eq!(below, usize::from(map.code(value)), "{value}");
            }
        }
    }

    /// Protects: every value of the map survives encoding, and blocks keep their largest element exactly.
    #[test]
    fn values_of_the_map_are_kept() {
        for map in [&*SIGNED, &*UNSIGNED] {
            assert!(map.values().windows(2).all(|pair| pair[0] < pair[1]));
            (0..=255).for_each(|code| assert_eq!(map.code(map.value(code)), code));
            let values = [0.5, 3.0, 0.0];
            let (mut codes, mut back) = ([0; 3], [0.0; 3]);
            let largest = map.pack(&values, &mut codes);
            map.unpack(&codes, largest, &mut back);
            assert_eq!((largest, back[1], back[2]), (3.0, 3.0, 0.0));
            assert!((back[0] - 0.5).abs() < 0.02);
        }
    }
}
