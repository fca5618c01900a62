//! Data of kernel launches that both backends use: arguments, chunks of many tensors, rows sorted by target.

/// An argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Argument {
    /// The address of a tensor's first element, or null.
    Address(u64),
    /// A 64-bit integer.
    I64(i64),
    /// A 32-bit integer.
    I32(i32),
    /// A 32-bit float.
    F32(f32),
}

/// The bytes that a kernel reads and writes at once.
pub const PACK: usize = 16;

/// The bytes of shared memory that a block may use without opting in to more.
const SHARED: usize = 48 * 1024;

/// The bytes of shared memory that `block_sum` uses: one float for each of up to 32 warps.
const WARP_SUMS: usize = 32 * size_of::<f32>();

/// The widest row of the norms' backward: a block holds a row of f32 in shared memory, in addition to the
/// floats of `block_sum`.
pub const WIDEST: usize = (SHARED - WARP_SUMS) / size_of::<f32>();

/// The number of elements that a block of the kernels over many tensors processes.
const CHUNK: usize = 1 << 15;

/// Divides tensors of these lengths into chunks for the kernels over many tensors. Each chunk is two numbers:
/// the index of its first element, then the index of its tensor in the lower and the number of its elements in
/// the upper 32 bits.
pub fn chunks(lengths: impl Iterator<Item = usize>) -> Vec<i64> {
    let mut table = Vec::new();
    for (tensor, length) in lengths.enumerate() {
        for start in (0..length).step_by(CHUNK) {
            let size = CHUNK.min(length - start);
            table.extend([start as i64, tensor as i64 | ((size as i64) << 32)]);
        }
    }
    table
}

/// Returns the threads of a block that processes a row of this many packs: one per pack, at most 256.
pub fn row_threads(packs: usize) -> usize {
    (packs.div_ceil(32) * 32).min(256)
}

/// Marks a row that is added to no target.
pub const NOTHING: u32 = u32::MAX;

/// Sorts rows by their targets, below `count` or [`NOTHING`]: returns where each target's rows begin, with the end
/// last, and the rows of all targets in order.
pub fn by_target(targets: &[u32], count: usize) -> (Vec<u32>, Vec<u32>) {
    let targets = || targets.iter().zip(0_u32..).filter(|(target, _)| **target != NOTHING);
    let mut starts = vec![0; count + 1];
    targets().for_each(|(target, _)| starts[*target as usize + 1] += 1);
    for at in 0..count {
        starts[at + 1] += starts[at];
    }
    let mut next = starts.clone();
    let mut rows = vec![0; starts[count] as usize];
    for (target, row) in targets() {
        let place = &mut next[*target as usize];
        rows[*place as usize] = row;
        *place += 1;
    }
    (starts, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: chunks cover every element of every tensor once, in the layout of `Chunk` in fused.cu.
    #[test]
    fn chunks_cover_every_element_once() {
        let lengths = [CHUNK + 5, 0, 7, 2 * CHUNK];
        let mut covered = [0; 4];
        for chunk in chunks(lengths.into_iter()).chunks_exact(2) {
            let (start, tensor, length) =
                (chunk[0] as usize, (chunk[1] & 0xffff_ffff) as usize, (chunk[1] >> 32) as usize);
            assert!(start == covered[tensor] && length > 0 && length <= CHUNK, "{chunk:?}");
            covered[tensor] += length;
        }
        assert_eq!(covered, lengths);
        assert_eq!([row_threads(1), row_threads(112), row_threads(1000)], [32, 128, 256]);
    }

    /// Protects: the norms' backward can be launched for the widest row, and not for one pack more.
    #[test]
    fn the_widest_row_fits_into_shared_memory() {
        assert_eq!(WIDEST, 12 * 1024 - 32);
        assert!(WIDEST.is_multiple_of(PACK / 2), "rows are whole packs of bf16");
        assert!(crate::cuda::TRAINING.contains("__shared__ V parts[32];"), "block_sum uses other memory");
        assert!(crate::cuda::TRAINING.contains("extern __shared__ float own[];"), "a row is not of f32");
        assert_eq!(4 * WIDEST + 4 * 32, 49_152);
    }

    #[test]
    fn rows_are_sorted_by_target() {
        let (starts, rows) = by_target(&[3, 1, NOTHING, 3, 0, 3], 5);
        assert_eq!((starts, rows), (vec![0, 1, 2, 2, 5, 5], vec![4, 1, 0, 3, 5]));
    }
}
