//! Patterns of files in cards: `*`, `?` and `[a-z]` match characters of a name, `**` matches any folders, and `{a,b}`
//! either alternative.
//!
//! They match the files that `datasets` finds with fsspec: hidden files, and folders that begin with `__`, are found
//! only if the pattern names them. Braces, which fsspec does not know, are an addition.

use anyhow::{Result, bail, ensure};

/// The length of the longest pattern, in bytes.
const LONGEST: usize = 1024;

/// The largest number of alternatives that the braces of a pattern may expand to.
const MOST: usize = 256;

/// A pattern of files in a repository.
pub struct Pattern {
    text: String,
    /// True if the pattern matches one file only.
    pub is_name: bool,
    /// The patterns without braces.
    alternatives: Vec<Alternative>,
}

struct Alternative {
    parts: Vec<Part>,
    marks: (usize, usize),
}

/// A part of a pattern, between slashes.
enum Part {
    /// `**`: any number of folders.
    Folders,
    /// The name of a folder or file.
    Name(Vec<Token>),
}

/// A part of a name's pattern.
enum Token {
    /// `*`: any characters.
    Many,
    /// `?`: one character.
    Any,
    /// `[a-z]`, or `[!a-z]` if negated: a character within these bounds.
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// This character.
    Char(char),
}

impl Pattern {
    /// Parses a pattern that is relative to a folder of the repository.
    ///
    /// # Errors
    /// Fails if the pattern leads out of the repository or is malformed.
    pub fn new(folder: &str, pattern: &str) -> Result<Self> {
        ensure!(pattern.len() <= LONGEST, "a pattern of {} bytes; expected at most {LONGEST}", pattern.len());
        ensure!(!pattern.starts_with('/'), "the path {pattern:?} is not inside the repository");
        let text = inside(&format!("{folder}/{pattern}"))?;
        let alternatives =
            alternatives(&text)?.iter().map(|text| Alternative::new(text)).collect::<Result<_>>()?;
        Ok(Self { is_name: !text.contains(['*', '?', '[', '{']), text, alternatives })
    }

    /// Returns true if the pattern matches a file of the repository.
    pub fn matches(&self, file: &str) -> bool {
        if self.is_name {
            return file == self.text;
        }
        let parts: Vec<&str> = file.split('/').collect();
        self.alternatives.iter().any(|pattern| pattern.matches(file, &parts))
    }

    /// Returns the last part of the pattern.
    pub fn last(&self) -> &str {
        super::last(&self.text)
    }
}

impl Alternative {
    fn new(text: &str) -> Result<Self> {
        let mut parts = Vec::new();
        for part in text.split('/') {
            match part {
                "**" => parts.push(Part::Folders),
                name if name.contains("**") => {
                    bail!(
                        "the pattern {text:?} has ** within a name; expected it between slashes, as in **/*.jsonl"
                    )
                }
                name => parts.push(Part::Name(tokens(name))),
            }
        }
        if text.ends_with("**") {
            parts.push(Part::Name(vec![Token::Many]));
        }
        Ok(Self { parts, marks: marks(text) })
    }

    fn matches(&self, file: &str, parts: &[&str]) -> bool {
        let folders = |part: &Part| matches!(part, Part::Folders);
        let name = |part: &Part, name: &&str| match part {
            Part::Folders => false,
            Part::Name(tokens) => {
                let characters: Vec<char> = name.chars().collect();
                matched(tokens, &characters, |token| matches!(token, Token::Many), Token::matches)
            }
        };
        marks(file) == self.marks && matched(&self.parts, parts, folders, name)
    }
}

impl Token {
    fn matches(&self, character: &char) -> bool {
        match self {
            Self::Many => false,
            Self::Any => true,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(from, to)| (from..=to).contains(&character)) != *negated
            }
            Self::Char(own) => own == character,
        }
    }
}

