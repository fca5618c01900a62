//! Fused operations written with candle's own tensor operations, each with its backward: they run on any
//! device and in any float type.
//!
//! Sums, norms and softmax are computed in f32 whatever the type. Each launch costs time on a GPU, so no
//! operation loops over rows or segments, and none waits for the device.

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod elementwise;
pub(crate) mod embedding;
pub(crate) mod float;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod rotary;
pub(crate) mod row_sums;

#[cfg(test)]
mod tests;
pub(crate) mod token_stats;
