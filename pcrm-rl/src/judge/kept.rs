//! A cache of paid replies on disk, keyed by content, one per line, written as they arrive.
//!
//! A key is the SHA-256 of everything that determines a reply ([`super::Judge::content`]). The file has the
//! judge's words rather than the verdict, which is read from them each time. A line is skipped if a killed
//! process left it incomplete or its hash does not match.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use pcrm_core::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Words;
use crate::error::Result;

/// The file name in the cache's folder.
const NAME: &str = "verdicts.jsonl";

/// A cache of replies on disk.
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
    /// Opens the cache in a folder, which is created if needed.
    ///
    /// # Errors
    /// Fails if the folder cannot be created or written to.
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
                tracing::warn!("{}: skipped {damaged} damaged or truncated lines", path.display());
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

    /// Returns the key of the content that determines a reply.
    pub fn key(content: &Value) -> String {
        digest::text(&content.to_string())
    }

    /// Returns the reply with this key.
    pub fn get(&self, key: &str) -> Option<&Words> {
        self.words.get(key)
    }

    /// Adds a reply and writes it to the file before returning.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
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

    /// Protects: another process finds the replies again, a torn line loses only itself, and a modified line
    /// is skipped.
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
