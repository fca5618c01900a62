//! The sets of every step, a function of the seed and the epoch alone.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use pcrm_core::tree::within_budget;

/// The number of batches sorted by length together (as in `group_by_length` of transformers).
const BUCKET: usize = 50;

/// The size of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchSize {
    /// This many sets of answers; a pair is a set.
    Pairs(usize),
    /// As many sets as fit into this many tokens, every prompt counted once.
    Tokens(usize),
}

/// The order of sets within an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Shuffled before every epoch.
    #[default]
    Shuffled,
    /// Shuffled, sorted by length within buckets, then shuffled by batch, for steps of similar size.
    Bucketed,
    /// In the order of the file.
    File,
}

/// Returns the batches of one epoch as indices of sets; `unique_tokens` are the token counts of the sets.
pub fn epoch(
    unique_tokens: &[usize],
    size: BatchSize,
    order: Order,
    seed: u64,
    epoch: u64,
) -> Vec<Vec<usize>> {
    // Epoch seeds differ by an odd constant, so that no epoch equals one of another seed.
    let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_add(epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let mut indices: Vec<usize> = (0..unique_tokens.len()).collect();
    let tokens = |index: &usize| unique_tokens[*index];
    if order != Order::File {
        indices.shuffle(&mut rng);
    }
    if order == Order::Bucketed {
        let per_batch = match size {
            BatchSize::Pairs(pairs) => pairs,
            BatchSize::Tokens(budget) => {
                let all: usize = indices.iter().map(tokens).sum();
                (budget * indices.len()).checked_div(all).unwrap_or(1)
            }
        };
        indices.chunks_mut(BUCKET * per_batch.max(1)).for_each(|bucket| bucket.sort_by_key(tokens));
    }
    let mut batches: Vec<Vec<usize>> = match size {
        BatchSize::Pairs(pairs) => indices.chunks(pairs.max(1)).map(<[usize]>::to_vec).collect(),
        BatchSize::Tokens(budget) => {
            within_budget(&indices, budget, tokens).into_iter().map(<[_]>::to_vec).collect()
        }
    };
    if order == Order::Bucketed {
        batches.shuffle(&mut rng);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_comes_once_an_epoch_in_an_order_of_its_own() {
        let tokens: Vec<usize> = (0..103).map(|row| row * 7 % 13 + 2).collect();
        for size in [BatchSize::Pairs(8), BatchSize::Tokens(40)] {
            for order in [Order::Shuffled, Order::Bucketed, Order::File] {
                let first = epoch(&tokens, size, order, 7, 0);
                let mut all: Vec<usize> = first.concat();
                assert_eq!(first, epoch(&tokens, size, order, 7, 0));
                assert_eq!(order == Order::File, first == epoch(&tokens, size, order, 7, 1));
                all.sort_unstable();
                assert_eq!(all, (0..103).collect::<Vec<_>>());
            }
        }
    }
}
