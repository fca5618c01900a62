//! The sources of CUDA kernels that backends compile at run time by NVRTC.
//!
//! The sources include no header, so a machine needs nothing but the NVRTC library and its driver. A backend
//! proves the compiled kernels against [`crate::composed`] before it uses them.

mod tiles;

pub use tiles::{TILE, Tiles};

/// Attention over a sequence tree in bf16, with its backward; compiled with `-DDIM=64` or `-DDIM=128`, the
/// number of elements of a head. [`Tiles`] has the arrays that the kernels read.
pub const ATTENTION: &str = include_str!("attention.cu");

/// Biases and their gradients, f32 and bf16; compiled behind [`FUSED`], whose elements it uses.
pub const COLUMNS: &str = include_str!("columns.cu");
