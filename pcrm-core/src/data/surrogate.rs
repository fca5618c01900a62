//! Halves of surrogate pairs in JSON: `"\ud83d"` without its second half, which Python writes for a text that was
//! cut within a character. It stands for no character, so JSON parsers refuse it.

/// Explains a parser's message about an escape in a JSON text, if the text has half of a surrogate pair.
pub fn explained(message: &str, text: &str) -> Option<String> {
    let half = lone(text).filter(|_| message.contains("hex escape"))?;
    Some(format!("half of a surrogate pair ({half}), which is no character"))
}

/// Returns the first escape in a JSON text that is half of a surrogate pair and has no other half beside it.
fn lone(text: &str) -> Option<&str> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    };
    let mut at = 0;
    while let Some(next) = text[at..].find('\\') {
        at += next;
        let is_second = |at: usize| unit(at).is_some_and(|unit| (0xDC00..0xE000).contains(&unit));
        match unit(at) {
            Some(0xD800..0xDC00) if is_second(at + 6) => at += 12,
            Some(0xD800..0xE000) => return text.get(at..at + 6),
            Some(_) => at += 6,
            // Another escape, such as a backslash itself.
            None => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a half without its other half is found, whole pairs and escaped backslashes are not halves.
    #[test]
    fn halves_are_found() {
        for (text, half) in [
            (r#"{"a": "x\ud83d"}"#, Some(r"\ud83d")),
            (r#"{"a": "\ud83d\ude00 \udE00"}"#, Some(r"\udE00")),
            (r#"{"a": "\ud83d\ud83d\ude00"}"#, Some(r"\ud83d")),
            (r#"{"a": "\ud83d\ude00 \u00e9 \\ud83d é"}"#, None),
            (r#"{"a": "\"#, None),
            (r#"{"a": "\u12"}"#, None),
        ] {
            assert_eq!(lone(text), half, "{text}");
            let error = serde_json::from_str::<serde_json::Value>(text).err().map(|error| error.to_string());
            let said = error.and_then(|error| explained(&error, text));
            assert_eq!(said.is_some(), half.is_some(), "{text}: {said:?}");
        }
    }
}
