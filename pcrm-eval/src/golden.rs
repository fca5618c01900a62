//! Expected numbers for this crate's tests, computed by numpy and scipy (golden/metrics.py).

use serde_json::Value;

/// Reads the golden numbers.
pub(crate) fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/metrics.json")).unwrap()
}

/// Converts a JSON array to numbers.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Asserts equality to 1e-12, relative for numbers above 1.
#[track_caller]
pub(crate) fn close(ours: f64, expected: f64, what: &str) {
    let tolerance = 1e-12 * expected.abs().max(1.0);
    assert!((ours - expected).abs() <= tolerance, "{what}: {ours} where {expected} is expected");
}
