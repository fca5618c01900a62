//! Names every compiled-in plugin crate: a crate that no source line names is not linked, and its plugins vanish.

#[cfg(feature = "candle")]
use pcrm_backend_candle as _;
#[cfg(feature = "tch")]
use pcrm_backend_tch as _;
use pcrm_constraints as _;

#[cfg(not(any(feature = "candle", feature = "tch")))]
compile_error!("pcrm needs a backend: build with --features candle, candle-cuda or tch");
