//! The end of an answer.

use std::collections::BTreeSet;
use std::fmt::{self, Debug};

use super::Finish;

/// The text of tokens.
pub type Decode<'a> = dyn Fn(&[u32]) -> String + 'a;

/// The ends of an answer besides its length.
#[derive(Default)]
pub struct Stop<'a> {
    /// Tokens.
    pub ids: BTreeSet<u32>,
    /// Strings; they may begin and end inside tokens.
    strings: Vec<String>,
    decode: Option<&'a Decode<'a>>,
}

impl Debug for Stop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stop {:?} {:?}", self.ids, self.strings)
    }
}

impl<'a> Stop<'a> {
    /// Ends answers at these tokens.
    pub fn at(ids: impl IntoIterator<Item = u32>) -> Self {
        Self { ids: ids.into_iter().collect(), ..Self::default() }
    }

    /// Ends answers as soon as their text has one of these strings; `decode` gives the text of tokens.
    pub fn and_strings(mut self, strings: &[String], decode: &'a Decode<'a>) -> Self {
        self.strings = strings.iter().filter(|string| !string.is_empty()).cloned().collect();
        self.decode = Some(decode);
        self
    }

    /// Returns the end that the last token makes.
    pub(super) fn finish(&self, ids: &[u32], max_tokens: usize) -> Option<Finish> {
        let last = ids.last()?;
        if self.ids.contains(last) {
            return Some(Finish::Token(*last));
        }
        if let Some(decode) = self.decode {
            // A token has at least a byte, but for some special ones.
            let longest = self.strings.iter().map(String::len).max().unwrap_or(0) + 8;
            let tail = decode(&ids[ids.len().saturating_sub(longest)..]);
            if let Some(string) = self.strings.iter().find(|string| tail.contains(*string)) {
                return Some(Finish::Text(string.clone()));
            }
        }
        (ids.len() >= max_tokens).then_some(Finish::Length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: an answer ends at any of the tokens, at a string that spans tokens, and at its length, in that order.
    #[test]
    fn answers_end_at_tokens_strings_and_their_length() {
        let decode = |ids: &[u32]| ids.iter().map(|id| ["a", "b\nHu", "man:", "c"][*id as usize]).collect();
        let stop = Stop::at([3, 9]).and_strings(&["\nHuman:".into(), String::new()], &decode);
        assert_eq!(stop.finish(&[0, 1], 5), None);
        assert_eq!(stop.finish(&[0, 1, 2], 5), Some(Finish::Text("\nHuman:".into())));
        assert_eq!(stop.finish(&[0, 0, 3], 3), Some(Finish::Token(3)));
        assert_eq!(stop.finish(&[0, 0, 0], 3), Some(Finish::Length));
        assert_eq!(Stop::at([3]).finish(&[0, 1, 2], 5), None);
    }
}
