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

#[cfg(not(any(feature = "candle", feature = "tch")))]
compile_error!("pcrm needs a backend: build with --features candle, candle-cuda or tch");
