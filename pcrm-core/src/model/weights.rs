//! safetensors files that pcrm writes and reads back; written whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::host::{HostData, HostTensor};

/// The weights of a model in one file.
pub const SINGLE: &str = "model.safetensors";
/// The file that names the shard of each weight.
pub const INDEX: &str = "model.safetensors.index.json";

/// All tensors of one safetensors file, floats as f32.
///
/// # Errors
/// A file that cannot be read or is broken, an element type not served.
pub fn load_file(path: &Path) -> Result<BTreeMap<String, HostTensor>> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| Error::file(path, format!("is not a whole safetensors file: {error}")))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let data = elements(view.dtype(), view.data()).ok_or_else(|| {
            let message = format!(
                "{name} has elements of type {:?}; served: BF16, F16, F32, F64, I32, I64, U32",
                view.dtype()
            );
            Error::file(path, message)
        })?;
        tensors.insert(name, HostTensor::new(view.shape(), data)?);
    }
    Ok(tensors)
}

/// Elements of a type that is served; floats become f32.
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
        Dtype::I32 => {
            HostData::U32(bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b) as u32).collect())
        }
        Dtype::I64 => {
            HostData::U32(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect())
        }
        _ => return None,
    })
}

/// Writes tensors to a safetensors file, with the metadata that `transformers` looks for.
///
/// # Errors
/// The disk's; a file that was there before is then as it was.
pub fn save(path: &Path, tensors: &BTreeMap<String, HostTensor>) -> Result<()> {
    let bytes: BTreeMap<&str, (Dtype, &[usize], Vec<u8>)> =
        tensors.iter().map(|(name, host)| (name.as_str(), to_bytes(host))).collect();
    let mut views = BTreeMap::new();
    for (name, (dtype, shape, bytes)) in &bytes {
        let view =
            TensorView::new(*dtype, shape.to_vec(), bytes).map_err(|error| Error::file(path, error))?;
        views.insert(*name, view);
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    let file = safetensors::serialize(views, Some(metadata)).map_err(|error| Error::file(path, error))?;
    write(path, &file)
}

fn to_bytes(host: &HostTensor) -> (Dtype, &[usize], Vec<u8>) {
    let (dtype, bytes) = match host.data() {
        HostData::F32(values) => (Dtype::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        HostData::BF16(values) => {
            (Dtype::BF16, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        HostData::U32(values) => (Dtype::U32, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
    };
    (dtype, host.shape(), bytes)
}

/// Writes indented JSON, as [`write()`] does.
///
/// # Errors
/// The disk's.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| Error::file(path, error))?;
    text.push(b'\n');
    write(path, &text)
}

/// Writes a file beside its place, makes it durable and renames it: it is there whole or not at all.
///
/// # Errors
/// The disk's.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(Error::io(dir))?;
    let mut file = NamedTempFile::new_in(dir).map_err(Error::io(dir))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(Error::io(path))?;
    // Temporary files are private; what a user keeps has the usual permissions.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(Error::io(path))?;
    }
    file.persist(path).map_err(|error| Error::Io { path: path.to_path_buf(), cause: error.error })?;
    sync_dir(dir)
}

/// Makes renames inside a folder durable.
///
/// # Errors
/// The disk's.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io(dir))
}
