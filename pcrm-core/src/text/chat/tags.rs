//! Finds the tags of a template and the code in them.

use std::ops::Range;

/// A tag with code: `{{ .. }}` or `{% .. %}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    /// The range of the code between the marks, including whitespace control.
    pub code: Range<usize>,
    /// `}}` or `%}`; the source may end before it.
    pub close: &'static str,
}

impl Tag {
    /// Returns the first word of a block; empty for an expression.
    pub fn word<'a>(&self, source: &'a str) -> &'a str {
        if self.close != "%}" {
            return "";
        }
        let code =
            source[self.code.clone()].trim_start_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        &code[..end_of_name(code, 0)]
    }
}

/// Lists the tags of a template in order, ignoring comments and raw blocks.
pub(super) fn tags(source: &str) -> Vec<Tag> {
    let (mut all, mut at) = (Vec::new(), 0);
    while let Some(open) = next_open(source, at) {
        let close = match &source[open..open + 2] {
            "{{" => "}}",
            "{%" => "%}",
            _ => {
                at = source[open..].find("#}").map_or(source.len(), |end| open + end + 2);
                continue;
            }
        };
        let end = open + 2 + end_of_block(&source[open + 2..], close);
        let tag = Tag { code: open + 2..end, close };
        at = source.len().min(end + close.len());
        if tag.word(source) == "raw" {
            at = source[at..].find("endraw").map_or(source.len(), |found| at + found);
        }
        all.push(tag);
    }
    all
}

/// Returns the offset of the next opening mark, starting at `at`.
pub(super) fn next_open(source: &str, at: usize) -> Option<usize> {
    let is_mark = |found: &usize| matches!(source.as_bytes().get(found + 1), Some(b'{' | b'%' | b'#'));
    source[at..].match_indices('{').map(|(found, _)| at + found).find(is_mark)
}

/// Returns the end of a block's code: its closing mark outside text literals.
fn end_of_block(code: &str, close: &str) -> usize {
    let mut at = 0;
    while at < code.len() {
        match code.as_bytes()[at] {
            b'\'' | b'"' => at = end_of_text(code, at),
            _ if code.as_bytes()[at..].starts_with(close.as_bytes()) => return at,
            _ => at += 1,
        }
    }
    code.len()
}

/// Returns the end of the text literal that begins at `at`.
pub(super) fn end_of_text(code: &str, at: usize) -> usize {
    let quote = code.as_bytes()[at];
    let mut end = at + 1;
    while end < code.len() {
        match code.as_bytes()[end] {
            b'\\' => end += 2,
            byte if byte == quote => return end + 1,
            _ => end += 1,
        }
    }
    code.len()
}

/// Returns the end of an operand: a name, number, text or bracket, with the calls, indices and filters after
/// it.
pub(super) fn end_of_operand(code: &str, from: usize) -> Option<usize> {
    let first = code.get(from..)?.chars().next()?;
    let mut at = match first {
        '(' | '[' | '{' => end_of_brackets(code, from)?,
        '\'' | '"' => end_of_text(code, from),
        _ if first.is_alphanumeric() || first == '_' => end_of_name(code, from),
        _ => return None,
    };
    loop {
        let next = skip_blanks(code, at);
        at = match code.as_bytes().get(next) {
            Some(b'(' | b'[') if next == at => end_of_brackets(code, next)?,
            Some(b'.') => end_of_name(code, next + 1),
            Some(b'|') => end_of_name(code, skip_blanks(code, next + 1)),
            _ => return Some(at),
        };
    }
}

pub(super) fn end_of_name(code: &str, from: usize) -> usize {
    let name = code[from..].find(|c: char| !(c.is_alphanumeric() || c == '_'));
    name.map_or(code.len(), |length| from + length)
}

pub(super) fn skip_blanks(code: &str, at: usize) -> usize {
    code.len() - code.get(at..).unwrap_or_default().trim_start().len()
}

/// Returns the position after the bracket that closes the one at `from`.
pub(super) fn end_of_brackets(code: &str, from: usize) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, from);
    while at < code.len() {
        match code.as_bytes()[at] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
            b'\'' | b'"' => {
                at = end_of_text(code, at);
                continue;
            }
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: code is found where jinja finds it, not in comments, raw blocks and text literals.
    #[test]
    fn tags_are_found() {
        let source = "{{ '}}' }}{# {{ a }} #}{%- raw %}{{ b }}{% endraw %}{ x {%+ for é in ['%}'] -%}{% open";
        let found = tags(source);
        let codes: Vec<&str> = found.iter().map(|tag| &source[tag.code.clone()]).collect();
        assert_eq!(codes, [" '}}' ", "- raw ", "+ for é in ['%}'] -", " open"]);
        let words: Vec<&str> = found.iter().map(|tag| tag.word(source)).collect();
        assert_eq!(words, ["", "raw", "for", "open"]);
    }
}
