//! A sentence-transformers folder: tokenizer, pooling, normalisation. The weights are left to the encoder
//! that reads the folder.

mod layout;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use pcrm_core::text::{Tokenizer, TruncatedTokenizer};
use pcrm_core::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::layout::FolderLayout;
use crate::pooling::{Pooling, normalize};

/// A folder and overrides of its settings; the configuration of every encoder that reads such folders.
///
/// As data: `{"path": "all-MiniLM-L6-v2", "pooling": "mean", "normalize": true, "max_tokens": 256}`; only the
/// path is required.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderOptions {
    /// The folder.
    pub path: PathBuf,
    /// The pooling; overrides `1_Pooling/config.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Normalisation to length 1; overrides the presence of a `Normalize` in `modules.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// The maximum number of tokens in a text, special ones included; overrides the folder's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
}

/// An opened folder.
#[derive(Debug)]
pub struct SentenceFolder {
    layout: FolderLayout,
    tokenizer: TruncatedTokenizer,
    tokenizer_files: Vec<(String, [u8; 32])>,
}

impl SentenceFolder {
    /// Reads everything but the weights.
    ///
    /// # Errors
    /// Fails if the path is not a folder, if files are malformed, if a module or pooling is not supported
    /// (the error names it), without a tokenizer, and without a token limit. A missing pooling configuration
    /// fails only in [`SentenceFolder::pooling`], because a graph may pool by itself.
    pub fn open(options: &FolderOptions) -> Result<Self> {
        let layout = FolderLayout::read(options)?;
        let tokenizer = Tokenizer::from_dir(&layout.transformer)?;
        let tokenizer_files =
            tokenizer.files().map(|(name, bytes)| (name.to_owned(), Sha256::digest(bytes).into())).collect();
        Ok(Self { tokenizer: tokenizer.truncated(layout.max_tokens)?, tokenizer_files, layout })
    }

    /// Returns the path of the transformer's own files: `config.json`, weights, tokenizer.
    pub fn transformer(&self) -> &Path {
        &self.layout.transformer
    }

    /// Returns the maximum number of tokens in a text.
    pub fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    /// Returns the pooling of tokens' vectors.
    ///
    /// # Errors
    /// Fails if neither the folder nor the options specify one.
    pub fn pooling(&self) -> Result<Pooling> {
        self.layout.pooling.ok_or_else(|| {
            Error::file(
                &self.layout.root,
                "no pooling configuration: looked for a Pooling module in modules.json and for \
                 1_Pooling/config.json; expected one of them, or \"pooling\": \"cls\", \"mean\", \"max\" or \
                 \"lasttoken\" in the encoder's own configuration",
            )
        })
    }

    /// Tokenizes texts in parallel on rayon's threads and returns their ids in order.
    ///
    /// # Errors
    /// Fails with the tokenizer's errors, and if a text has no tokens.
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

    /// Returns the vector of a text: its tokens' vectors, `rows` \[tokens, width\], pooled, and normalised if
    /// the folder specifies it.
    ///
    /// # Errors
    /// Fails as [`SentenceFolder::pooling`] does.
    pub fn pooled(&self, rows: &[f32], width: usize) -> Result<Vec<f32>> {
        Ok(self.finished(self.pooling()?.of(rows, width)))
    }

    /// Normalises an already pooled vector if the folder specifies it.
    pub fn finished(&self, mut vector: Vec<f32>) -> Vec<f32> {
        if self.layout.normalize {
            normalize(&mut vector);
        }
        vector
    }

    /// Returns the digest of everything in this folder that vectors depend on: the content of the tokenizer's
    /// files and of `others` (weights, their configuration), pooling, normalisation, limit, prompt.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
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

/// Computes the SHA-256 of a file's content.
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
