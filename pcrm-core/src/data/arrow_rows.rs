//! Reads the rows of an Arrow IPC file, the format in which `datasets` stores data, as JSON objects.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_json::WriterBuilder;
use arrow_json::writer::LineDelimited;
use arrow_schema::{ArrowError, DataType};
use serde_json::{Map, Value};

use super::not_finite::{self, NotFinite};
use super::records::{Parsed, named_twice};
use crate::error::{Error, Result};
use crate::guard::guarded;

/// The rows of a file, with one batch in memory at a time. The first error ends the iteration.
pub(super) struct ArrowRows {
    path: PathBuf,
    batches: Option<StreamReader<BufReader<File>>>,
    batch: Option<RecordBatch>,
    /// The index of the next row in the batch.
    at: usize,
    number: u64,
    limit: usize,
}

/// A row as JSON text and its columns that hold NaN or infinite numbers, which are null in the JSON.
type Row = (Vec<u8>, Vec<NotFinite>);

impl ArrowRows {
    /// Reads a file's schema.
    ///
    /// # Errors
    /// Fails if the file is damaged, cut short or compressed, or if two columns have one name.
    pub(super) fn open(path: &Path, mut file: File, limit: usize) -> Result<Self> {
        let wrong = |message: String| Error::file(path, format!("a damaged Arrow file: {message}"));
        let open = || {
            let begins = check(&mut file)?;
            file.seek(SeekFrom::Start(begins))?;
            StreamReader::try_new(BufReader::new(file), None)
        };
        let batches = guarded(open).map_err(wrong)?.map_err(|error| wrong(error.to_string()))?;
        if let Some(message) =
            named_twice(batches.schema().fields().iter().map(|field| field.name().as_str()))
        {
            return Err(Error::file(path, message));
        }
        Ok(Self { path: path.to_path_buf(), batches: Some(batches), batch: None, at: 0, number: 0, limit })
    }

    fn wrong(&mut self, message: &str) -> Error {
        self.batches = None;
        // The reader names the Cargo feature it was built without.
        if message.contains("feature") && message.contains("compress") {
            let message = "an Arrow file with compressed buffers, which is not supported; write it \
                           uncompressed, or as Parquet";
            return Error::file(&self.path, message);
        }
        Error::file(&self.path, format!("a damaged Arrow file, after row {}: {message}", self.number))
    }

    /// Returns the next row.
    fn row(&mut self) -> Result<Option<Row>, ArrowError> {
        let Some(batches) = &mut self.batches else { return Ok(None) };
        while self.batch.as_ref().is_none_or(|batch| self.at >= batch.num_rows()) {
            self.batch = batches.next().transpose()?;
            self.at = 0;
            if self.batch.is_none() {
                return Ok(None);
            }
        }
        let Some(batch) = &self.batch else { return Ok(None) };
        let row = batch.slice(self.at, 1);
        self.at += 1;
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        writer.write(&row)?;
        writer.finish()?;
        Ok(Some((writer.into_inner(), not_finite(&row))))
    }
}

/// Returns the columns of a one-row batch that hold a NaN or infinite float.
fn not_finite(row: &RecordBatch) -> Vec<NotFinite> {
    let schema = row.schema();
    let columns = schema.fields().iter().zip(row.columns()).filter(|(_, column)| column.is_valid(0));
    let found = columns.filter_map(|(field, column)| match field.data_type() {
        DataType::Float32 => {
            not_finite::float(field.name(), f64::from(column.as_primitive::<Float32Type>().value(0)))
        }
        DataType::Float64 => not_finite::float(field.name(), column.as_primitive::<Float64Type>().value(0)),
        _ => None,
    });
    found.collect()
}

/// Checks that every message of a file ends within it, since readers trust the stated lengths, and returns
/// the offset of the first message. A file with a footer also holds a stream, after its first word and padding.
fn check(file: &mut File) -> Result<u64, ArrowError> {
    let broken = |message: &str| ArrowError::IpcError(message.to_owned());
    let length = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut start = [0; 8];
    file.read_exact(&mut start)?;
    let mut begins = 0;
    if start.starts_with(b"ARROW1") {
        // Zeros align the first message: to 8 bytes, or to 64 as arrow-rs writes them.
        let mut word = [0; 8];
        while word == [0; 8] {
            begins += 8;
            file.read_exact(&mut word)?;
        }
    }
    let mut at = begins;
    loop {
        file.seek(SeekFrom::Start(at))?;
        let mut word = [0; 4];
        let mut prefix = 4;
        if at + 8 > length {
            // The end-of-stream mark of a stream is optional.
            return if at == length { Ok(begins) } else { Err(broken("it ends within a message")) };
        }
        file.read_exact(&mut word)?;
        if word == [0xff; 4] {
            file.read_exact(&mut word)?;
            prefix = 8;
        }
        let metadata = u64::from(u32::from_le_bytes(word));
        if metadata == 0 {
            return Ok(begins);
        }
        if at + prefix + metadata > length {
            return Err(broken("a message is longer than the file"));
        }
        let mut bytes = vec![0; metadata as usize];
        file.read_exact(&mut bytes)?;
        let message = arrow_ipc::root_as_message(&bytes)
            .map_err(|error| broken(&format!("a message cannot be read: {error}")))?;
        let body =
            u64::try_from(message.bodyLength()).map_err(|_| broken("a message has a negative length"))?;
        at = at.checked_add(prefix + metadata).and_then(|at| at.checked_add(body)).unwrap_or(u64::MAX);
        if at > length {
            return Err(broken("it is cut short: a message is longer than the rest of the file"));
        }
    }
}

impl Iterator for ArrowRows {
    type Item = Result<Parsed>;

    fn next(&mut self) -> Option<Self::Item> {
        let (text, found) = match guarded(|| self.row()) {
            Ok(Ok(row)) => row?,
            Ok(Err(error)) => return Some(Err(self.wrong(&error.to_string()))),
            Err(message) => return Some(Err(self.wrong(&message))),
        };
        self.number += 1;
        let number = self.number;
        let line = |message| Err(Error::Line { path: self.path.clone(), line: number, message });
        if text.len() > self.limit {
            return Some(line(format!("longer than {} bytes; expected less", self.limit)));
        }
        let parsed = std::str::from_utf8(&text).map_err(|error| error.to_string());
        let parsed = parsed.and_then(|text| not_finite::parse(text).map_err(|error| error.to_string()));
        Some(match parsed {
            Ok((Value::Object(record), _)) => Ok(((number, record), found)),
            // A batch without columns writes no object.
            Ok(_) => Ok(((number, Map::new()), Vec::new())),
            Err(message) => line(message),
        })
    }
}
