//! Replies that were paid for: kept by content, a line each, as they come.
//!
//! A key is the SHA-256 of everything that a reply follows from ([`super::Judge::content`]). The words are kept and not the
//! verdict, which is read from them each time. A line that a killed process left half-written is skipped, and one
//! whose own hash does not confirm it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use pcrm_core::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Words;
use crate::error::Result;

/// The name of the file in its folder.
const NAME: &str = "verdicts.jsonl";

/// Replies on disk.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    file: File,
    words: HashMap<String, Words>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    key: String,
    words: Words,
    sum: String,
}

impl Kept {
    /// Reads the replies in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// A folder that cannot be made or written to.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let failed = pcrm_core::Error::io(&path);
        let open = || -> std::io::Result<(File, HashMap<String, Words>)> {
            std::fs::create_dir_all(dir)?;
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            let mut words = HashMap::new();
            let (mut ends, mut damaged) = (true, 0);
            let mut reader = BufReader::new(&file);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line)? > 0 {
                ends = line.last() == Some(&b'\n');
                match serde_json::from_slice::<Line>(&line).ok().filter(Line::is_whole) {
                    Some(found) => drop(words.insert(found.key, found.words)),
                    None => damaged += 1,
                }
                line.clear();
            }
            if damaged > 0 {
                tracing::warn!(
                    "{}: {damaged} lines are damaged or cut short and are skipped",
                    path.display()
                );
            }
            file.seek(SeekFrom::End(0))?;
            if !ends {
                file.write_all(b"\n")?;
            }
            Ok((file, words))
        };
        let (file, words) = open().map_err(failed)?;
        Ok(Self { path, file, words })
    }

    /// Returns the key of everything that a reply follows from.
    pub fn key(content: &Value) -> String {
        digest::text(&content.to_string())
    }

    /// Returns the reply under a key.
    pub fn get(&self, key: &str) -> Option<&Words> {
        self.words.get(key)
    }

    /// Keeps a reply: it is in the file when this returns.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn keep(&mut self, key: &str, words: Words) -> Result<()> {
        let sum = Line::sum(key, &words);
        let line = Line { key: key.to_owned(), words: words.clone(), sum };
        let text = serde_json::to_string(&line).unwrap_or_default() + "\n";
        self.file.write_all(text.as_bytes()).map_err(pcrm_core::Error::io(&self.path))?;
        self.words.insert(key.to_owned(), words);
        Ok(())
    }
}

impl Line {
    fn sum(key: &str, words: &Words) -> String {
        let words = serde_json::to_string(words).unwrap_or_default();
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(format!("{key}{words}").as_bytes()))
    }

    fn is_whole(&self) -> bool {
        self.sum == Self::sum(&self.key, &self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Usage;
    use super::*;

    /// Protects: replies are found again by another process, a torn line costs itself alone, a changed one is skipped.
    #[test]
    fn replies_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let words =
            |text: &str| Words { text: text.to_owned(), usage: Usage { calls: 1, input: 7, output: 2 } };
        let mut kept = Kept::open(dir.path()).unwrap();
        kept.keep("a", words("[[A]]")).unwrap();
        kept.keep("b", words("[[B]]\nwith \"quotes\"")).unwrap();
        drop(kept);
        let path = dir.path().join(NAME);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{}", &whole[..40])).unwrap();
        let mut kept = Kept::open(dir.path()).unwrap();
        assert_eq!(kept.get("b"), Some(&words("[[B]]\nwith \"quotes\"")));
        kept.keep("c", words("[[A]]")).unwrap();
        drop(kept);
        let kept = Kept::open(dir.path()).unwrap();
        assert!(kept.get("a").is_some() && kept.get("c").is_some());
        std::fs::write(&path, whole.replacen("[[A]]", "[[B]]", 1)).unwrap();
        let kept = Kept::open(dir.path()).unwrap();
        assert!(kept.get("a").is_none() && kept.get("b").is_some());
        assert_ne!(Kept::key(&serde_json::json!({"a": 1})), Kept::key(&serde_json::json!({"a": 2})));
    }
}
