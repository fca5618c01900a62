//! TensorBoard's event files, with TRL's tags: `train/loss`, `eval/accuracy`.
//!
//! `eval/loss` is the whole loss, as in TRL; compare it with `eval/coin_loss`, that of a guessing model under
//! the same bounds. `eval/ranking_loss` is comparable across constraints, and with `eval/coin_ranking_loss`.
//!
//! A file is a sequence of TFRecords, each a message `Event` (tensorflow/core/util/event.proto) in a frame
//! (tensorflow/core/lib/io/record_writer.h):
//!
//! > length u64 · crc(length) u32 · message · crc(message) u32, little endian, crc masked CRC-32C.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use pcrm_core::Error;
use pcrm_core::model::weights;
use prost::Message;
use serde_json::Value;

use crate::error::Result;

/// The folder of a run's event files.
pub const FOLDER: &str = "tensorboard";
const PREFIX: &str = "events.out.tfevents.";

/// A TensorBoard event.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// Number of completed steps.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// Format of the file, in its first event.
    #[prost(string, optional, tag = "3")]
    pub file_version: Option<String>,
    /// Numbers.
    #[prost(message, optional, tag = "5")]
    pub summary: Option<Summary>,
}

/// Values by tag.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// Values.
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Scalar>,
}

/// A value with its tag.
#[derive(Clone, PartialEq, Message)]
pub struct Scalar {
    /// `train/...` or `eval/...`.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// Value.
    #[prost(float, optional, tag = "2")]
    pub simple_value: Option<f32>,
}

impl Event {
    /// Returns the event for a line of `metrics.jsonl`; `None` if it has no step.
    pub fn of(line: &Value, wall_time: f64) -> Option<Self> {
        let step = line["step"].as_i64()?;
        let fields = line.as_object()?.iter().filter(|(name, _)| *name != "step");
        let scalar = |(name, value): (&String, &Value)| {
            let tag = match name.strip_prefix("eval_") {
                Some(name) => format!("eval/{name}"),
                None => format!("train/{name}"),
            };
            value.as_f64().map(|value| Scalar { tag, simple_value: Some(value as f32) })
        };
        let value = fields.filter_map(scalar).collect();
        Some(Self { wall_time, step, file_version: None, summary: Some(Summary { value }) })
    }

    fn frame(&self) -> Vec<u8> {
        let message = self.encode_to_vec();
        let length = (message.len() as u64).to_le_bytes();
        let mut frame = length.to_vec();
        frame.extend(masked_crc(&length).to_le_bytes());
        frame.extend(&message);
        frame.extend(masked_crc(&message).to_le_bytes());
        frame
    }

    /// Returns the key of an event within its run: evaluations share their step with training.
    fn place(&self) -> (i64, bool) {
        let values = self.summary.iter().flat_map(|summary| &summary.value);
        (self.step, values.into_iter().any(|value| value.tag.starts_with("eval/")))
    }
}

/// The event file of a run.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Creates a file in `dir` with the events of `lines`, and removes existing files, so that no step is
    /// duplicated however the run was stopped. Events keep the times of the old files.
    ///
    /// # Errors
    /// Fails if the disk fails.
    pub fn open(dir: &Path, lines: &[Value]) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let old = files(dir)?;
        let mut times = HashMap::new();
        for path in &old {
            times.extend(read(path)?.0.iter().map(|event| (event.place(), event.wall_time)));
        }
        let now = now();
        let version =
            Event { wall_time: now, file_version: Some("brain.Event:2".into()), ..Event::default() };
        let mut bytes = version.frame();
        for mut event in lines.iter().filter_map(|line| Event::of(line, now)) {
            event.wall_time = times.get(&event.place()).copied().unwrap_or(now);
            bytes.extend(event.frame());
        }
        // TensorBoard follows files by name: the new one must sort after all others.
        let newest = old.last().and_then(|path| path.file_name()?.to_str()?.strip_prefix(PREFIX)?.get(..10));
        let after = newest.and_then(|seconds| seconds.parse::<u64>().ok()).map_or(0, |seconds| seconds + 1);
        let path = dir.join(format!("{PREFIX}{:010}.pcrm", after.max(now as u64)));
        weights::write(&path, &bytes)?;
        for path in &old {
            fs::remove_file(path).map_err(Error::io(path))?;
        }
        let file = OpenOptions::new().append(true).open(&path).map_err(Error::io(&path))?;
        Ok(Self { path, file })
    }

    /// Appends the event of a line of `metrics.jsonl`.
    ///
    /// # Errors
    /// Fails if the disk fails.
    pub fn line(&mut self, line: &Value) -> Result<()> {
        let frame = Event::of(line, now()).map_or_else(Vec::new, |event| event.frame());
        Ok(self.file.write_all(&frame).map_err(Error::io(&self.path))?)
    }
}

