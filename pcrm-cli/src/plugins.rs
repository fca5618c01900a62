//! Links the plugin crates: a crate that no source line names is not linked, and its plugins are lost. Also
//! describes the features of this build.

#[cfg(feature = "candle")]
use pcrm_backend_candle as _;
#[cfg(feature = "tch")]
use pcrm_backend_tch as _;
pub use pcrm_constraints::{calibrated, calibration};

/// The default of `--backend`.
pub const DEFAULT_BACKEND: &str = if cfg!(feature = "candle") { "candle" } else { "tch" };

/// The project's backends that this build lacks, with the commands that build them in.
pub const ABSENT_BACKENDS: &[(&str, &str)] = &[
    #[cfg(not(feature = "candle"))]
    ("candle", "cargo build --release --features pcrm-cli/candle"),
    #[cfg(not(feature = "tch"))]
    ("tch", "scripts/libtorch && cargo build --release --features pcrm-cli/tch"),
];

/// The backend that supports training with several processes.
pub const DISTRIBUTED_BACKEND: &str = "tch";

#[cfg(feature = "distributed")]
pub use pcrm_backend_tch::distributed::join;

/// Refuses to join other processes, because this build lacks the feature `distributed`.
///
/// # Errors
/// Always fails.
#[cfg(not(feature = "distributed"))]
pub fn join(
    meeting: &pcrm_core::collective::Meeting,
) -> pcrm_core::Result<std::sync::Arc<dyn pcrm_core::Collective>> {
    Err(pcrm_core::Error::Unsupported(format!(
        "{} processes were started, and this build trains in one; cargo build --release --features \
         pcrm-cli/distributed makes one that trains in several",
        meeting.world
    )))
}

#[cfg(not(any(feature = "candle", feature = "tch")))]
compile_error!("pcrm needs a backend: build with --features candle, candle-cuda or tch");
