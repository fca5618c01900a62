//! The foundation of PCRM: tensors, kernels, backends, models, constraints, text and data.
//!
//! Reading order:
//! * numbers: [`dtype`], [`device`], [`host`], [`tensor`] with its [`ops`] and [`math`], fused [`kernels`]
//!   with their [`operands`], their reference [`composed`] and sources for GPUs ([`cuda`]), a [`backend`] with
//!   its [`tape`], checks of [`memory`], the other processes of a run ([`collective`]), named [`params`],
//!   [`optim`] and [`schedule`];
//! * batches: [`tree`];
//! * models: [`model`];
//! * text and data: [`text`] and [`data`];
//! * the method: [`constraint`], and the [`encoder`]s it may use;
//! * plugins: [`registry`], built from [`tagged`] data;
//! * files of runs: [`disk`].
//!
//! ```
//! use pcrm_core::data::preference::{Strictness, load_preferences};
//!
//! let folder = tempfile::tempdir().map_err(pcrm_core::Error::io("a temporary folder"))?;
//! let path = folder.path().join("pairs.csv");
//! std::fs::write(&path, "prompt,chosen,rejected\nIs the sea salty?,Yes.,No.\nIs ice warm?,No.,\n")
//!     .map_err(pcrm_core::Error::io(&path))?;
//! let (pairs, report) = load_preferences(&[path], Strictness::Skip)?;
//! assert_eq!((pairs.len(), report.rows), (1, 2)); // the second row has no rejected answer
//! # Ok::<(), pcrm_core::Error>(())
//! ```
//!
//! Invariants: this crate depends on no tensor library and no plugin; nothing is padded.

pub mod backend;
pub mod collective;
pub mod composed;
pub mod constraint;
pub mod cuda;
pub mod data;
pub mod device;
pub mod digest;
pub mod disk;
pub mod dtype;
pub mod encoder;
pub mod error;
pub mod folds;
mod guard;
pub mod host;
pub mod kernels;
pub mod math;
pub mod memory;
pub mod model;
pub mod operands;
pub mod ops;
pub mod optim;
pub mod params;
pub mod quant;
pub mod registry;
pub mod schedule;
pub mod slices;
pub mod tagged;
pub mod tape;
pub mod tensor;
pub mod text;
pub mod tree;

pub use backend::{Backend, Engine, Place};
pub use collective::Collective;
pub use device::Device;
pub use dtype::DType;
pub use error::{Error, Result};
pub use host::{HostData, HostTensor};
pub use kernels::{Attention, Kernels, Mask, PlannedTree};
pub use params::{Gradients, Params, Ready};
pub use tensor::Tensor;
pub use tree::{Packed, SequenceTree};
// The crates that submitting a plugin needs, in the versions that this crate collects with.
pub use {erased_serde, inventory};
