//! Folds for cross-fitting: pairs that are held out together.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::data::prompt_id::PromptId;

/// Kept apart from other uses of the same hash.
const SEED: u64 = 0x666f_6c64;

/// The fold of a prompt, from 0 to `folds` − 1: the same in any order, any file and any schema, so that a
/// model that was fitted without a fold can be found again for every pair of it, and no prompt is on both
/// sides.
///
/// # Panics
/// Zero folds.
pub fn fold(prompt: PromptId, folds: usize) -> usize {
    (xxh3_64_with_seed(prompt.to_string().as_bytes(), SEED) % folds as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: files of fitted constraints go on meaning the same folds (numbers of Python's xxhash), of
    /// like sizes.
    #[test]
    fn folds_do_not_change() {
        let prompts: Vec<PromptId> = (0..3000).map(|at| PromptId::of_text(&format!("prompt {at}"))).collect();
        let sizes = prompts.iter().fold([0; 5], |mut sizes, prompt| {
            sizes[fold(*prompt, 5)] += 1;
            sizes
        });
        assert!(sizes.iter().all(|size| (520..680).contains(size)), "{sizes:?}");
        let first: Vec<usize> = prompts[..8].iter().map(|prompt| fold(*prompt, 5)).collect();
        assert_eq!(first, [3, 0, 4, 2, 2, 2, 4, 4]);
    }
}
