//! The compiled plugins. Naming the crates here links them; see `pcrm_core::registry`.

#[cfg(feature = "candle")]
use pcrm_backend_candle as _;
#[cfg(feature = "tch")]
use pcrm_backend_tch as _;
use pcrm_constraints as _;
use pcrm_core::registry::{self, BackendPlugin, ConstraintPlugin, EncoderPlugin, Plugin};
use pcrm_rl::reward_source::RewardPlugin;

/// The backends that the crates above register; other crates may add more.
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

/// Protects: the linker drops no backend.
#[test]
fn all_backends_are_linked() {
    let linked = linked::<BackendPlugin>();
    assert!(BACKENDS.iter().all(|name| linked.contains(name)), "{linked:?}");
}

/// Protects: the linker does not drop the exchange between the processes of a run.
#[cfg(feature = "distributed")]
#[test]
fn the_exchange_of_processes_is_linked() {
    assert_eq!(linked::<pcrm_core::registry::CollectivePlugin>(), ["tch"]);
}

/// Protects: the linker drops no constraint and adds none.
#[test]
fn all_constraints_are_linked_and_no_others() {
    assert_eq!(linked::<ConstraintPlugin>(), CONSTRAINTS);
}

/// Protects: the linker drops no encoder and adds none.
#[test]
fn all_encoders_are_linked_and_no_others() {
    assert_eq!(linked::<EncoderPlugin>(), ENCODERS);
}

/// Protects: the linker drops no reward source and adds none.
#[test]
fn all_rewards_are_linked_and_no_others() {
    assert_eq!(linked::<RewardPlugin>(), REWARDS);
}

/// Protects: an unknown backend name gives the list of known ones.
#[test]
fn an_unknown_backend_lists_the_known_ones() {
    let message = registry::find::<BackendPlugin>("torhc").err().map(|error| error.to_string());
    assert_eq!(
        message,
        Some(format!("unknown backend \"torhc\"; known: {}", linked::<BackendPlugin>().join(", ")))
    );
}
