//! Escapes text from files for display in a terminal.

use std::borrow::Cow;

/// Escapes all characters that control a terminal or reorder text: C0 and C1 control characters except line
/// feeds and tabs, DEL, and the marks, embeddings, overrides and isolates of bidirectional text (Unicode
/// Standard Annex 9).
///
/// The escapes are JSON's (`\u001b`), so JSON keeps its meaning.
pub fn visible(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(is_obeyed) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        match is_obeyed(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Escapes a text like [`visible`], on one line: for names within other words, which could imitate a separate
/// message.
pub fn visible_line(text: &str) -> Cow<'_, str> {
    match text.contains(['\n', '\t']) {
        true => Cow::Owned(visible(text).replace('\n', "\\n").replace('\t', "\\t")),
        false => visible(text),
    }
}

fn is_obeyed(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: no character that controls a terminal passes, and all other text passes unchanged.
    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(visible("\u{1b}]0;PWN\u{7}\u{1b}[2J"), "\\u001b]0;PWN\\u0007\\u001b[2J");
        assert_eq!(visible("a\u{9b}31m\u{7f}\r\u{0}"), "a\\u009b31m\\u007f\\u000d\\u0000");
        assert_eq!(visible("\u{202e}txt\u{2066}\u{200f}\u{61c}"), "\\u202etxt\\u2066\\u200f\\u061c");
        for text in ["", "plain\n\tlines", "Grüße, 世界 👩‍🚀 שלום", "\u{feff}\u{200b}\u{a0}"] {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text), "{text}");
        }
        assert_eq!(visible_line("a\nerror: b\t\u{1b}"), "a\\nerror: b\\t\\u001b");
    }

    /// Protects: JSON keeps its meaning when it is escaped.
    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({"a\u{9b}\u{202e}": ["\u{1b}[2J", "\u{85}", "é\u{7f}"]});
        let text = serde_json::to_string_pretty(&value).unwrap_or_default();
        let shown = visible(&text);
        assert!(shown.chars().all(|c| !is_obeyed(c)) && shown != text);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).ok(), Some(value));
    }
}
