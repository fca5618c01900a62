//! Attention of single rows over keys and values stored in blocks: a step of generation.
//!
//! Products of few rows do not suit gemm, so they are loops here. They add up every element as gemm does:
//! over the elements of a head for scores, over the keys of a tile for values, each in one chain of fused
//! multiply-adds if the machine has them. Keys are stored transposed, `[dim, tile]`, so that a chain is a
//! lane.

use multiversion::multiversion;

use super::{Sizes, TILE, bound, softmax};
use crate::error::Result;
use crate::kernels::{CacheShape, CachedRow};
use crate::slices::Spread;

/// The number of rows that a thread processes together, so that shared blocks are read from its cache.
const TOGETHER: usize = 8;

/// The keys and values of one layer.
#[derive(Debug)]
pub struct Blocks {
    shape: CacheShape,
    /// `[blocks, kv_heads, dim, TILE]`
    keys: Vec<f32>,
    /// `[blocks, kv_heads, TILE, dim]`
    values: Vec<f32>,
}

/// The rows of a step and the parameters of their attention.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The rows.
    pub rows: &'a [CachedRow],
    /// The number of heads of queries.
    pub heads: usize,
    /// The factor on q·k.
    pub scale: f32,
    /// The soft cap of scores.
    pub cap: Option<f32>,
    /// The number of visible positions, a row's own included; `None`: all.
    pub window: Option<usize>,
}

impl Blocks {
    /// Allocates blocks filled with zeros.
    pub fn new(shape: CacheShape) -> Self {
        let size = shape.slots() * shape.kv_heads * shape.dim;
        Self { shape, keys: vec![0.0; size], values: vec![0.0; size] }
    }

    /// Returns the size.
    pub fn shape(&self) -> CacheShape {
        self.shape
    }

    /// Writes keys and values `[slots, kv_heads, dim]`.
    ///
    /// # Panics
    /// Panics if there are too few elements or a slot does not exist.
    pub fn write(&mut self, slots: &[u32], k: &[f32], v: &[f32]) {
        let CacheShape { kv_heads, dim, .. } = self.shape;
        for (row, slot) in slots.iter().enumerate() {
            let (block, place) = (*slot as usize / TILE, *slot as usize % TILE);
            for head in 0..kv_heads {
                let from = (row * kv_heads + head) * dim;
                let tile = (block * kv_heads + head) * dim * TILE;
                for (at, key) in k[from..][..dim].iter().enumerate() {
                    self.keys[tile + at * TILE + place] = *key;
                }
                self.values[tile + place * dim..][..dim].copy_from_slice(&v[from..][..dim]);
            }
        }
    }

    /// Computes attention: q `[rows, heads, dim]` → `[rows, heads, dim]`.
    ///
    /// # Errors
    /// Fails if a work item panicked.
    ///
    /// # Panics
    /// Panics if there are too few elements or a block does not exist.
    pub fn attend(&self, spread: &impl Spread, q: &[f32], step: Step<'_>) -> Result<Vec<f32>> {
        let CacheShape { kv_heads, dim, .. } = self.shape;
        let sizes = Sizes { heads: step.heads, kv_heads, dim };
        let parts = step.rows.chunks(TOGETHER).enumerate();
        let tasks: Vec<_> = parts.flat_map(|part| (0..kv_heads).map(move |head| (part, head))).collect();
        let done = spread.each(tasks.clone(), |((part, rows), kv_head)| {
            let queries = &q[part * TOGETHER * step.heads * dim..];
            self.attend_task(queries, rows, kv_head, sizes, step)
        })?;
        let mut values = vec![0.0; step.rows.len() * step.heads * dim];
        let group = step.heads / kv_heads;
        for (((part, rows), kv_head), attended) in tasks.into_iter().zip(done) {
            for (at, attended) in attended.chunks_exact(group * dim).enumerate().take(rows.len()) {
                let row = part * TOGETHER + at;
                values[(row * step.heads + kv_head * group) * dim..][..group * dim].copy_from_slice(attended);
            }
        }
        Ok(values)
    }

