//! Filters and functions of jinja2 that minijinja lacks, or has with other arguments.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// `attr`: returns an attribute and never an item, so mappings have none.
pub(super) fn attr(value: &Value, name: &str) -> Result<Value, Error> {
    if value.kind() == ValueKind::Map { Ok(Value::UNDEFINED) } else { value.get_attr(name) }
}

/// `truncate`: cuts a text at a blank, or within a word, and adds an ellipsis; a small excess is kept.
pub(super) fn truncate(
    text: &str,
    length: Option<usize>,
    kills_words: Option<bool>,
    end: Option<String>,
    options: Kwargs,
) -> Result<String, Error> {
    let length = length.or(options.get("length")?).unwrap_or(255);
    let kills_words = kills_words.or(options.get("killwords")?).unwrap_or(false);
    let end = end.or(options.get("end")?).unwrap_or_else(|| "...".to_owned());
    let leeway = options.get::<Option<usize>>("leeway")?.unwrap_or(5);
    options.assert_all_used()?;
    let characters: Vec<char> = text.chars().collect();
    let Some(kept) = length.checked_sub(end.chars().count()) else {
        let message = format!("truncate: expected a length of at least that of {end:?}, found {length}");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    };
    if characters.len() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let start: String = characters[..kept].iter().collect();
    let start =
        if kills_words { start.as_str() } else { start.rsplit_once(' ').map_or(start.as_str(), |cut| cut.0) };
    Ok(format!("{start}{end}"))
}

/// `cycler`: returns its arguments in turn, repeatedly.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str() == Some("current")).then(|| self.items[self.at.load(Ordering::Relaxed)].clone())
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        _: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "next" => {
                let at = self.at.load(Ordering::Relaxed);
                self.at.store((at + 1) % self.items.len(), Ordering::Relaxed);
                Ok(self.items[at].clone())
            }
            "reset" => {
                self.at.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// Creates a cycler.
pub(super) fn cycler(items: Rest<Value>) -> Result<Value, Error> {
    if items.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "cycler: expected at least one item"));
    }
    Ok(Value::from_object(Cycler { items: items.to_vec(), at: AtomicUsize::new(0) }))
}

/// `urlencode`: percent-encodes everything in a text except unreserved characters and `/`, or a mapping as a
/// query.
pub(super) fn urlencode(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Map => {
            let mut parts = Vec::new();
            for key in value.try_iter()? {
                let item = value.get_item(&key)?;
                parts.push(format!("{}={}", quoted(&key.to_string(), true), quoted(&item.to_string(), true)));
            }
            Ok(parts.join("&"))
        }
        ValueKind::Seq => {
            let mut parts = Vec::new();
            for pair in value.try_iter()? {
                let (key, item) = (pair.get_item_by_index(0)?, pair.get_item_by_index(1)?);
                parts.push(format!("{}={}", quoted(&key.to_string(), true), quoted(&item.to_string(), true)));
            }
            Ok(parts.join("&"))
        }
        _ => Ok(quoted(&value.to_string(), false)),
    }
}

/// Percent-encodes a text in a URL; in a query, blanks become `+` and `/` is not a separator.
fn quoted(text: &str, in_query: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
            b'/' if !in_query => out.push('/'),
            b' ' if in_query => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// `wordcount`: counts runs of word characters.
pub(super) fn wordcount(text: &str) -> usize {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count()
}

/// `center`: centres a text in a field of 80 characters or another width.
pub(super) fn center(text: &str, width: Option<usize>) -> String {
    let (width, length) = (width.unwrap_or(80).min(10_000), text.chars().count());
    let free = width.saturating_sub(length);
    // If the width is odd, Python puts the odd blank on the left.
    let left = free / 2 + (free & width & 1);
    format!("{}{text}{}", " ".repeat(left), " ".repeat(free - left))
}

/// `filesizeformat`: formats bytes in units of powers of 1000 or 1024.
pub(super) fn filesizeformat(bytes: f64, binary: Option<bool>) -> String {
    let binary = binary.unwrap_or(false);
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    let units = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
    if bytes == 1.0 {
        return "1 Byte".to_owned();
    }
    if bytes < base {
        return format!("{} Bytes", bytes.trunc());
    }
    let mut unit = base;
    let mut name = units[0];
    for (at, next) in units.iter().enumerate() {
        unit = base.powi(i32::try_from(at).unwrap_or(i32::MAX).saturating_add(2));
        name = next;
        if bytes < unit {
            break;
        }
    }
    let size = base * bytes / unit;
    let name = if binary { format!("{}iB", name.to_uppercase()) } else { format!("{name}B") };
    format!("{size:.1} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the filters write the same text as jinja2's.
    #[test]
    fn filters_are_jinjas() {
        assert_eq!(urlencode(&Value::from("a b/ü?&~")).unwrap(), "a%20b/%C3%BC%3F%26~");
        assert_eq!(urlencode(&Value::from_iter([("k 1", "v/&")])).unwrap(), "k+1=v%2F%26");
        assert_eq!(wordcount("Hello, my world_1!"), 3);
        assert_eq!(
            [center("ab", Some(5)), center("a", Some(4)), center("abc", Some(2))],
            ["  ab ", " a  ", "abc"]
        );
        let sizes = [1.0, 999.0, 1024.0, 1_500_000.0].map(|bytes| filesizeformat(bytes, None));
        assert_eq!(sizes, ["1 Byte", "999 Bytes", "1.0 kB", "1.5 MB"]);
        assert_eq!(filesizeformat(1024.0, Some(true)), "1.0 KiB");
    }
}
