//! A cache of log-probabilities: files of answers, keyed by content, used only if complete.
//!
//! Each model has a folder with files of answers. A file is `pcrm logprobs 1\n`, then for every answer a hash
//! of its tokens (32 bytes), the number of its log-probabilities (u32) and these (f32), and the SHA-256 of
//! all that; numbers are little-endian.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pcrm_core::data::encode::{EncodedAnswer, EncodedSet};
use pcrm_core::digest::{self, hex};
use pcrm_core::model::weights;
use sha2::{Digest, Sha256};

use crate::answers::predicted;

const MAGIC: &[u8] = b"pcrm logprobs 1\n";
const DIGEST: usize = 32;
const ENDING: &str = "logprobs";
/// The number of new log-probabilities after which they are written, so that a stopped run loses little.
const AT_ONCE: usize = 1 << 20;

type Key = [u8; DIGEST];

/// A cache of log-probabilities in a folder, or a disabled one.
#[derive(Debug, Clone, Default)]
pub struct LogProbCache {
    folder: Option<PathBuf>,
}

impl LogProbCache {
    /// Creates a cache in this folder, which need not exist; without a folder the cache is disabled.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Reads the cached log-probabilities of the model identified by `setting`. A damaged file is reported
    /// and ignored.
    pub(super) fn open(&self, setting: &str) -> ModelLogProbs {
        let folder = self.folder.as_ref().map(|folder| folder.join(digest::text(setting)));
        let mut known = HashMap::new();
        if let Some(folder) = &folder {
            for path in files(folder) {
                match fs::read(&path).ok().and_then(|bytes| parse(&bytes)) {
                    Some(answers) => known.extend(answers),
                    None => tracing::warn!(
                        "{}: damaged or truncated; recomputing its log-probabilities",
                        path.display()
                    ),
                }
            }
        }
        ModelLogProbs { folder, known, new: Vec::new(), unwritten: 0 }
    }
}

/// The cached log-probabilities of one model.
pub(super) struct ModelLogProbs {
    folder: Option<PathBuf>,
    known: HashMap<Key, Vec<f32>>,
    new: Vec<(Key, Vec<f32>)>,
    unwritten: usize,
}

impl ModelLogProbs {
    /// Returns the log-probabilities of all answers of a set, if all are cached.
    pub fn of_set(&self, set: &EncodedSet) -> Option<Vec<Vec<f32>>> {
        if self.known.is_empty() {
            return None;
        }
        let of = |answer| self.known.get(&key(answer)).filter(|kept| kept.len() == predicted(answer).len());
        set.answers.iter().map(|answer| of(answer).cloned()).collect()
    }

    /// Stores the log-probabilities of a set's answers.
    pub fn put_set(&mut self, set: &EncodedSet, log_probs: &[Vec<f32>]) {
        if self.folder.is_none() {
            return;
        }
        for (answer, log_probs) in set.answers.iter().zip(log_probs) {
            self.unwritten += log_probs.len();
            self.new.push((key(answer), log_probs.clone()));
        }
        if self.unwritten >= AT_ONCE {
            self.flush();
        }
    }

    /// Writes new entries. A file that cannot be written gives a warning.
    pub fn flush(&mut self) {
        let new = std::mem::take(&mut self.new);
        self.unwritten = 0;
        let Some(folder) = self.folder.as_ref().filter(|_| !new.is_empty()) else { return };
        let mut bytes = MAGIC.to_vec();
        for (key, log_probs) in &new {
            bytes.extend(key);
            bytes.extend((log_probs.len() as u32).to_le_bytes());
            log_probs.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        }
        let digest = Sha256::digest(&bytes);
        bytes.extend(digest);
        let path = folder.join(format!("{}.{ENDING}", hex(&digest[..16])));
        if let Err(error) = weights::write(&path, &bytes) {
            tracing::warn!("cannot cache log-probabilities of the reference: {error}");
        }
    }
}

/// Returns a hash of an answer's tokens and of its start.
fn key(answer: &EncodedAnswer) -> Key {
    let mut hasher = Sha256::new();
    hasher.update((predicted(answer).start as u64).to_le_bytes());
    answer.ids.iter().for_each(|id| hasher.update(id.to_le_bytes()));
    hasher.finalize().into()
}

/// Returns the files of a model, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!("{}: {error}; recomputing the reference", folder.display());
            }
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == ENDING));
    files.sort();
    files
}

fn parse(bytes: &[u8]) -> Option<Vec<(Key, Vec<f32>)>> {
    let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
    if Sha256::digest(content).as_slice() != digest {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    let mut answers = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_first_chunk::<DIGEST>()?;
        let (count, after) = after.split_first_chunk::<4>()?;
        let (numbers, after) = after.split_at_checked(4 * u32::from_le_bytes(*count) as usize)?;
        let (numbers, _) = numbers.as_chunks::<4>();
        answers.push((*key, numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()));
        rest = after;
    }
    Some(answers)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pcrm_core::data::preference::{Comparison, Origin};

    use super::*;

    fn set(answer: u32) -> EncodedSet {
        let origin = Origin { file: Arc::from(Path::new("x")), line: 1, record: 1 };
        let answers = [vec![answer, 9], vec![5]];
        EncodedSet::of_tokens(origin, &[1, 2], &answers, &[Comparison::preferring(0, 1)]).unwrap()
    }

    /// Protects: log-probabilities are read back to the bit by the answer's tokens, for the same model only;
    /// a file that was truncated or modified anywhere is not used.
    #[test]
    fn whole_files_are_trusted_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let cache = LogProbCache::new(Some(folder.path().join("new")));
        let numbers = vec![vec![-0.1, -7.25], vec![-3.0]];
        let mut kept = cache.open("model a");
        assert_eq!(kept.of_set(&set(7)), None);
        kept.put_set(&set(7), &numbers);
        kept.flush();
        kept.flush();
        assert_eq!(cache.open("model a").of_set(&set(7)), Some(numbers));
        assert_eq!(cache.open("model a").of_set(&set(8)), None);
        assert_eq!(cache.open("model b").of_set(&set(7)), None);
        assert_eq!(LogProbCache::default().open("model a").of_set(&set(7)), None);
        let path = files(&folder.path().join("new").join(digest::text("model a"))).remove(0);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(parse(&bytes).map(|answers| answers.len()), Some(2));
        for at in 0..bytes.len() {
            assert_eq!(parse(&bytes[..at]), None, "cut to {at} bytes");
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(parse(&changed), None, "byte {at} changed");
        }
        fs::write(&path, &bytes[..40]).unwrap();
        assert_eq!(cache.open("model a").of_set(&set(7)), None);
    }
}