    /// Computes attention of these rows and heads; returns `[rows, heads of the group, dim]`.
    fn attend_task(
        &self,
        q: &[f32],
        rows: &[CachedRow],
        kv_head: usize,
        sizes: Sizes,
        step: Step<'_>,
    ) -> Vec<f32> {
        let Sizes { heads, kv_heads, dim } = sizes;
        let (group, fused) = (heads / kv_heads, fused());
        let widest = rows.iter().map(|row| row.seen().len()).max().unwrap_or(0) * TILE;
        let mut scores = vec![0.0; rows.len() * group * widest];
        let visible = |row: &CachedRow| {
            let first = step.window.map_or(0, |window| (row.position + 1).saturating_sub(window));
            first..row.position + 1
        };
        let of = |block: u32| (block as usize * kv_heads + kv_head) * dim * TILE;
        for tile in 0..widest / TILE {
            for (at, row) in rows.iter().enumerate().filter(|(_, row)| tile < row.seen().len()) {
                let keys = &self.keys[of(row.blocks[tile])..][..dim * TILE];
                for head in 0..group {
                    let query = &q[(at * heads + kv_head * group + head) * dim..][..dim];
                    let target = &mut scores[(at * group + head) * widest + tile * TILE..][..TILE];
                    score(target, query, keys, step.scale, fused);
                    if let Some(cap) = step.cap {
                        bound(target, cap);
                    }
                }
            }
        }
        for (at, scores) in scores.chunks_exact_mut(widest).enumerate() {
            let row = &rows[at / group];
            softmax(&mut scores[..row.seen().len() * TILE], visible(row));
        }
        let mut attended = vec![0.0; rows.len() * group * dim];
        for tile in 0..widest / TILE {
            for (at, row) in rows.iter().enumerate().filter(|(_, row)| tile < row.seen().len()) {
                let values = &self.values[of(row.blocks[tile])..][..dim * TILE];
                for head in at * group..(at + 1) * group {
                    let shares = &scores[head * widest + tile * TILE..][..TILE];
                    add_values(&mut attended[head * dim..][..dim], shares, values, fused);
                }
            }
        }
        attended
    }
}

/// Returns whether gemm uses fused multiply-adds on this machine.
fn fused() -> bool {
    #[cfg(target_arch = "x86_64")]
    let fused = std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let fused = cfg!(target_arch = "aarch64");
    fused
}

/// Computes scores ← scale·(query · keys) of one tile; keys `[dim, TILE]`.
#[multiversion(targets = "simd")]
fn score(scores: &mut [f32], query: &[f32], keys: &[f32], scale: f32, fused: bool) {
    let mut sums = [0.0f32; TILE];
    let pairs = query.iter().zip(keys.as_chunks::<TILE>().0);
    match fused {
        true => pairs.for_each(|(q, keys)| {
            for lane in 0..TILE {
                sums[lane] = q.mul_add(keys[lane], sums[lane]);
            }
        }),
        false => pairs.for_each(|(q, keys)| {
            for lane in 0..TILE {
                sums[lane] += q * keys[lane];
            }
        }),
    }
    scores.iter_mut().zip(sums).for_each(|(score, sum)| *score = scale * sum);
}

/// Computes sum ← sum + shares · values of one tile; values `[TILE, dim]`.
#[multiversion(targets = "simd")]
fn add_values(sum: &mut [f32], shares: &[f32], values: &[f32], fused: bool) {
    let dim = sum.len();
    let mut start = 0;
    while start < dim {
        let at = [dim, start];
        start += match dim - start {
            64.. => chains::<64>(sum, shares, values, at, fused),
            32.. => chains::<32>(sum, shares, values, at, fused),
            16.. => chains::<16>(sum, shares, values, at, fused),
            8.. => chains::<8>(sum, shares, values, at, fused),
            _ => chains::<1>(sum, shares, values, at, fused),
        };
    }
}

