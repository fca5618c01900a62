//! A number of a constraint's configuration, refused under its field's name.

use pcrm_core::{Error, Result};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What the configuration held for one field: any value, or nothing where the field was absent.
///
/// serde's own refusal of a wrong type (`invalid type: string "3", expected f64`) does not say which field it
/// was; so a field is read as whatever it is, and [`Number::finite`] judges it knowing its name.
#[derive(Debug, Default)]
pub(crate) struct Number(Option<Value>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `Option<Value>`: a `null` is what NaN becomes in JSON, and must not pass as an absent field.
        Ok(Self(Some(Value::deserialize(deserializer)?)))
    }
}

impl From<Value> for Number {
    fn from(value: Value) -> Self {
        Self(Some(value))
    }
}

impl Number {
    /// The number, or `default` where the field was absent.
    ///
    /// # Errors
    /// A value that is not a number or not finite, with the field's name and the value.
    pub(crate) fn finite(&self, field: &'static str, default: f64) -> Result<f64> {
        let Some(value) = &self.0 else { return Ok(default) };
        match value.as_f64() {
            Some(number) => check_finite(field, number),
            None => Err(Error::invalid(field, format!("found {value}, expected a finite number"))),
        }
    }

    /// Whether it is this word, which a field may take instead of a number.
    pub(crate) fn is(&self, word: &str) -> bool {
        self.0.as_ref().is_some_and(|value| value == word)
    }

    /// The whole number, or `default` where the field was absent.
    ///
    /// # Errors
    /// A value that is not a whole number from 0, with the field's name and the value.
    pub(crate) fn whole(&self, field: &'static str, default: u64) -> Result<u64> {
        let Some(value) = &self.0 else { return Ok(default) };
        value
            .as_u64()
            .ok_or_else(|| Error::invalid(field, format!("found {value}, expected a whole number from 0")))
    }
}

/// `value`, if it is neither infinite nor NaN.
pub(crate) fn check_finite(field: &'static str, value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::invalid(field, format!("found {value}, expected a finite number")))
}

/// `value`, if it is finite and above zero, also as the `f32` that bounds are.
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

    /// Protects: defaults serve absent fields only; null (JSON's NaN) is refused, not replaced.
    #[test]
    fn only_an_absent_field_takes_the_default() {
        assert_eq!(Number::default().finite("beta1", 20.0).unwrap(), 20.0);
        assert_eq!(read("7").finite("beta1", 20.0).unwrap(), 7.0);
        assert_eq!(read("-1.5e3").finite("beta1", 20.0).unwrap(), -1500.0);
        let error = read("null").finite("beta1", 20.0).unwrap_err().to_string();
        assert_eq!(error, "beta1: found null, expected a finite number");
    }

    /// Protects: a refusal names the field, the value and what was expected.
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
