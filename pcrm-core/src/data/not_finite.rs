//! `NaN`, `Infinity` and numbers beyond f64, which Python's json writes although JSON does not allow them.

use serde_json::Value;

use super::scan::Scan;

/// A column of a record whose value is not a finite number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotFinite {
    /// The column.
    pub key: String,
    /// The value as written in the file.
    pub value: String,
}

/// Replaces each such number by null and returns the columns of the record that had one as their value.
pub(super) fn nulled(text: &str) -> (String, Vec<NotFinite>) {
    let bytes = text.as_bytes();
    let (mut out, mut found) = (String::with_capacity(text.len()), Vec::new());
    let (mut scan, mut at) = (Scan::default(), 0);
    let (mut begins, mut key) = (0, 0..0);
    while at < bytes.len() {
        if !scan.in_string
            && begins_token(bytes, at)
            && let Some(length) = token(&text[at..])
        {
            if scan.depth == 1 {
                let key = serde_json::from_str(&text[key.clone()]).ok();
                let named = |key| NotFinite { key, value: text[at..at + length].to_owned() };
                found.extend(key.map(named));
            }
            out.push_str("null");
            at += length;
            continue;
        }
        let before = (scan.depth, scan.in_string);
        scan.feed(bytes[at]);
        match (before, scan.in_string) {
            ((1, false), true) => begins = at,
            ((1, true), false) => key = begins..at + 1,
            _ => {}
        }
        let width = text[at..].chars().next().map_or(1, char::len_utf8);
        out.push_str(&text[at..at + width]);
        at += width;
    }
    (out, found)
}

/// Returns the length of a non-finite number at the start of a text.
fn token(text: &str) -> Option<usize> {
    let names = ["NaN", "-NaN", "Infinity", "-Infinity"];
    if let Some(name) = names.into_iter().find(|name| text.starts_with(name)) {
        return Some(name.len());
    }
    let number = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    let length = text.find(|c| !number(c)).unwrap_or(text.len());
    text[..length].parse::<f64>().is_ok_and(f64::is_infinite).then_some(length)
}

/// Returns true if a value may begin at this position: after a bracket, a colon, a comma or a space.
fn begins_token(bytes: &[u8], at: usize) -> bool {
    at.checked_sub(1)
        .is_some_and(|before| matches!(bytes[before], b':' | b',' | b'[' | b' ' | b'\t' | b'\n' | b'\r'))
}

/// Returns the column if its float is not finite; [`Value`] turns such a float into null.
pub(super) fn float(key: &str, number: f64) -> Option<NotFinite> {
    (!number.is_finite())
        .then(|| NotFinite { key: key.to_owned(), value: format!("{number}").replace("inf", "Infinity") })
}

/// Parses a record that may contain such numbers.
pub(super) fn parse(text: &str) -> serde_json::Result<(Value, Vec<NotFinite>)> {
    serde_json::from_str(text).map(|value| (value, Vec::new())).or_else(|error| {
        let (nulled, found) = nulled(text);
        // The first error refers to the original text.
        serde_json::from_str(&nulled).map(|value| (value, found)).map_err(|_| error)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Protects: non-finite numbers become null at any depth, their columns are named, and texts that look
    /// like one are unchanged.
    #[test]
    fn numbers_that_json_lacks_are_null() {
        let text = r#"{"chosen": "NaN, Infinity", "margin" :NaN,"meta": {"x":[-Infinity, 1e999, 2.5]}, "score\"": -1e400}"#;
        let (value, found) = parse(text).unwrap();
        assert_eq!(
            value,
            json!({"chosen": "NaN, Infinity", "margin": null, "meta": {"x": [null, null, 2.5]}, "score\"": null})
        );
        let named: Vec<(&str, &str)> = found.iter().map(|f| (f.key.as_str(), f.value.as_str())).collect();
        assert_eq!(named, [("margin", "NaN"), ("score\"", "-1e400")]);
        assert!(parse(r#"{"a": NaNa}"#).is_err() && parse(r#"{"a": 1"#).is_err());
        let big = parse(r#"{"a": 123456789012345678901234567890}"#).unwrap();
        assert!(big.0["a"].is_number() && big.1.is_empty());
    }
}
