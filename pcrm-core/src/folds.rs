//! Cross-fitting folds: pairs that are held out together.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::data::prompt_id::PromptId;

/// The seed that separates this use of the hash from others.
const SEED: u64 = 0x666f_6c64;

/// Returns the fold of a prompt, from 0 to `folds` − 1. It is the same in any order, file and schema, so that
/// the model fitted without a fold can be found for each of its pairs, and no prompt is on both sides.
///
/// # Panics
/// Panics if `folds` is zero.
pub fn fold(prompt: PromptId, folds: usize) -> usize {
    (xxh3_64_with_seed(prompt.to_string().as_bytes(), SEED) % folds as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the folds of stored constraints do not change (numbers from Python's xxhash), and folds have
    /// similar sizes.
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
