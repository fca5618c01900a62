//! The plugins that are compiled in. Naming the crates here links them; see `pcrm_core::registry`.

#[cfg(feature = "candle")]
use pcrm_backend_candle as _;
#[cfg(feature = "tch")]
use pcrm_backend_tch as _;
use pcrm_constraints as _;
use pcrm_core::registry::{self, BackendPlugin, ConstraintPlugin, EncoderPlugin, Plugin};
use pcrm_rl::reward_source::RewardPlugin;

/// The backends that the crates above register; a backend of others may be there besides.
pub const BACKENDS: &[&str] = &[
    #[cfg(feature = "candle")]
    "candle",
    #[cfg(feature = "tch")]
    "tch",
];
const CONSTRAINTS: &[&str] = &[
    "calibrated",
    "combine",
    "cosine",
    "edit",
    "fixed",
    "learned",
    "length_ratio",
    "none",
    "random",
    "schedule",
    "score_gap",
];
const ENCODERS: &[&str] = &["bag-of-words", "bert", "onnx", "policy"];
const REWARDS: &[&str] = &[
    "command",
    "exact",
    "format",
    "http",
    "json",
    "length",
    "overlong",
    "python",
    "regex",
    "repetition",
    "world",
];

fn linked<P: Plugin>() -> Vec<&'static str> {
    registry::all::<P>().iter().map(|plugin| plugin.name()).collect()
}

/// Protects: the linker loses no backend.
#[test]
fn all_backends_are_linked() {
    let linked = linked::<BackendPlugin>();
    assert!(BACKENDS.iter().all(|name| linked.contains(name)), "{linked:?}");
}

/// Protects: the linker loses no constraint, and none comes along unasked.
#[test]
fn all_constraints_are_linked_and_no_others() {
    assert_eq!(linked::<ConstraintPlugin>(), CONSTRAINTS);
}

/// Protects: the same of encoders.
#[test]
fn all_encoders_are_linked_and_no_others() {
    assert_eq!(linked::<EncoderPlugin>(), ENCODERS);
}

/// Protects: the same of reward sources.
#[test]
fn all_rewards_are_linked_and_no_others() {
    assert_eq!(linked::<RewardPlugin>(), REWARDS);
}

/// Protects: who mistypes a backend is told what there is.
#[test]
fn an_unknown_backend_lists_the_known_ones() {
    let message = registry::find::<BackendPlugin>("torhc").err().map(|error| error.to_string());
    assert_eq!(
        message,
        Some(format!("unknown backend \"torhc\"; known: {}", linked::<BackendPlugin>().join(", ")))
    );
}
