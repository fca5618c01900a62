//! Writes records as JSON lines, a JSON array or Parquet, chosen by the file name; a file is written whole or
//! not at all.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_json::ReaderBuilder;
use arrow_json::reader::infer_json_schema_from_iterator;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use serde_json::Value;

use crate::disk::whole::{folder_of, sweep};
use crate::error::{Error, Result};
use crate::model::weights;

/// The format of a file of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON object per line.
    Lines(Packing),
    /// One JSON array.
    Array(Packing),
    /// Parquet with zstd-compressed pages.
    Parquet,
}

/// Compression of a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// No compression.
    Plain,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

const ENDINGS: [(&str, Form); 8] = [
    (".jsonl", Form::Lines(Packing::Plain)),
    (".jsonl.gz", Form::Lines(Packing::Gzip)),
    (".jsonl.zst", Form::Lines(Packing::Zstd)),
    (".ndjson", Form::Lines(Packing::Plain)),
    (".json", Form::Array(Packing::Plain)),
    (".json.gz", Form::Array(Packing::Gzip)),
    (".json.zst", Form::Array(Packing::Zstd)),
    (".parquet", Form::Parquet),
];

/// Rows converted to columns at a time.
const ROWS_AT_ONCE: usize = 1024;

impl Form {
    /// Returns the format that a file's extension names.
    ///
    /// # Errors
    /// Fails if the extension is not a known one.
    pub fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let found =
            ENDINGS.into_iter().find(|(ending, _)| name.ends_with(ending) && name.len() > ending.len());
        found.map(|(_, form)| form).ok_or_else(|| {
            let known = ENDINGS.map(|(ending, _)| ending).join(", ");
            Error::file(
                path,
                format!("the file name has no known extension; expected one that ends in {known}"),
            )
        })
    }
}

/// Writes records in the format that the file's extension names.
///
/// # Errors
/// Fails if the extension is unknown, if Parquet has no type for a column, or if the file cannot be written.
pub fn write_records(path: &Path, records: &[Value]) -> Result<()> {
    let mut lines = RecordLines::default();
    records.iter().try_for_each(|record| lines.push(record)).map_err(Error::io(path))?;
    lines.write(path)
}

/// Records kept compactly as JSON lines, the form in which most are written.
#[derive(Debug, Default)]
pub struct RecordLines {
    bytes: Vec<u8>,
    count: usize,
}

impl RecordLines {
    /// Adds a record.
    ///
    /// # Errors
    /// Fails if the value cannot be serialised as JSON.
    pub fn push(&mut self, record: &impl Serialize) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.bytes, record)?;
        self.bytes.push(b'\n');
        self.count += 1;
        Ok(())
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns true if there are no records.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the records as JSON lines.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the records in the format that the file's extension names.
    ///
    /// # Errors
    /// Fails in the same cases as [`write_records`].
    pub fn write(&self, path: &Path) -> Result<()> {
        sweep(folder_of(path))?;
        let bytes = match Form::of(path)? {
            Form::Lines(Packing::Plain) => return weights::write(path, &self.bytes),
            Form::Lines(packing) => packed(packing, |out| out.write_all(&self.bytes)),
            Form::Array(packing) => packed(packing, |out| {
                serde_json::to_writer_pretty(&mut *out, &self.records()?)?;
                out.write_all(b"\n")
            }),
            Form::Parquet => {
                let records = self.records().map_err(Error::io(path))?;
                return weights::write(path, &parquet(path, &records)?);
            }
        };
        weights::write(path, &bytes.map_err(Error::io(path))?)
    }

    fn records(&self) -> std::io::Result<Vec<Value>> {
        let lines = serde_json::Deserializer::from_slice(&self.bytes).into_iter();
        Ok(lines.collect::<serde_json::Result<_>>()?)
    }
}

fn packed(
    packing: Packing,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<Vec<u8>> {
    match packing {
        Packing::Plain => {
            let mut bytes = Vec::new();
            write(&mut bytes)?;
            Ok(bytes)
        }
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            write(&mut encoder)?;
            encoder.finish()
        }
        Packing::Zstd => {
            let mut encoder = zstd::Encoder::new(Vec::new(), 0)?;
            write(&mut encoder)?;
            encoder.finish()
        }
    }
}

fn parquet(path: &Path, records: &[Value]) -> Result<Vec<u8>> {
    let wrong = |error: &dyn std::fmt::Display| {
        let message = format!("Parquet has no type for these columns ({error}); write JSON lines instead");
        Error::file(path, message)
    };
    let schema = infer_json_schema_from_iterator(records.iter().map(Ok)).map_err(|error| wrong(&error))?;
    let schema = Arc::new(schema);
    let packing = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(packing).build();
    let mut writer =
        ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(|e| wrong(&e))?;
    let mut decoder = ReaderBuilder::new(schema).build_decoder().map_err(|error| wrong(&error))?;
    for chunk in records.chunks(ROWS_AT_ONCE) {
        decoder.serialize(chunk).map_err(|error| wrong(&error))?;
        if let Some(batch) = decoder.flush().map_err(|error| wrong(&error))? {
            writer.write(&batch).map_err(|error| wrong(&error))?;
        }
    }
    writer.into_inner().map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::data::records::Records;

    fn read(path: &Path) -> Vec<Value> {
        Records::open(path).unwrap().map(|record| Value::Object(record.unwrap().1)).collect()
    }

    /// Records written in any format are read back unchanged; Parquet returns missing fields as null.
    #[test]
    fn every_form_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let turns =
            json!([{"role": "user", "content": "naïve\n\u{1F642}"}, {"role": "assistant", "content": ""}]);
        let mut records = vec![
            json!({"prompt": turns, "n": 3, "x": 0.1, "on": true, "tags": ["a", "b"], "meta": {"k": "v"}}),
            json!({"prompt": turns, "n": -4, "x": 2.5, "on": false, "tags": [], "meta": {"k": null}}),
        ];
        records.extend((0..2000).map(|n| {
            json!({"prompt": turns, "n": n, "x": 0.5, "on": true, "tags": ["c"], "meta": {"k": n.to_string()}})
        }));
        for (ending, _) in ENDINGS {
            let path = folder.path().join(format!("data{ending}"));
            write_records(&path, &records).unwrap();
            assert_eq!(read(&path), records, "{ending}");
        }
        let path = folder.path().join("holes.parquet");
        write_records(&path, &[json!({"a": "x"}), json!({"b": 1})]).unwrap();
        assert_eq!(read(&path), [json!({"a": "x", "b": null}), json!({"a": null, "b": 1})]);
    }

    /// An unknown extension or an unsupported column is an error, and no file is written.
    #[test]
    fn what_cannot_be_written_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let said = |name: &str, records: &[Value]| {
            write_records(&folder.path().join(name), records).unwrap_err().to_string()
        };
        assert!(said("data.csv", &[]).contains("expected one that ends in .jsonl, .jsonl.gz"));
        let mixed = [json!({"a": "x"}), json!({"a": {"b": 1}})];
        assert!(said("data.parquet", &mixed).contains("Parquet has no type for these columns"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
