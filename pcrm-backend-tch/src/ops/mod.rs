//! The operations on libtorch's tensors, without the tape: a forward and a backward each.

pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod coded;
pub(crate) mod elementwise;
pub(crate) mod embedding;
pub(crate) mod history;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod rotary;
pub(crate) mod slices;
pub(crate) mod token_stats;

/// The result type of libtorch's functions.
pub(crate) type Torched<T = tch::Tensor> = Result<T, tch::TchError>;
