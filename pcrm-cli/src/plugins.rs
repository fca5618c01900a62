//! Links the plugin crates: a crate that no source line names is not linked, and its plugins are lost. libtorch's
//! is named by the binary `pcrm-tch` alone (see `sibling.rs`). Also describes the features of this build.

use std::sync::Arc;

#[cfg(feature = "candle")]
use pcrm_backend_candle as _;
pub use pcrm_constraints::{calibrated, calibration};
use pcrm_core::collective::Meeting;
use pcrm_core::registry::{self, CollectivePlugin};
use pcrm_core::{Collective, Error, Result};

/// The default of `--backend`.
pub const DEFAULT_BACKEND: &str = if cfg!(feature = "candle") { "candle" } else { "tch" };

/// The project's backends that a program may lack, with what builds them in.
pub const ABSENT_BACKENDS: &[(&str, &str)] = &[
    #[cfg(not(feature = "candle"))]
    ("candle", "cargo build --release --features pcrm-cli/candle"),
    #[cfg(not(feature = "tch"))]
    ("tch", "scripts/libtorch && cargo build --release --features pcrm-cli/tch"),
    // A binary with plugins of its own, which does not name the crate.
    #[cfg(feature = "tch")]
    ("tch", "`use pcrm_backend_tch as _;` in its main.rs"),
];

/// The backend that supports training with several processes.
pub const DISTRIBUTED_BACKEND: &str = "tch";

/// Joins the other processes of a run.
///
/// # Errors
/// Fails if this build lacks the feature `distributed`, or if the others do not come.
pub fn join(meeting: &Meeting) -> Result<Arc<dyn Collective>> {
    let plugins = registry::all::<CollectivePlugin>();
    match plugins.iter().find(|plugin| plugin.name == DISTRIBUTED_BACKEND) {
        Some(plugin) => (plugin.join)(meeting),
        None => Err(Error::Unsupported(format!(
            "{} processes were started, and this build trains in one; cargo build --release --features \
             pcrm-cli/distributed makes one that trains in several",
            meeting.world
        ))),
    }
}

#[cfg(not(any(feature = "candle", feature = "tch")))]
compile_error!("pcrm needs a backend: build with --features candle, candle-cuda or tch");
