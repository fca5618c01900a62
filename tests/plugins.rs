//! Which plugins are compiled in. Naming the crates here links them; see `pcrm_core::registry`.

use pcrm_backend_candle as _;
use pcrm_backend_tch as _;
use pcrm_constraints as _;
use pcrm_core::registry::{self, BackendPlugin, ConstraintPlugin};

#[test]
fn all_backends_are_linked_and_no_others() {
    let names: Vec<&str> = registry::all::<BackendPlugin>().iter().map(|plugin| plugin.name).collect();
    assert_eq!(names, ["candle", "tch"]);
}

#[test]
fn all_constraints_are_linked_and_no_others() {
    let names: Vec<&str> = registry::all::<ConstraintPlugin>().iter().map(|plugin| plugin.name).collect();
    assert_eq!(names, ["fixed", "length_ratio", "none", "random"]);
}

#[test]
fn an_unknown_backend_lists_the_known_ones() {
    let message = registry::find::<BackendPlugin>("torch").err().map(|error| error.to_string());
    assert_eq!(message.as_deref(), Some("unknown backend \"torch\"; known: candle, tch"));
}
