//! Errors with their causes as one line of text.

use anyhow::Error;

/// Joins an error and its causes with colons. Leaves out a cause that an earlier message contains, since
/// library messages are complete on their own.
pub fn in_full(error: &Error) -> String {
    let mut text = String::new();
    for message in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = message;
        } else if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
    }
    text
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
    }
}
