//! The weights of a Hugging Face folder: names, types and shapes are read at once, elements on demand.

mod digest;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata};
use serde_json::Value;

use super::{disguise, folder, quantised};
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::memory;
use crate::model::types::shown;
use crate::model::weights::{self, INDEX, SINGLE};
use crate::optim::StoredStates;

/// The limit of headers; larger ones count as damage, as in the safetensors library.
const LARGEST_HEADER: u64 = 100_000_000;

/// Tensors of at least this size are checked against free memory, because a damaged file may claim any size.
const LARGE: usize = 1 << 30;

/// The tensors of a model folder.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    files: Vec<PathBuf>,
    tensors: BTreeMap<String, Stored>,
    /// Tensors that the index assigns to a shard without them.
    astray: BTreeMap<String, String>,
}

/// The location and description of one tensor.
#[derive(Debug)]
struct Stored {
    file: usize,
    start: u64,
    bytes: usize,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Checkpoint {
    /// Reads the headers of a folder's safetensors files; types and shapes are not restricted.
    ///
    /// # Errors
    /// Fails if there are no weights (the error names weights in other formats), if the index is broken, and
    /// if a shard is missing or damaged.
    pub fn open(dir: &Path) -> Result<Self> {
        let (files, placed) = files_and_places(dir)?;
        Self::read_headers(dir, files, placed)
    }

    /// Reads the header of one safetensors file of a folder.
    ///
    /// # Errors
    /// Fails if the file is missing or damaged.
    pub fn open_file(dir: &Path, name: &str) -> Result<Self> {
        Self::read_headers(dir, vec![dir.join(name)], BTreeMap::new())
    }

    fn read_headers(dir: &Path, files: Vec<PathBuf>, placed: BTreeMap<String, String>) -> Result<Self> {
        let mut tensors: BTreeMap<String, Stored> = BTreeMap::new();
        for (at, file) in files.iter().enumerate() {
            for (name, stored) in header(file, at)? {
                // If two shards hold a tensor, the index decides.
                let here = || placed.get(&name).is_none_or(|shard| file.ends_with(shard));
                if !tensors.contains_key(&name) || here() {
                    tensors.insert(name, stored);
                }
            }
        }
        let astray = placed.into_iter().filter(|(name, _)| !tensors.contains_key(name)).collect();
        Ok(Self { dir: dir.to_path_buf(), files, tensors, astray })
    }

    /// Returns the folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Returns whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Returns the shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|stored| stored.shape.as_slice())
    }

    /// Returns the shard that the index names for a missing tensor.
    pub fn astray(&self, name: &str) -> Option<&str> {
        self.astray.get(name).map(String::as_str)
    }

    /// Reads a tensor of floats, as f32.
    ///
    /// # Errors
    /// Fails if the tensor is missing, if its elements are not F16, BF16, F32 or F64, and if the file cannot
    /// be read.
    pub fn read(&self, name: &str) -> Result<HostTensor> {
        self.floats(name)?;
        self.read_any(name)
    }

    /// Reads a tensor of floats, as f32, or of whole numbers.
    ///
    /// # Errors
    /// Fails if the tensor is missing, if [`weights::load_file`] does not support the type of its elements, and if
    /// the file cannot be read.
    fn read_any(&self, name: &str) -> Result<HostTensor> {
        let stored = self.stored(name)?;
        let bytes = self.bytes(name)?;
        let data = weights::elements(stored.dtype, &bytes)
            .ok_or_else(|| Error::file(&self.files[stored.file], weights::unsupported(name, stored.dtype)))?;
        HostTensor::new(stored.shape.clone(), data)
    }

    /// Reads the bytes of a tensor of any type.
    ///
    /// # Errors
    /// Fails if the tensor is missing and if the file cannot be read.
    pub(super) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let stored = self.stored(name)?;
        let path = &self.files[stored.file];
        if stored.bytes >= LARGE {
            memory::require(&format!("{}: {name}", path.display()), Some(stored.bytes as u64))?;
        }
        let mut bytes = vec![0; stored.bytes];
        let mut file = disguise::open(path)?;
        file.seek(SeekFrom::Start(stored.start)).map_err(Error::io(path))?;
        file.read_exact(&mut bytes).map_err(Error::io(path))?;
        Ok(bytes)
    }

    /// Checks that a tensor exists and holds floats.
    ///
    /// # Errors
    /// Fails if it does not.
    pub(super) fn require_floats(&self, name: &str) -> Result<()> {
        self.floats(name).map(drop)
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        let missing = || Error::file(&self.dir, format!("{name} is missing"));
        self.tensors.get(name).ok_or_else(missing)
    }

    fn floats(&self, name: &str) -> Result<&Stored> {
        let stored = self.stored(name)?;
        match stored.dtype {
            Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64 => Ok(stored),
            other => Err(Error::file(&self.files[stored.file], self.not_floats(name, other))),
        }
    }

    /// Detects quantised weights from the names of tensors and returns the error message; `None`: they are
    /// not quantised.
    pub(super) fn quantised(&self) -> Option<String> {
        let (method, name) = quantised::by_tensors(self.names())?;
        Some(quantised::refusal(&format!("{method}: found {name}")))
    }

    fn not_floats(&self, name: &str, dtype: Dtype) -> String {
        let why = self.quantised().map_or(String::new(), |why| format!(": {why}"));
        format!("{name} has elements of type {dtype:?}; expected BF16, F16, F32 or F64{why}")
    }
}

