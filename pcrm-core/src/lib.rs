//! What everything in PCRM speaks.
//!
//! Reading order: [`error`], [`dtype`] and [`device`]; the constraints of the method in [`constraint`] and how
//! plugins are found in [`registry`]; the user's words in [`text`] and preferences in [`data`].

pub mod backend;
pub mod constraint;
pub mod data;
pub mod device;
pub mod dtype;
pub mod error;
pub mod registry;
pub mod text;

pub use device::Device;
pub use dtype::DType;
pub use error::{Error, Result};
