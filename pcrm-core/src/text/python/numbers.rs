//! Floats as Python writes them: `1e-05`, `1e+16`, `nan`.
//!
//! minijinja writes most floats like Python, but not those that Python writes with an exponent. Such a float
//! in a message enters templates as an [`Exponent`], which prints Python's text wherever a template uses it;
//! floats that a template computes are formatted when it prints them.

use std::fmt;
use std::fmt::Write;
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value, escape_formatter};

/// A float that Python writes with an exponent, or that is not a number.
#[derive(Debug)]
struct Exponent(f64);

impl Object for Exponent {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text(self.0))
    }
}

/// Converts a message's float for a template.
pub(in crate::text) fn value(number: f64) -> Value {
    if is_plain(number) { Value::from(number) } else { Value::from_object(Exponent(number)) }
}

/// Returns a value as a float, if it is one.
pub(in crate::text) fn float(value: &Value) -> Option<f64> {
    if let Some(Exponent(number)) = value.downcast_object_ref() {
        return Some(*number);
    }
    let is_float = value.kind() == ValueKind::Number && !value.is_integer();
    is_float.then(|| f64::try_from(value.clone()).ok()).flatten()
}

/// Returns Python's `repr` of a float.
pub(in crate::text) fn text(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    // Rust's debug format has an exponent exactly where Python's has one, but writes it shorter.
    let short = format!("{number:?}");
    match short.split_once('e') {
        None => short,
        Some((digits, exponent)) => {
            let (sign, exponent) =
                exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

/// Returns a float in JSON, like `json.dumps`.
pub(in crate::text) fn json(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        text(number)
    }
}

/// Prints the value of `{{ .. }}`.
pub(in crate::text) fn print(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    if holds_exponent(value) {
        out.write_str(&shown(value)?).map_err(Error::from)
    } else {
        escape_formatter(out, state, value)
    }
}

/// The `string` filter.
pub(in crate::text) fn string(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.clone()),
        _ if holds_exponent(value) => Ok(Value::from(shown(value)?)),
        _ => Ok(Value::from(value.to_string())),
    }
}

/// The `join` filter.
pub(in crate::text) fn join(
    value: &Value,
    joiner: Option<Value>,
    attribute: Option<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let joiner = match joiner {
        None => options.get::<Option<Value>>("d")?,
        given => given,
    };
    let attribute = match attribute {
        None => options.get::<Option<Value>>("attribute")?,
        given => given,
    };
    options.assert_all_used()?;
    if value.is_undefined() {
        return Ok(Value::from(""));
    }
    let joiner =
        joiner.filter(|joiner| !joiner.is_none()).map_or_else(String::new, |joiner| joiner.to_string());
    let mut out = String::new();
    let attribute = attribute.filter(|attribute| !attribute.is_none());
    for (at, item) in value.try_iter()?.enumerate() {
        let path = attribute.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut item = item;
        for key in path.split('.').filter(|key| !key.is_empty()) {
            item = match key.parse::<usize>() {
                Ok(at) => item.get_item_by_index(at)?,
                Err(_) => item.get_attr(key)?,
            };
        }
        if at > 0 {
            out.push_str(&joiner);
        }
        out.push_str(&shown(&item)?);
    }
    Ok(Value::from(out))
}

/// The `pprint` filter, for values that Python prints on one line and without sorting keys.
pub(in crate::text) fn pprint(value: &Value) -> Result<String, Error> {
    let line = inner(value)?;
    let sorts = |value: &Value| value.kind() == ValueKind::Map && value.len().is_some_and(|keys| keys > 1);
    let nested = value.try_iter().is_ok_and(|mut items| items.any(|item| sorts(&item)));
    if line.chars().count() >= 80 || sorts(value) || nested {
        let message = "pprint: only values of one line and mappings of one key are supported";
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    Ok(line)
}

/// Returns true if a value is a number; in Python, booleans are.
pub(in crate::text) fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
        || value.downcast_object_ref::<Exponent>().is_some()
}

/// Returns true if a value is a float in any representation.
pub(in crate::text) fn is_float(value: &Value) -> bool {
    float(value).is_some()
}

fn is_plain(number: f64) -> bool {
    number.is_finite() && !format!("{number:?}").contains('e')
}

/// Returns true if a value is or contains a float that minijinja writes differently than Python.
fn holds_exponent(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Number => float(value).is_some_and(|number| !is_plain(number)),
        ValueKind::Plain => float(value).is_some(),
        ValueKind::Seq => value.try_iter().is_ok_and(|mut items| items.any(|item| holds_exponent(&item))),
        ValueKind::Map => value.try_iter().is_ok_and(|mut keys| {
            keys.any(|key| {
                holds_exponent(&key) || value.get_item(&key).is_ok_and(|item| holds_exponent(&item))
            })
        }),
        _ => false,
    }
}

/// Returns Python's `str` of a value.
fn shown(value: &Value) -> Result<String, Error> {
    match float(value) {
        Some(number) => Ok(text(number)),
        None if holds_exponent(value) => inner(value),
        None => Ok(value.to_string()),
    }
}

/// Returns Python's `repr` of a value.
fn inner(value: &Value) -> Result<String, Error> {
    if let Some(number) = float(value) {
        return Ok(text(number));
    }
    let mut out = String::new();
    match value.kind() {
        ValueKind::Seq => {
            let is_tuple = format!("{value:?}").starts_with('(');
            let items = value.try_iter()?.map(|item| inner(&item)).collect::<Result<Vec<_>, _>>()?;
            let end = if is_tuple && items.len() == 1 { "," } else { "" };
            let (open, close) = if is_tuple { ('(', ')') } else { ('[', ']') };
            write!(out, "{open}{}{end}{close}", items.join(", "))?;
        }
        ValueKind::Map => {
            let mut items = Vec::new();
            for key in value.try_iter()? {
                items.push(format!("{}: {}", inner(&key)?, inner(&value.get_item(&key)?)?));
            }
            write!(out, "{{{}}}", items.join(", "))?;
        }
        _ => write!(out, "{value:?}")?,
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: floats print like in Python, with exponents from 1e16 and below 1e-4.
    #[test]
    fn floats_are_written_as_by_python() {
        for (number, expected) in [
            (1e-5, "1e-05"),
            (2.5e-7, "2.5e-07"),
            (0.0001, "0.0001"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1e20, "1e+20"),
            (1.234e22, "1.234e+22"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (-1e-9, "-1e-09"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (f64::NAN, "nan"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(text(number), expected);
        }
        assert_eq!(
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-5].map(json),
            ["NaN", "Infinity", "-Infinity", "1e-05"]
        );
    }
}
