//! Counter-based random numbers.

use xxhash_rust::xxh3::xxh3_64;

/// Returns a number in [0, 1) for a token: a function of the run's seed, the prompt, the sample of the prompt
/// and the position in the answer.
pub fn uniform(seed: u64, prompt: u64, sample: u64, position: u64) -> f64 {
    let words = [seed, prompt, sample, position].map(u64::to_le_bytes);
    (xxh3_64(words.as_flattened()) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: numbers are uniform, and neighbours in any counter are independent.
    #[test]
    fn numbers_are_uniform_in_every_counter() {
        let count = 20_000;
        let axes: [fn(u64) -> f64; 4] = [
            |at| uniform(at, 1, 2, 3),
            |at| uniform(1, at, 2, 3),
            |at| uniform(1, 2, at, 3),
            |at| uniform(1, 2, 3, at),
        ];
        for of in axes {
            let numbers: Vec<f64> = (0..count).map(of).collect();
            assert!(numbers.iter().all(|u| (0.0..1.0).contains(u)));
            // χ² of 20 bins: 99.99 % of uniform samples are below 51.
            let mut bins = [0.0; 20];
            numbers.iter().for_each(|u| bins[(u * 20.0) as usize] += 1.0);
            let expected = count as f64 / 20.0;
            let chi: f64 = bins.iter().map(|bin: &f64| (bin - expected).powi(2) / expected).sum();
            assert!(chi < 51.0, "{chi}");
            let pairs = numbers.windows(2).map(|pair| (pair[0] - 0.5) * (pair[1] - 0.5) * 12.0);
            assert!((pairs.sum::<f64>() / (count as f64).sqrt()).abs() < 4.5);
        }
    }
}
