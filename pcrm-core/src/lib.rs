//! What everything in PCRM speaks.
//!
//! Reading order: [`error`], [`dtype`] and [`device`]; the constraints of the method in [`constraint`] and how
//! plugins are found in [`registry`].

pub mod backend;
pub mod constraint;
pub mod device;
pub mod dtype;
pub mod error;
pub mod registry;

pub use device::Device;
pub use dtype::DType;
pub use error::{Error, Result};
