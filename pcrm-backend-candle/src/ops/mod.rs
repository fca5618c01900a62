//! Fused operations on f32 slices, each with its backward, parallel over rows.
//!
//! All operations give a row the same bits whatever the other rows of its batch: sums run over a fixed number
//! of lanes, and matrix products never take the one-row path.

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod coded;
pub(crate) mod elementwise;
pub(crate) mod embedding;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod rotary;
pub(crate) mod slices;
pub(crate) mod token_stats;