/// Adds up `N` elements of the head from `start` on, and returns `N`.
#[inline(always)]
fn chains<const N: usize>(
    sum: &mut [f32],
    shares: &[f32],
    values: &[f32],
    [dim, start]: [usize; 2],
    fused: bool,
) -> usize {
    let mut sums = [0.0f32; N];
    for (share, row) in shares.iter().zip(values.chunks_exact(dim)) {
        let Some(row) = row[start..].first_chunk::<N>() else { continue };
        for lane in 0..N {
            sums[lane] =
                if fused { share.mul_add(row[lane], sums[lane]) } else { sums[lane] + share * row[lane] };
        }
    }
    sum[start..][..N].iter_mut().zip(sums).for_each(|(sum, part)| *sum += part);
    N
}

#[cfg(test)]
mod tests {
    use super::super::{AttentionPlan, forward};
    use super::*;
    use crate::kernels::{Attention, BLOCK, Mask};
    use crate::slices::OneThread;
    use crate::tree::SequenceTree;

    /// Returns pseudo-random numbers.
    fn noise(count: usize, seed: u64) -> Vec<f32> {
        let word = |at: usize| xxhash_rust::xxh3::xxh3_64_with_seed(&(at as u64).to_le_bytes(), seed);
        (0..count).map(|at| (word(at) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    /// Protects: a row that reads a cache has the same bits as in a pass over its whole sequence, for all
    /// head shapes, with and without a window, with blocks in any order and with other sequences' keys in the
    /// rest of its block.
    #[test]
    fn a_cached_row_has_the_bits_of_the_whole_sequence() -> Result<()> {
        for (heads, kv_heads, dim) in [(6, 2, 64), (4, 4, 16), (4, 1, 80), (2, 2, 128), (3, 1, 24), (2, 1, 6)]
        {
            for (window, cap) in
                [(None, None), (Some(5), None), (Some(70), None), (None, Some(0.4)), (Some(70), Some(2.0))]
            {
                let rows = 200;
                let sizes = Sizes { heads, kv_heads, dim };
                let [q, k, v] = [heads, kv_heads, kv_heads].map(|count| {
                    noise(rows * count * dim, (count * dim) as u64 + window.unwrap_or(0) as u64)
                });
                let mask = Mask::Causal { window };
                let how = Attention { scale: 0.3, cap, mask, queries: None };
                let plan = AttentionPlan::new(&SequenceTree::sequence(rows)?, &how, sizes);
                let (want, _) = forward(&plan, &OneThread, [&q, &k, &v])?;

                let mut cache = Blocks::new(CacheShape { blocks: 7, kv_heads, dim });
                let (width, wide) = (kv_heads * dim, heads * dim);
                let garbage = noise(7 * BLOCK * width, 99);
                cache.write(&(0..7 * BLOCK as u32).collect::<Vec<_>>(), &garbage, &garbage);
                let blocks = vec![5, 2, 6, 0];
                let reader = |position| CachedRow { position, blocks: blocks.clone() };
                for position in 0..rows {
                    let at = position * width;
                    cache.write(&[reader(position).slot()], &k[at..at + width], &v[at..at + width]);
                    let row = reader(position);
                    let step = Step {
                        rows: std::slice::from_ref(&row),
                        heads,
                        scale: 0.3,
                        cap: how.cap.map(|cap| cap as f32),
                        window,
                    };
                    let got = cache.attend(&OneThread, &q[position * wide..][..wide], step)?;
                    assert_eq!(got, &want[position * wide..][..wide], "{sizes:?} {window:?} at {position}");
                }
                // Many rows at once, in arbitrary order.
                let order: Vec<usize> = (0..rows).map(|at| at * 7 % rows).collect();
                let readers: Vec<CachedRow> = order.iter().map(|position| reader(*position)).collect();
                let queries: Vec<f32> = order.iter().flat_map(|at| q[at * wide..][..wide].to_vec()).collect();
                let step =
                    Step { rows: &readers, heads, scale: 0.3, cap: how.cap.map(|cap| cap as f32), window };
                let got = cache.attend(&OneThread, &queries, step)?;
                for (got, position) in got.chunks(wide).zip(&order) {
                    assert_eq!(got, &want[position * wide..][..wide], "{sizes:?} {window:?} at {position}");
                }
            }
        }
        Ok(())
    }
}
