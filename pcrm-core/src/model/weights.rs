//! safetensors files that pcrm writes and reads back; written atomically.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::{Map, json};

use crate::disk::whole::write_with;
pub use crate::disk::whole::{sync_dir, write, write_json};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::{HostData, HostTensor};
use crate::model::folder;

/// The weights of a model in one file.
pub const SINGLE: &str = "model.safetensors";
/// The file that maps each weight to its shard.
pub const INDEX: &str = "model.safetensors.index.json";

/// Reads all tensors of one safetensors file, floats as f32.
///
/// # Errors
/// Fails if the file cannot be read or is broken, and if an element type is not supported.
pub fn load_file(path: &Path) -> Result<BTreeMap<String, HostTensor>> {
    let bytes = folder::read(path)?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| Error::file(path, format!("is not a whole safetensors file: {error}")))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let data = elements(view.dtype(), view.data())
            .ok_or_else(|| Error::file(path, unsupported(&name, view.dtype())))?;
        tensors.insert(name, HostTensor::new(view.shape(), data)?);
    }
    Ok(tensors)
}

/// Returns the error message for a tensor whose elements [`elements`] does not convert.
pub(super) fn unsupported(name: &str, dtype: Dtype) -> String {
    format!("{name} has elements of type {dtype:?}; supported: BF16, F16, F32, F64, I8, I32, I64, U8, U32")
}

/// Converts elements of a supported type; floats become f32.
pub(super) fn elements(dtype: Dtype, bytes: &[u8]) -> Option<HostData> {
    Some(match dtype {
        Dtype::F32 => HostData::F32(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Dtype::F64 => {
            HostData::F32(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect())
        }
        Dtype::BF16 => {
            HostData::F32(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect())
        }
        Dtype::F16 => {
            HostData::F32(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect())
        }
        Dtype::U32 => HostData::U32(bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect()),
        // Codes of quantised weights; signed ones keep their bits.
        Dtype::U8 | Dtype::I8 => HostData::U8(bytes.to_vec()),
        Dtype::I32 => {
            HostData::U32(bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b) as u32).collect())
        }
        Dtype::I64 => {
            HostData::U32(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect())
        }
        _ => return None,
    })
}

/// The description of a tensor in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The shape.
    pub shape: Vec<usize>,
}

/// Writes tensors to a safetensors file, with the metadata that `transformers` expects.
///
/// # Errors
/// Fails if the disk is full or not writable; an existing file is then unchanged.
pub fn save(path: &Path, tensors: &BTreeMap<String, HostTensor>) -> Result<()> {
    let entry = |(name, host): (&String, &HostTensor)| Entry {
        name: name.clone(),
        dtype: host.dtype(),
        shape: host.shape().to_vec(),
    };
    let missing = |name: &str| Error::invalid(name, "is not a tensor of the file");
    save_streamed(path, tensors.iter().map(entry).collect(), |name| {
        tensors.get(name).cloned().ok_or_else(|| missing(name))
    })
}

/// Writes a safetensors file like [`save`], requesting one tensor at a time from `read`, so that the file is
/// never in memory.
///
/// # Errors
/// Fails as [`save`] does, with the errors of `read`, and if a tensor does not match its entry or has an
/// element that is not finite.
pub fn save_streamed(
    path: &Path,
    mut entries: Vec<Entry>,
    mut read: impl FnMut(&str) -> Result<HostTensor>,
) -> Result<()> {
    // The safetensors library's order: wide elements first, so that all are aligned.
    entries.sort_by(|a, b| bytes_of(b.dtype).cmp(&bytes_of(a.dtype)).then_with(|| a.name.cmp(&b.name)));
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut end = 0;
    for Entry { name, dtype, shape } in &entries {
        let start = end;
        end += shape.iter().product::<usize>() * bytes_of(*dtype);
        let kind = match dtype {
            DType::F32 => "F32",
            DType::BF16 => "BF16",
            DType::U32 => "U32",
            DType::U8 => "U8",
        };
        header.insert(name.clone(), json!({"dtype": kind, "shape": shape, "data_offsets": [start, end]}));
    }
    let mut header = serde_json::to_vec(&header).map_err(|error| Error::file(path, error))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    write_with(path, |file| {
        let io = |error| Error::Io { path: path.to_path_buf(), cause: error };
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
        file.write_all(&header).map_err(io)?;
        for Entry { name, dtype, shape } in &entries {
            let host = read(name)?;
            if host.dtype() != *dtype || host.shape() != shape {
                let message = format!("is {} {:?}, expected {dtype} {shape:?}", host.dtype(), host.shape());
                return Err(Error::invalid(name, message));
            }
            let broken = match host.data() {
                HostData::F32(values) => {
                    values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes())).map_err(io)?;
                    values.iter().filter(|value| !value.is_finite()).count()
                }
                HostData::BF16(values) => {
                    values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes())).map_err(io)?;
                    values.iter().filter(|value| !value.is_finite()).count()
                }
                HostData::U32(values) => {
                    values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes())).map_err(io)?;
                    0
                }
                HostData::U8(values) => {
                    file.write_all(values).map_err(io)?;
                    0
                }
            };
            if broken > 0 {
                return Err(Error::NotFinite { name: name.clone(), count: broken, of: host.len() });
            }
        }
        Ok(())
    })
}

/// Returns the number of bytes of an element.
fn bytes_of(dtype: DType) -> usize {
    match dtype {
        DType::F32 | DType::U32 => 4,
        DType::BF16 => 2,
        DType::U8 => 1,
    }
}
