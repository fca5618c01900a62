//! Stochastic rounding to bf16.

use half::bf16;

/// Sixteen random bits for every element of a tensor. They depend on these numbers and the element's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomBits {
    /// A hash of the run's seed and the parameter's name.
    pub own: u64,
    /// The number of the step.
    pub step: u64,
    /// The position of the tensor's first element in the parameter.
    pub first: u64,
}

impl RandomBits {
    /// Returns the number that all elements share.
    pub fn key(&self) -> u64 {
        self.own ^ self.step.wrapping_mul(0xD134_2543_DE82_EF95)
    }

    /// Returns the bits of an element of the tensor (SplitMix64).
    pub fn at(&self, at: u64) -> u32 {
        let place = self.first.wrapping_add(at).wrapping_add(1);
        let mut x = self.key().wrapping_add(place.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 48) as u32
    }

    /// Rounds an element: away from 0 if the sum of the dropped bits and the random bits overflows, else
    /// towards 0.
    pub fn round(&self, at: u64, value: f32) -> bf16 {
        match value.is_finite() {
            true => bf16::from_bits((value.to_bits().saturating_add(self.at(at)) >> 16) as u16),
            false => bf16::from_f32(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: stochastic rounding is exact in the mean, keeps bf16 values, and never moves a finite number
    /// beyond its neighbours. A part of a tensor has the bits of the whole.
    #[test]
    fn rounding_at_random_is_exact_in_the_mean() {
        let bits = RandomBits { own: 7, step: 3, first: 0 };
        for value in [1.001_f32, -0.3, 3e-5, 100.7] {
            let draws = 20_000;
            let rounded = (0..draws).map(|at| bits.round(at, value).to_f32());
            let mean = rounded.map(f64::from).sum::<f64>() / draws as f64;
            let step = f64::from(value.abs()) / 128.0;
            assert!((mean - f64::from(value)).abs() < 0.02 * step, "{value}: {mean}");
        }
        for value in [0.0_f32, 1.0, -2.5] {
            assert!((0..100).all(|at| bits.round(at, value).to_f32() == value));
        }
        assert!(bits.round(0, f32::NAN).is_nan() && bits.round(0, f32::INFINITY) == bf16::INFINITY);
        assert_ne!(bits.at(3), bits.at(4));
        assert_ne!(bits.at(3), RandomBits { step: 4, ..bits }.at(3));
        assert_eq!(bits.at(7), RandomBits { first: 5, ..bits }.at(2));
    }

    /// Protects: the bits are those of earlier versions, whose runs are resumed.
    #[test]
    fn bits_are_those_of_earlier_versions() {
        let drawn = |own, step, at| RandomBits { own, step, first: 0 }.at(at);
        assert_eq!([drawn(7, 3, 0), drawn(7, 3, 1), drawn(1, 2, 3)], [18327, 65203, 24656]);
    }
}