/// Returns a run's event files, the oldest first.
///
/// # Errors
/// Fails if the disk fails.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = entry.map_err(Error::io(dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(".pcrm")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads the events of a file up to its end or the first torn or corrupt frame, and returns true if all of it
/// was read.
///
/// # Errors
/// Fails if the disk fails.
pub fn read(path: &Path) -> Result<(Vec<Event>, bool)> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let (mut events, mut rest) = (Vec::new(), bytes.as_slice());
    while let Some((event, behind)) = unframe(rest) {
        events.push(event);
        rest = behind;
    }
    Ok((events, rest.is_empty()))
}

fn unframe(bytes: &[u8]) -> Option<(Event, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (length_crc, rest) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*length_crc) != masked_crc(length) {
        return None;
    }
    let (message, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let (message_crc, rest) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*message_crc) != masked_crc(message) {
        return None;
    }
    Some((Event::decode(message).ok()?, rest))
}

/// Returns the CRC-32C, rotated and shifted so that the CRC of data with embedded CRCs is safe.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Protects: frames equal those of TensorFlow's writer; the bytes are what tensorboard 2.21's
    /// `EventFileWriter` wrote for the same event.
    #[test]
    fn frames_equal_those_of_tensorboard() {
        let event = Event::of(&json!({"step": 7, "loss": 0.5}), 1.25).unwrap();
        let hex: String = event.frame().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str =
        "200000000000000029eda95009000000000000f43f10072a130a110a0a747261696e2f6c6f7373150000003f560f782f";

    /// Protects: resuming keeps each valid step once, with its time, whatever was torn or written later.
    #[test]
    fn going_on_writes_no_step_twice() {
        let dir = tempfile::tempdir().unwrap();
        let line = |step: u64| json!({"step": step, "loss": 1.0 / step as f64});
        let evaluated = json!({"step": 2, "eval_loss": 0.25});
        let mut file = EventFile::open(dir.path(), &[]).unwrap();
        for line in [&line(1), &line(2), &evaluated, &line(3), &line(4)] {
            file.line(line).unwrap();
        }
        let first = files(dir.path()).unwrap();
        let (before, whole) = read(&first[0]).unwrap();
        assert!(whole && before.len() == 6, "{before:?}");
        fs::write(&first[0], &fs::read(&first[0]).unwrap()[..200]).unwrap();
        assert!(!read(&first[0]).unwrap().1);

        let mut file = EventFile::open(dir.path(), &[line(1), line(2), evaluated]).unwrap();
        file.line(&line(3)).unwrap();
        let second = files(dir.path()).unwrap();
        assert!(second.len() == 1 && second[0] > first[0], "{second:?}");
        let (after, whole) = read(&second[0]).unwrap();
        assert!(whole);
        let steps: Vec<_> = after[1..].iter().map(Event::place).collect();
        assert_eq!(steps, [(1, false), (2, false), (2, true), (3, false)]);
        assert_eq!(after[1].wall_time, before[1].wall_time);
        let tags: Vec<_> = after[1..4].iter().map(|event| event.summary.clone().unwrap().value).collect();
        assert_eq!(tags[2], [Scalar { tag: "eval/loss".into(), simple_value: Some(0.25) }]);
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let frame = Event::of(&json!({"step": 1, "loss": 0.5}), 1.0).unwrap().frame();
        assert!(unframe(&frame).is_some());
        for at in 0..frame.len() {
            let mut harmed = frame.clone();
            harmed[at] ^= 1;
            assert!(unframe(&harmed).is_none(), "byte {at}");
        }
    }
}
