//! Folds for cross-fitting: which pairs are held out together.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Kept apart from other uses of the same hash.
const SEED: u64 = 0x666f_6c64;

/// The fold of a prompt, from 0 to `folds` − 1: the same in any order and any file, so that what was fitted without a
/// fold can be found again for every pair of it, and no prompt stands on both sides.
///
/// # Panics
/// Zero folds.
pub fn fold(prompt: &str, folds: usize) -> usize {
    (xxh3_64_with_seed(prompt.as_bytes(), SEED) % folds as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: files of fitted constraints go on meaning the same folds (numbers of Python's xxhash), of like sizes.
    #[test]
    fn folds_do_not_change() {
        let prompts: Vec<String> = (0..3000).map(|at| format!("prompt {at}")).collect();
        let sizes = prompts.iter().fold([0; 5], |mut sizes, prompt| {
            sizes[fold(prompt, 5)] += 1;
            sizes
        });
        assert!(sizes.iter().all(|size| (520..680).contains(size)), "{sizes:?}");
        let first: Vec<usize> = prompts[..8].iter().map(|prompt| fold(prompt, 5)).collect();
        assert_eq!(first, [3, 4, 2, 2, 0, 0, 0, 4]);
    }
}
