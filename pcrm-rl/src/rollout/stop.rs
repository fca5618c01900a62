//! Stop conditions of answers.

use std::collections::BTreeSet;
use std::fmt::{self, Debug};

use super::Finish;

/// A function that decodes tokens to text.
pub type Decode<'a> = dyn Fn(&[u32]) -> String + 'a;

/// The stop conditions of an answer besides its length.
#[derive(Default)]
pub struct Stop<'a> {
    /// Stop tokens.
    pub ids: BTreeSet<u32>,
    /// Stop strings; they may begin and end inside tokens.
    strings: Vec<String>,
    decode: Option<&'a Decode<'a>>,
}

impl Debug for Stop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stop {:?} {:?}", self.ids, self.strings)
    }
}

impl<'a> Stop<'a> {
    /// Creates stop conditions from tokens.
    pub fn at(ids: impl IntoIterator<Item = u32>) -> Self {
        Self { ids: ids.into_iter().collect(), ..Self::default() }
    }

    /// Adds stop strings, which end an answer as soon as its text contains one; `decode` decodes tokens to
    /// text.
    pub fn and_strings(mut self, strings: &[String], decode: &'a Decode<'a>) -> Self {
        self.strings = strings.iter().filter(|string| !string.is_empty()).cloned().collect();
        self.decode = Some(decode);
        self
    }

    /// Returns the reason if the last token ends the answer.
    pub(super) fn finish(&self, ids: &[u32], max_tokens: usize) -> Option<Finish> {
        let last = ids.last()?;
        if self.ids.contains(last) {
            return Some(Finish::Token(*last));
        }
        if let Some(decode) = self.decode {
            // A token has at least one byte, except for some special ones.
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

    /// Protects: an answer ends at a stop token, at a string that spans tokens, or at its length, in that
    /// order.
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