impl StoredStates for Checkpoint {
    fn state(&self, name: &str) -> Result<Option<Cow<'_, HostTensor>>> {
        match self.contains(name) {
            true => Ok(Some(Cow::Owned(self.read_any(name)?))),
            false => Ok(None),
        }
    }
}

/// Returns the safetensors files of a folder, and the shard of each tensor by the index.
fn files_and_places(dir: &Path) -> Result<(Vec<PathBuf>, BTreeMap<String, String>)> {
    let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
    if single.exists() {
        return Ok((vec![single], BTreeMap::new()));
    }
    if !index.exists() {
        return Err(Error::file(dir, folder::without_weights(dir)));
    }
    let text = disguise::read_text(&index)?;
    let json: Value = serde_json::from_str(&text).map_err(|error| Error::file(&index, error))?;
    let map = json.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| Error::file(&index, "has no object \"weight_map\""))?;
    let mut placed = BTreeMap::new();
    for (name, shard) in map {
        let plain =
            shard.as_str().filter(|shard| Path::new(shard).file_name().is_some_and(|name| name == *shard));
        let shard = plain.ok_or_else(|| {
            Error::file(
                &index,
                format!(
                    "weight_map.{name} is {}; expected the name of a file in the same folder",
                    shown(shard)
                ),
            )
        })?;
        placed.insert(name.clone(), shard.to_owned());
    }
    let mut shards: Vec<&String> = placed.values().collect();
    shards.sort();
    shards.dedup();
    let missing: Vec<&str> =
        shards.iter().filter(|shard| !dir.join(shard).exists()).map(|shard| shard.as_str()).collect();
    if !missing.is_empty() {
        let (named, lost) = (shards.len(), missing.len());
        let message =
            format!("names {named} shards, of which {lost} are missing: {}", folder::some(&missing));
        return Err(Error::file(&index, message));
    }
    Ok((shards.into_iter().map(|shard| dir.join(shard)).collect(), placed))
}

/// Returns the safetensors files with the weights of a model folder.
///
/// # Errors
/// Fails as [`Checkpoint::open`] does.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    files_and_places(dir).map(|(files, _)| files)
}

/// Reads the tensors listed in a safetensors file's header.
fn header(path: &Path, file: usize) -> Result<Vec<(String, Stored)>> {
    disguise::check(path)?;
    let broken =
        |why: &dyn std::fmt::Display| Error::file(path, format!("is not a whole safetensors file: {why}"));
    let mut opened = disguise::open(path)?;
    let size = opened.metadata().map_err(Error::io(path))?.len();
    let mut length = [0; 8];
    opened.read_exact(&mut length).map_err(|error| broken(&error))?;
    let length = u64::from_le_bytes(length);
    if length > LARGEST_HEADER.min(size.saturating_sub(8)) {
        return Err(broken(&format!("a header of {length} bytes in a file of {size}")));
    }
    let mut json = vec![0; length as usize];
    opened.read_exact(&mut json).map_err(|error| broken(&error))?;
    let metadata: Metadata = serde_json::from_slice(&json).map_err(|error| broken(&error))?;
    let expected = 8 + length + metadata.data_len() as u64;
    if expected != size {
        return Err(broken(&format!("{size} bytes, expected {expected} according to the header")));
    }
    let stored = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let (start, end) = info.data_offsets;
        let start = 8 + length + start as u64;
        let bytes = end - info.data_offsets.0;
        (name, Stored { file, start, bytes, dtype: info.dtype, shape: info.shape.clone() })
    };
    Ok(metadata.tensors().into_iter().map(stored).collect())
}

#[cfg(test)]
mod tests;
