//! A number in a constraint's configuration, refused under its field's name.

use pcrm_core::{Error, Result};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The value of one configuration field: any JSON value, or nothing if the field was absent.
///
/// serde's own error for a wrong type (`invalid type: string "3", expected f64`) does not name the field. So
/// a field is read as any value, and [`Number::finite`], which knows the name, checks it.
#[derive(Debug, Default)]
pub(crate) struct Number(Option<Value>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `Option<Value>`: NaN becomes `null` in JSON, and a `null` must not pass as an absent field.
        Ok(Self(Some(Value::deserialize(deserializer)?)))
    }
}

impl From<Value> for Number {
    fn from(value: Value) -> Self {
        Self(Some(value))
    }
}

impl Number {
    /// Returns the number, or `default` if the field was absent.
    ///
    /// # Errors
    /// Fails with the field's name and the value if the value is not a finite number.
    pub(crate) fn finite(&self, field: &'static str, default: f64) -> Result<f64> {
        let Some(value) = &self.0 else { return Ok(default) };
        match value.as_f64() {
            Some(number) => check_finite(field, number),
            None => Err(Error::invalid(field, format!("found {value}, expected a finite number"))),
        }
    }

    /// Returns whether the value is this word, which a field may accept instead of a number.
    pub(crate) fn is(&self, word: &str) -> bool {
        self.0.as_ref().is_some_and(|value| value == word)
    }

    /// Returns the whole number, or `default` if the field was absent.
    ///
    /// # Errors
    /// Fails with the field's name and the value if the value is not a whole number from 0.
    pub(crate) fn whole(&self, field: &'static str, default: u64) -> Result<u64> {
        let Some(value) = &self.0 else { return Ok(default) };
        value
            .as_u64()
            .ok_or_else(|| Error::invalid(field, format!("found {value}, expected a whole number from 0")))
    }
}

/// Returns `value` if it is neither infinite nor NaN.
pub(crate) fn check_finite(field: &'static str, value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::invalid(field, format!("found {value}, expected a finite number")))
}

/// Returns `value` if it is finite and above zero, also as `f32`, the type of bounds.
pub(crate) fn check_positive(field: &'static str, value: f64) -> Result<f64> {
    let narrow = value as f32;
    if narrow.is_finite() && narrow > 0.0 {
        return Ok(value);
    }
    Err(Error::invalid(field, format!("found {value}, expected a positive finite number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Number {
        serde_json::from_str(json).unwrap()
    }

    /// Protects: defaults apply to absent fields only; null (JSON's NaN) is refused, not replaced.
    #[test]
    fn only_an_absent_field_takes_the_default() {
        assert_eq!(Number::default().finite("beta1", 20.0).unwrap(), 20.0);
        assert_eq!(read("7").finite("beta1", 20.0).unwrap(), 7.0);
        assert_eq!(read("-1.5e3").finite("beta1", 20.0).unwrap(), -1500.0);
        let error = read("null").finite("beta1", 20.0).unwrap_err().to_string();
        assert_eq!(error, "beta1: found null, expected a finite number");
    }

    /// Protects: a refusal names the field, the value and the expectation.
    #[test]
    fn refusals_name_field_and_value() {
        let error = read("\"3\"").finite("bound", 3.0).unwrap_err().to_string();
        assert_eq!(error, "bound: found \"3\", expected a finite number");
        let error = check_finite("beta3", f64::NEG_INFINITY).unwrap_err().to_string();
        assert_eq!(error, "beta3: found -inf, expected a finite number");
    }

    /// Protects: numbers that are positive in f64 but 0 or infinite as an f32 bound are refused.
    #[test]
    fn positive_means_positive_as_f32() {
        assert!(check_positive("bound", 3.0).is_ok());
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-60, 1e60] {
            let error = check_positive("bound", bad).unwrap_err().to_string();
            assert!(error.starts_with("bound: found ") && error.contains("positive finite"), "{error}");
        }
    }
}
