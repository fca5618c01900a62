//! The sources of CUDA kernels that backends compile at run time by NVRTC.
//!
//! The sources include no header, so a machine needs nothing but the NVRTC library and its driver. Before a
//! backend uses the compiled kernels, it checks their results against [`crate::composed`] or its own other
//! implementation.

mod launch;
mod packed;
mod streaming;
mod tiles;

pub use launch::{Argument, NOTHING, PACK, WIDEST, by_target, chunks, row_threads};
pub use packed::{element_bytes, longest, pack, unpacked};
pub use streaming::{SLOTS, Transfers, stream};
pub use tiles::{TILE, Tiles};

/// Norms, rotary positions, SwiGLU, AdamW over many tensors and with 8-bit moments, stochastic rounding, sums of
/// squares and of rows; cached keys and values with attention of one query per sequence; sampling; statistics of
/// tokens. f32 and bf16.
pub const FUSED: &str = concat!(
    include_str!("element.cu"),
    include_str!("fused.cu"),
    include_str!("columns.cu"),
    include_str!("optimiser.cu"),
    include_str!("decode.cu"),
    include_str!("statistics.cu")
);

/// The kernels of [`FUSED`] that a training step needs.
pub const TRAINING: &str = concat!(
    include_str!("element.cu"),
    include_str!("fused.cu"),
    include_str!("columns.cu"),
    include_str!("optimiser.cu")
);

/// Attention over a sequence tree in bf16, with its backward; compiled with `-DDIM=64` or `-DDIM=128`, the
/// number of elements of a head. [`Tiles`] has the arrays that the kernels read.
pub const ATTENTION: &str = include_str!("attention.cu");

/// The number of tokens whose probabilities the sampling kernel sums together.
pub const SPAN: usize = 256;

/// The number of query heads that a block of the cached attention computes.
pub const HEADS: usize = 8;
