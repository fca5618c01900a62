//! A folder as sentence-transformers writes it: tokenizer, how tokens' vectors are pooled, whether the result is
//! normalised. Weights are the encoder's that reads it.

mod layout;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use pcrm_core::text::{Tokenizer, TruncatedTokenizer};
use pcrm_core::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::layout::Layout;
use crate::pooling::{Pooling, normalize};

/// Which folder, and what stands in for its own files or overrides them; the configuration of every encoder that
/// reads such folders.
///
/// As data: `{"path": "all-MiniLM-L6-v2", "pooling": "mean", "normalize": true, "max_tokens": 256}`, all but the
/// path optional.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderOptions {
    /// The folder.
    pub path: PathBuf,
    /// Instead of `1_Pooling/config.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Whether vectors get length 1, instead of whether `modules.json` has a `Normalize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// The most tokens of a text, special ones included, instead of the folder's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
}

/// A folder that was read.
#[derive(Debug)]
pub struct SentenceFolder {
    layout: Layout,
    tokenizer: TruncatedTokenizer,
    tokenizer_files: Vec<(String, [u8; 32])>,
}

impl SentenceFolder {
    /// Reads all but the weights.
    ///
    /// # Errors
    /// A folder that is none, files that are malformed, modules and poolings that are not served (named), no
    /// tokenizer, no limit of tokens. A folder that does not say how to pool is refused by
    /// [`SentenceFolder::pooling`] alone: a graph may do it itself.
    pub fn open(options: &FolderOptions) -> Result<Self> {
        let layout = Layout::read(options)?;
        let tokenizer = Tokenizer::from_dir(&layout.transformer)?;
        let tokenizer_files =
            tokenizer.files().map(|(name, bytes)| (name.to_owned(), Sha256::digest(bytes).into())).collect();
        Ok(Self { tokenizer: tokenizer.truncated(layout.max_tokens)?, tokenizer_files, layout })
    }

    /// Where the transformer's own files are: `config.json`, weights, tokenizer.
    pub fn transformer(&self) -> &Path {
        &self.layout.transformer
    }

    /// The most tokens of a text.
    pub fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    /// How tokens' vectors become one.
    ///
    /// # Errors
    /// The folder does not say, and neither did the options.
    pub fn pooling(&self) -> Result<Pooling> {
        self.layout.pooling.ok_or_else(|| {
            Error::file(
                &self.layout.root,
                "no pooling configuration: looked for a Pooling module in modules.json and for \
                 1_Pooling/config.json, as sentence-transformers writes them; expected one, or \"pooling\": \"cls\", \
                 \"mean\", \"max\" or \"lasttoken\" in the encoder's own configuration",
            )
        })
    }

    /// Token ids of texts, in order, on all threads of rayon.
    ///
    /// # Errors
    /// Those of the tokenizer, and a text without tokens.
    pub fn tokens(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>> {
        let encode = |text: &&str| {
            let begins = || text.chars().take(80).collect::<String>();
            let ids = self.tokenizer.encode(&self.layout.prepared(text)).map_err(|error| match error {
                Error::Text(message) => Error::Text(format!("{message} (it begins {:?})", begins())),
                other => other,
            })?;
            match ids.is_empty() {
                true => Err(Error::Tokenizer(format!(
                    "no tokens for the text {:?}, expected at least one",
                    begins()
                ))),
                false => Ok(ids),
            }
        };
        texts.par_iter().map(encode).collect()
    }

    /// The vector of a text: its tokens' vectors, `rows` \[tokens, width\], pooled, and normalised where the folder
    /// says so.
    ///
    /// # Errors
    /// As [`SentenceFolder::pooling`].
    pub fn pooled(&self, rows: &[f32], width: usize) -> Result<Vec<f32>> {
        Ok(self.finished(self.pooling()?.of(rows, width)))
    }

    /// What the folder does to a vector that is pooled already.
    pub fn finished(&self, mut vector: Vec<f32>) -> Vec<f32> {
        if self.layout.normalize {
            normalize(&mut vector);
        }
        vector
    }

    /// What vectors depend on in this folder, besides what computes them: the content of the tokenizer's files and
    /// of `others` (weights, their configuration), pooling, normalisation, limit, prompt.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn digest(&self, others: &[PathBuf]) -> Result<String> {
        let mut whole = Sha256::new();
        whole.update(format!("{:?}", self.layout.settings()));
        for (name, digest) in &self.tokenizer_files {
            whole.update(name);
            whole.update(digest);
        }
        for path in others {
            whole.update(digest_of(path).map_err(Error::io(path))?);
        }
        Ok(whole.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// SHA-256 of a file's content.
pub(crate) fn digest_of(path: &Path) -> io::Result<[u8; 32]> {
    let mut digest = Hashing(Sha256::new());
    io::copy(&mut File::open(path)?, &mut digest)?;
    Ok(digest.0.finalize().into())
}

struct Hashing(Sha256);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