/// Matches a sequence with a pattern whose parts each match `one` item or `many`.
fn matched<P, T>(
    pattern: &[P],
    items: &[T],
    many: impl Fn(&P) -> bool,
    one: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut at, mut item) = (0, 0);
    // The last part that matches many items, and the first item after those that it matches so far.
    let mut last = None;
    while item < items.len() {
        match pattern.get(at) {
            Some(part) if many(part) => {
                last = Some((at, item));
                at += 1;
            }
            Some(part) if one(part, &items[item]) => {
                at += 1;
                item += 1;
            }
            _ => match last {
                Some((part, behind)) => {
                    last = Some((part, behind + 1));
                    at = part + 1;
                    item = behind + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(many)
}

/// Parses the pattern of a name. A bracket that is not closed matches itself.
fn tokens(name: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        tokens.push(match first {
            '*' => Token::Many,
            '?' => Token::Any,
            '[' => match class(rest) {
                Some((class, behind)) => {
                    rest = behind;
                    class
                }
                None => Token::Char('['),
            },
            other => Token::Char(other),
        });
    }
    tokens
}

/// Parses the characters after an opening bracket; returns the class and the text behind it.
fn class(text: &str) -> Option<(Token, &str)> {
    let inner = text.strip_prefix('!').unwrap_or(text);
    let negated = inner.len() < text.len();
    // A bracket that comes first belongs to the class.
    let first = inner.chars().next()?.len_utf8();
    let end = first + inner.get(first..)?.find(']')?;
    let characters: Vec<char> = inner[..end].chars().collect();
    let (mut ranges, mut at) = (Vec::new(), 0);
    while at < characters.len() {
        let from = characters[at];
        let (to, length) = match characters.get(at + 1..at + 3) {
            Some(['-', to]) => (*to, 3),
            _ => (from, 1),
        };
        ranges.push((from, to));
        at += length;
    }
    Some((Token::Class { negated, ranges }, &inner[end + 1..]))
}

/// Expands the braces of a pattern to all alternatives. Braces without a comma match themselves.
fn alternatives(pattern: &str) -> Result<Vec<String>> {
    let (mut found, mut open) = (Vec::new(), vec![pattern.to_owned()]);
    while let Some(text) = open.pop() {
        match text.match_indices('{').find_map(|(at, _)| braces(&text, at)) {
            Some((before, inner, behind)) => {
                open.extend(inner.iter().rev().map(|one| format!("{before}{one}{behind}")));
            }
            None => found.push(text),
        }
        ensure!(
            found.len() + open.len() <= MOST,
            "the pattern {pattern:?} has too many alternatives; expected at most {MOST}"
        );
    }
    Ok(found)
}

/// Returns the text before the brace at this byte, the alternatives in it, and the text behind it.
fn braces(text: &str, at: usize) -> Option<(&str, Vec<&str>, &str)> {
    let (mut depth, mut start, mut inner) = (0, at + 1, Vec::new());
    for (place, character) in text[at..].char_indices().map(|(place, character)| (at + place, character)) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || depth == 1 && character == ',' {
            inner.push(&text[start..place]);
            start = place + 1;
        }
        if depth == 0 {
            return (inner.len() > 1).then(|| (&text[..at], inner, &text[start..]));
        }
    }
    None
}

/// Returns a path in a repository without `.` and empty parts.
///
/// # Errors
/// Fails for an address, a file in an archive, and a path that leads out of the repository.
pub fn inside(path: &str) -> Result<String> {
    if path.contains("://") || path.contains("::") || path.split('/').any(|part| part == "..") {
        bail!("the path {:?} is not inside the repository", path.trim_start_matches('/'));
    }
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    Ok(parts.collect::<Vec<_>>().join("/"))
}

/// Returns the numbers of hidden parts and of special folders in a path or a pattern.
fn marks(path: &str) -> (usize, usize) {
    let hidden = path.split('/').filter(|part| part.starts_with('.')).count();
    let special = path.rsplit('/').skip(1).filter(|folder| folder.starts_with("__")).count();
    (hidden, special)
}

#[cfg(test)]
mod tests;
