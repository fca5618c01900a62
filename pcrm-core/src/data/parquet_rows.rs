//! Reads the rows of a Parquet file as JSON objects, with one page of each column in memory at a time.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

use super::not_finite::{self, NotFinite};
use super::records::{Parsed, named_twice};
use crate::error::{Error, Result};
use crate::guard::guarded;

/// The rows of a file. The first error ends the iteration, because no row can be found after a damaged page.
pub(super) struct ParquetRows {
    path: PathBuf,
    rows: Option<RowIter<'static>>,
    expected: i64,
    number: u64,
    limit: usize,
}

impl ParquetRows {
    /// Reads a file's footer.
    ///
    /// # Errors
    /// Fails if the file is damaged or cut short, if its columns cannot be read as rows, if two of them have one
    /// name, or if its compression is not supported.
    pub(super) fn open(path: &Path, file: File, limit: usize) -> Result<Self> {
        let wrong = |message: String| Error::file(path, format!("a damaged Parquet file: {message}"));
        let open = || {
            let reader = SerializedFileReader::new(file)?;
            let expected = reader.metadata().file_metadata().num_rows();
            refuse_bombs(reader.metadata())?;
            let packed = unsupported(reader.metadata());
            let fields = reader.metadata().file_metadata().schema().get_fields();
            let twice = named_twice(fields.iter().map(|field| field.name()));
            Ok::<_, ParquetError>((RowIter::from_file_into(Box::new(reader)), expected, packed, twice))
        };
        let (rows, expected, packed, twice) =
            guarded(open).map_err(wrong)?.map_err(|error| wrong(error.to_string()))?;
        if let Some(message) = twice {
            return Err(Error::file(path, message));
        }
        if let Some(packing) = packed {
            return Err(Error::file(
                path,
                format!(
                    "a Parquet file compressed with {packing}, which is not supported; write it again with \
                     zstd, snappy, gzip, lz4 or none"
                ),
            ));
        }
        Ok(Self { path: path.to_path_buf(), rows: Some(rows), expected, number: 0, limit })
    }

    fn wrong(&mut self, message: &str) -> Error {
        self.rows = None;
        Error::file(&self.path, format!("a damaged Parquet file, after row {}: {message}", self.number))
    }
}

impl Iterator for ParquetRows {
    type Item = Result<Parsed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.rows.as_mut()?;
        match guarded(|| rows.next()) {
            Ok(Some(Ok(row))) => {
                self.number += 1;
                let found = not_finite(&row);
                let record = object(row);
                let size: usize = record.values().map(size).sum();
                if size > self.limit {
                    let message = format!("longer than {} bytes; expected less", self.limit);
                    return Some(Err(Error::Line { path: self.path.clone(), line: self.number, message }));
                }
                Some(Ok(((self.number, record), found)))
            }
            Ok(Some(Err(error))) => Some(Err(self.wrong(&error.to_string()))),
            Ok(None) if self.number as i64 != self.expected => {
                let message = format!("the footer states {} rows", self.expected);
                Some(Err(self.wrong(&message)))
            }
            Ok(None) => {
                self.rows = None;
                None
            }
            Err(message) => Some(Err(self.wrong(&message))),
        }
    }
}

/// Refuses columns that decompress to a thousand times their size and to more than memory should hold.
fn refuse_bombs(metadata: &ParquetMetaData) -> Result<(), ParquetError> {
    const RATIO: i64 = 1000;
    const LARGE: i64 = 1 << 28;
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let (packed, unpacked) = (column.compressed_size(), column.uncompressed_size());
        if unpacked > LARGE && unpacked / RATIO > packed {
            return Err(ParquetError::General(format!(
                "the column {} unpacks from {packed} to {unpacked} bytes; expected less than {RATIO} times \
                 as many",
                column.column_path().string()
            )));
        }
    }
    Ok(())
}

/// Returns the name of the first compression among a file's columns that is not built in.
fn unsupported(metadata: &ParquetMetaData) -> Option<&'static str> {
    let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    columns.map(|column| column.compression()).find_map(|packing| match packing {
        Compression::BROTLI(_) => Some("brotli"),
        Compression::LZO => Some("lzo"),
        _ => None,
    })
}

/// Returns the columns of a row that hold a NaN or infinite float.
fn not_finite(row: &Row) -> Vec<NotFinite> {
    let found = row.get_column_iter().filter_map(|(name, field)| match field {
        Field::Float16(number) => not_finite::float(name, f64::from(f32::from(*number))),
        Field::Float(number) => not_finite::float(name, f64::from(*number)),
        Field::Double(number) => not_finite::float(name, *number),
        _ => None,
    });
    found.collect()
}

/// Estimates the size of a value in bytes.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + size(value)).sum(),
        _ => 8,
    }
}

fn object(row: Row) -> Map<String, Value> {
    row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()
}

/// Converts a field to JSON; numbers that JSON lacks (NaN) become null, and types that JSON lacks become
/// text.
fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(on) => Value::from(on),
        Field::Byte(number) => Value::from(number),
        Field::Short(number) => Value::from(number),
        Field::Int(number) => Value::from(number),
        Field::Long(number) => Value::from(number),
        Field::UByte(number) => Value::from(number),
        Field::UShort(number) => Value::from(number),
        Field::UInt(number) => Value::from(number),
        Field::ULong(number) => Value::from(number),
        Field::Float16(number) => Value::from(f32::from(number)),
        Field::Float(number) => Value::from(number),
        Field::Double(number) => Value::from(number),
        Field::Str(text) => Value::from(text),
        Field::Bytes(bytes) => Value::from(String::from_utf8_lossy(bytes.data()).into_owned()),
        Field::Group(row) => Value::Object(object(row)),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        Field::MapInternal(map) => {
            let key = |field: &Field| match value(field.clone()) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            Value::Object(
                map.entries().iter().map(|(name, field)| (key(name), value(field.clone()))).collect(),
            )
        }
        Field::Decimal(decimal) => number(&Field::Decimal(decimal).to_string()),
        other => Value::from(other.to_string()),
    }
}

/// Returns a decimal as a number, or as text if JSON has no such number.
fn number(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(number @ Value::Number(_)) => number,
        _ => Value::from(text),
    }
}
