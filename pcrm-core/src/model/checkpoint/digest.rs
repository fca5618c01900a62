//! The digest of a checkpoint's tensors, by which an adapter knows the weights of its base.

use std::io::{Read, Seek, SeekFrom};

use rayon::prelude::*;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::{Checkpoint, Stored};
use crate::error::{Error, Result};
use crate::model::disguise;

/// The maximum number of bytes that a thread reads at once.
const PIECE: usize = 1 << 20;

impl Checkpoint {
    /// Computes a digest (XXH3, 128 bits) of the names, types, shapes and elements of all tensors. All elements are
    /// read. Metadata, the order of tensors in a file and their distribution over files do not count.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
    pub fn digest(&self) -> Result<String> {
        let tensors: Vec<(&String, &Stored)> = self.tensors.iter().collect();
        let lines: Result<Vec<String>> =
            tensors.par_iter().map(|(name, stored)| self.line(name, stored)).collect();
        let lines = lines?;
        Ok(format!("{:032x}", xxh3_128(lines.concat().as_bytes())))
    }

    /// Describes a tensor: its name, type, shape and hash.
    fn line(&self, name: &str, stored: &Stored) -> Result<String> {
        let Stored { dtype, shape, .. } = stored;
        Ok(format!("{name} {dtype:?} {shape:?} {:032x}\n", self.hash(stored)?))
    }

    /// Returns the hash of a tensor's bytes, read in pieces.
    fn hash(&self, stored: &Stored) -> Result<u128> {
        let path = &self.files[stored.file];
        let mut file = disguise::open(path)?;
        file.seek(SeekFrom::Start(stored.start)).map_err(Error::io(path))?;
        let (mut hasher, mut left) = (Xxh3::new(), stored.bytes);
        let mut piece = vec![0; PIECE.min(left)];
        while left > 0 {
            let part = &mut piece[..PIECE.min(left)];
            file.read_exact(part).map_err(Error::io(path))?;
            hasher.update(part);
            left -= part.len();
        }
        Ok(hasher.digest128())
    }
}
