//! Fused operations on f32 slices, each with its backward, spread over all cores by rows.
//!
//! Everything here gives a row the same bits whatever rows stand beside it: sums run over a fixed number of lanes,
//! and matrix products never meet the one-row path.

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod elementwise;
pub(crate) mod embedding;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod rotary;
pub(crate) mod slices;
pub(crate) mod token_stats;
