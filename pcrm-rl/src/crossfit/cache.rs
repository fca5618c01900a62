//! A cache of judges' margins: one file per fold, keyed by content, used only if complete.
//!
//! A file is `pcrm margins 1\n`, each margin as f32, and the SHA-256 of all that; numbers are little-endian.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pcrm_core::data::encode::{EncodedComparison, EncodedSet};
use pcrm_core::digest::hex;
use pcrm_core::disk::whole;
use pcrm_core::model::weights;
use sha2::{Digest, Sha256};

use crate::train::RewardOptions;

const MAGIC: &[u8] = b"pcrm margins 1\n";
const DIGEST: usize = 32;

/// A cache of margins in a folder, or a disabled one.
#[derive(Debug, Clone, Default)]
pub struct MarginCache {
    folder: Option<PathBuf>,
}

impl MarginCache {
    /// Creates a cache in this folder, which need not exist; without a folder the cache is disabled.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Removes temporary files of killed writers.
    pub(super) fn sweep(&self) {
        let swept = self.folder.as_ref().map_or(Ok(()), |folder| whole::sweep(folder));
        if let Err(error) = swept {
            tracing::warn!("cannot remove temporary files of margins: {error}");
        }
    }

    /// Returns the margins under this key, if present. A truncated or damaged file is reported and ignored.
    pub(super) fn get(&self, key: &str, count: usize) -> Option<Vec<f32>> {
        let path = file(self.folder.as_ref()?, key);
        match fs::read(&path) {
            Ok(bytes) => {
                let margins = parse(&bytes).filter(|margins| margins.len() == count);
                if margins.is_none() {
                    tracing::warn!("{}: damaged or truncated; judging the fold again", path.display());
                }
                margins
            }
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!("{}: {error}; judging the fold again", path.display());
                }
                None
            }
        }
    }

    /// Stores margins. A file that cannot be written gives a warning.
    pub(super) fn put(&self, key: &str, margins: &[f32]) {
        let Some(folder) = &self.folder else { return };
        let mut bytes = MAGIC.to_vec();
        margins.iter().for_each(|margin| bytes.extend(margin.to_le_bytes()));
        let digest = Sha256::digest(&bytes);
        bytes.extend(digest);
        if let Err(error) = weights::write(&file(folder, key), &bytes) {
            tracing::warn!("cannot cache the judges' margins: {error}");
        }
    }
}

/// Returns a text that identifies a judge's training on any pairs: its base, and the options that affect its margins
/// by name, as resuming compares them. It does not depend on how the options are declared.
pub(super) fn setting(base: &str, options: &RewardOptions) -> String {
    format!("{base} {}", serde_json::json!(options.fingerprint()))
}

/// Returns the key of a fold's margins: a hash of the judge's setting, its training sets and the
/// sets that it judges.
pub(super) fn key(setting: &str, others: &[EncodedSet], own: &[&EncodedSet]) -> String {
    let mut hasher = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(setting.as_bytes());
    add(&(others.len() as u64).to_le_bytes());
    for set in others.iter().chain(own.iter().copied()) {
        add(&(set.answers.len() as u64).to_le_bytes());
        for answer in &set.answers {
            add(&answer.ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
        }
        let compared = |pair: &EncodedComparison| (pair.chosen, pair.rejected, pair.margin, pair.verdict);
        add(format!("{:?}", set.comparisons.iter().map(compared).collect::<Vec<_>>()).as_bytes());
    }
    hex(&hasher.finalize())
}

fn file(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("{key}.margins"))
}

fn parse(bytes: &[u8]) -> Option<Vec<f32>> {
    let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
    if Sha256::digest(content).as_slice() != digest {
        return None;
    }
    let (margins, rest) = content.strip_prefix(MAGIC)?.as_chunks::<4>();
    rest.is_empty().then(|| margins.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use pcrm_core::optim::StatePlace;

    use super::*;

    /// Protects: stored margins are read back to the bit; a file that was truncated, modified anywhere, or of
    /// another number of pairs is not used.
    #[test]
    fn whole_files_are_trusted_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let kept = MarginCache { folder: Some(folder.path().join("new")) };
        let margins: Vec<f32> = (0..9_u8).map(|at| f32::from(at).sin()).collect();
        assert_eq!(kept.get("a", 9), None);
        kept.put("a", &margins);
        assert_eq!(kept.get("a", 9), Some(margins.clone()));
        assert_eq!(kept.get("a", 8), None);
        assert_eq!(kept.get("b", 9), None);
        assert_eq!(MarginCache::default().get("a", 9), None);
        let bytes = fs::read(folder.path().join("new/a.margins")).unwrap();
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), None, "cut to {end} bytes");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(parse(&changed), None, "byte {at} changed");
        }
    }

    /// Protects: cached margins are found again if only options differ that do not affect margins, and are not if an
    /// option differs that does.
    #[test]
    fn margins_are_kept_by_the_options_that_change_them() {
        let usual = RewardOptions::default();
        let with = |change: fn(&mut RewardOptions)| {
            let mut options = usual.clone();
            change(&mut options);
            setting("base", &options)
        };
        let same: [fn(&mut RewardOptions); 3] = [
            |options| options.trainer.bucket_bytes = 1,
            |options| options.trainer.save_every = None,
            |options| options.trainer.optimizer_states = StatePlace::Host,
        ];
        for change in same {
            assert_eq!(with(change), setting("base", &usual));
        }
        let other: [fn(&mut RewardOptions); 4] = [
            |options| options.trainer.learning_rate = 3e-4,
            |options| options.trainer.lanes = 2,
            |options| options.trainer.seed = 1,
            |options| options.reward.ignore_margin = !options.reward.ignore_margin,
        ];
        for change in other {
            assert_ne!(with(change), setting("base", &usual));
        }
        assert_ne!(setting("other", &usual), setting("base", &usual));
    }
}
