//! Local paths in texts, and the names that replace them.
//!
//! A word is a local path if the run's records name it as one, if it begins with `~/`, `file://` or a drive
//! letter, or if it is absolute and its first folder exists on this machine. A path into the Hub's cache
//! becomes the name of the repository, any other path its last component.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::origins::Origins;
use crate::hub::CachedPath;

/// Characters that end a path in a text.
const ENDS: &str = " \t\r\n\"'`<>|()[]{},;";

/// The local paths of a run.
pub struct Paths {
    /// Relative paths from the run's records.
    known: BTreeSet<String>,
}

impl Paths {
    /// Returns the paths of a run in this folder.
    pub fn of(run: &Path, origins: &Origins) -> Self {
        let own = run.to_str().map(str::to_owned);
        let relative = |path: &String| path.contains('/') && !path.starts_with('/');
        Self { known: origins.paths.iter().cloned().chain(own).filter(relative).collect() }
    }

    /// Returns true if the whole text is a local path.
    pub fn is_local(&self, text: &str) -> bool {
        !text.is_empty() && !text.contains(|c| "\n\"`<>|".contains(c)) && self.is_path(text)
    }

    /// Replaces the local paths in a text.
    pub fn replaced(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c| ENDS.contains(c)).unwrap_or(rest.len());
            let word = &rest[..end];
            // A full stop or a colon after a path ends the sentence.
            let path = word.trim_end_matches(['.', ':', '!', '?']);
            match self.is_path(path) {
                true => {
                    out.push_str(&name(path));
                    out.push_str(&word[path.len()..]);
                }
                false => out.push_str(word),
            }
            let next = rest[end..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[end..end + next]);
            rest = &rest[end + next..];
        }
        out
    }

    /// Replaces strings that are local paths in a JSON value.
    pub fn replaced_in(&self, value: &Value) -> Value {
        match value {
            Value::String(text) if self.is_local(text) => name(text).into(),
            Value::Array(values) => values.iter().map(|value| self.replaced_in(value)).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(key, value)| (key.clone(), self.replaced_in(value))).collect()
            }
            value => value.clone(),
        }
    }

    fn is_path(&self, word: &str) -> bool {
        let drive = word.as_bytes();
        let drive = drive.len() > 3
            && drive[0].is_ascii_alphabetic()
            && drive[1] == b':'
            && [b'\\', b'/'].contains(&drive[2])
            && drive[3] != b'/';
        let absolute = word.strip_prefix('/').and_then(|rest| {
            let (first, rest) = rest.split_once('/')?;
            let inside = !first.is_empty() && !rest.is_empty() && !first.starts_with('/');
            inside.then(|| Path::new("/").join(first).is_dir())
        });
        self.known.contains(word)
            || word.starts_with("~/")
            || word.starts_with("file://")
            || drive
            || absolute == Some(true)
    }
}

/// Returns the name that replaces a path.
fn name(path: &str) -> String {
    if let Some(cached) = CachedPath::of(Path::new(path)) {
        return cached.repository;
    }
    let last = path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next();
    last.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths() -> Paths {
        Paths { known: BTreeSet::from(["runs/base".to_owned(), "../data/a.jsonl".to_owned()]) }
    }

    /// Protects: a path on this machine becomes a name; addresses, ratios and other words do not change.
    #[test]
    fn local_paths_become_names() {
        let replaced = |text: &str| paths().replaced(text);
        assert_eq!(replaced("from `/usr/share/model`, see runs/base."), "from `model`, see base.");
        assert_eq!(replaced("| ~/rm | C:\\models\\rm | ../data/a.jsonl |"), "| rm | rm | a.jsonl |");
        let cached = "/usr/hub/models--acme--nano/snapshots/0123abc";
        assert_eq!(replaced(&format!("({cached})")), "(acme/nano)");
        for text in
            ["https://hf.co/usr/share", "and/or", "a / b", "/nowhere/else", "1/2", "acme/nano", "//", "/"]
        {
            assert_eq!(replaced(text), text);
        }
    }

    /// Protects: only whole strings of settings are replaced, at any depth.
    #[test]
    fn settings_lose_their_paths() {
        let before = json!({"a": {"path": "/usr/share/minilm"}, "b": ["~/x", 1], "c": "see /usr/share\n"});
        let after = json!({"a": {"path": "minilm"}, "b": ["x", 1], "c": "see /usr/share\n"});
        assert_eq!(paths().replaced_in(&before), after);
    }
}
