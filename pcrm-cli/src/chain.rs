//! Errors with their causes as one line of text.

use anyhow::Error;

/// Joins an error and its causes with colons. Leaves out a cause that an earlier message contains, since
/// library messages are complete on their own, and a path that ends one message and begins the next.
pub fn in_full(error: &Error) -> String {
    let mut text = String::new();
    for message in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = message;
        } else if !text.contains(&message) {
            let rest = match message.split_once(": ") {
                Some((place, rest)) if ends_with_word(&text, place) => rest,
                _ => message.as_str(),
            };
            text = format!("{text}: {rest}");
        }
    }
    text
}

fn ends_with_word(text: &str, word: &str) -> bool {
    text.strip_suffix(word).is_some_and(|before| before.is_empty() || before.ends_with(' '))
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::anyhow;

    use super::*;

    /// Protects: every cause is printed exactly once.
    #[test]
    fn causes_are_printed_once() {
        let system = || io::Error::from(io::ErrorKind::NotFound);
        let library = pcrm_core::Error::io("a.json")(system());
        let whole = in_full(&Error::from(library).context("reading the model"));
        assert_eq!(whole, format!("reading the model: a.json: {}", system()));
        assert_eq!(in_full(&anyhow!("b").context("a")), "a: b");
        let at = |place: &'static str| in_full(&anyhow!("runs/rm: has no head").context(place));
        assert_eq!(at("--model runs/rm"), "--model runs/rm: has no head");
        assert_eq!(at("--model my-runs/rm"), "--model my-runs/rm: runs/rm: has no head");
    }
}
