//! Slices of files by record, in the syntax of the `datasets` library: `train.jsonl[:500]`, `[500:]`,
//! `[-100:]`, `[10%:20%]`.
//!
//! Records are counted from 0, and malformed records count. Percentages are rounded to the nearest record, and
//! halves to the even one, as in `datasets`.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::records::Records;
use crate::error::{Error, Result};

/// One end of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// A record number from the beginning, or from the end if negative.
    Records(i64),
    /// A percentage of the records, from the end if negative.
    PerCent(i64),
}

/// A range of records, each end open if absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slice {
    begin: Option<Bound>,
    end: Option<Bound>,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records(count) => write!(f, "{count}"),
            Self::PerCent(share) => write!(f, "{share}%"),
        }
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |bound: Option<Bound>| bound.map_or_else(String::new, |bound| bound.to_string());
        write!(f, "[{}:{}]", end(self.begin), end(self.end))
    }
}

impl Bound {
    fn parse(text: &str) -> Option<Option<Self>> {
        if text.is_empty() {
            return Some(None);
        }
        let bound = match text.strip_suffix('%') {
            Some(share) => Self::PerCent(share.parse().ok().filter(|share: &i64| share.abs() <= 100)?),
            None => Self::Records(text.parse().ok()?),
        };
        Some(Some(bound))
    }

    /// Returns the position in a file of `count` records.
    fn of(self, count: u64) -> u64 {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let at = match self {
            Self::Records(at) => at,
            Self::PerCent(share) => (share as f64 * count as f64 / 100.0).round_ties_even() as i64,
        };
        let at = if at < 0 { count.saturating_add(at) } else { at };
        at.clamp(0, count) as u64
    }

    fn needs_count(self) -> bool {
        !matches!(self, Self::Records(0..))
    }
}

impl Slice {
    /// Splits a path into the file's path and the slice after it; `None` if there is no slice.
    ///
    /// # Errors
    /// Fails if the path ends in brackets that are not a slice, or in a slice that holds no record of any file.
    pub fn split(path: &str) -> Result<Option<(&str, Self)>> {
        let Some((before, text)) = path.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')) else {
            return Ok(None);
        };
        let bounds = text
            .split_once(':')
            .and_then(|(begin, end)| Some(Self { begin: Bound::parse(begin)?, end: Bound::parse(end)? }));
        match bounds.filter(|_| !before.is_empty()) {
            Some(slice) => match slice.emptiness() {
                Some(why) => Err(Error::file(before, format!("the slice {slice} is empty: {why}"))),
                None => Ok(Some((before, slice))),
            },
            None => Err(Error::file(
                path,
                format!("[{text}] is not a slice; expected one such as [:500], [500:], [-100:] or [10%:20%]"),
            )),
        }
    }

    /// Returns the reason why the slice is empty in every file, if its ends show that without the number of
    /// records.
    fn emptiness(self) -> Option<&'static str> {
        let (begin, end) = match (self.begin.unwrap_or(Bound::Records(0)), self.end?) {
            (Bound::Records(begin), Bound::Records(end)) => (begin, end),
            (Bound::PerCent(begin), Bound::PerCent(end)) => (begin, end),
            (Bound::Records(begin), Bound::PerCent(0)) => (begin, 0),
            _ => return None,
        };
        // One end counted from the beginning and the other from the end may be in any order.
        ((begin < 0) == (end < 0)).then(|| why_empty(begin, end)).flatten()
    }

    /// Returns the file's path and the slice after it. If the whole path exists, it is a file without a
    /// slice.
    ///
    /// # Errors
    /// Fails as [`Slice::split`] does.
    pub fn of(path: &Path) -> Result<(PathBuf, Option<Self>)> {
        let whole = (path.to_path_buf(), None);
        let Some(text) = path.to_str().filter(|_| !path.exists()) else { return Ok(whole) };
        Ok(Self::split(text)?.map_or(whole, |(before, slice)| (PathBuf::from(before), Some(slice))))
    }

    /// Returns the range of record numbers in a file; the end may be past the last record.
    ///
    /// # Errors
    /// Fails if the file has to be counted and cannot be read, or if the slice holds no record.
    pub fn range(self, path: &Path, limit: usize) -> Result<Range<u64>> {
        let needs_count = [self.begin, self.end].into_iter().flatten().any(Bound::needs_count);
        let count = if needs_count { Some(count(path, limit)?) } else { None };
        self.range_of(count, path)
    }

    /// Returns the range in a file of `count` records; `None` if no end depends on their number.
    fn range_of(self, count: Option<u64>, path: &Path) -> Result<Range<u64>> {
        let most = count.unwrap_or(u64::MAX >> 1);
        let begin = self.begin.map_or(0, |bound| bound.of(most));
        let end = self.end.map_or(most, |bound| bound.of(most));
        let behind = begin == end && count == Some(begin);
        let why = if behind { Some("it starts behind the last record") } else { why_empty(begin, end) };
        let of = || count.map_or_else(String::new, |count| format!(" of {count} records"));
        match why {
            Some(why) => Err(Error::file(path, format!("the slice {self}{} is empty: {why}", of()))),
            None => Ok(begin..end),
        }
    }

    /// Applies the slice to the concatenation of several files, and returns a slice of each file that has
    /// selected records.
    ///
    /// # Errors
    /// Fails if a file cannot be read or the slice holds no record.
    pub fn spread(self, files: &[PathBuf], limit: usize) -> Result<Vec<PathBuf>> {
        if let [file] = files {
            return Ok(vec![PathBuf::from(format!("{}{self}", file.display()))]);
        }
        let counts = files.iter().map(|file| count(file, limit)).collect::<Result<Vec<_>>>()?;
        let first = files.first().map_or(Path::new(""), PathBuf::as_path);
        let range = self.range_of(Some(counts.iter().sum()), first)?;
        let (mut found, mut start) = (Vec::new(), 0);
        for (file, count) in files.iter().zip(counts) {
            let inside = range.start.max(start)..range.end.min(start + count);
            if inside.start < inside.end {
                let (begin, end) = (inside.start - start, inside.end - start);
                found.push(PathBuf::from(format!("{}[{begin}:{end}]", file.display())));
            }
            start += count;
        }
        Ok(found)
    }
}

/// Returns the reason why no record is from `begin` to before `end`, if there is none.
fn why_empty<T: Ord>(begin: T, end: T) -> Option<&'static str> {
    match begin.cmp(&end) {
        Ordering::Less => None,
        Ordering::Equal => Some("its start is at its end"),
        Ordering::Greater => Some("its start is behind its end"),
    }
}

/// Returns the number of records in a file, including malformed ones.
fn count(path: &Path, limit: usize) -> Result<u64> {
    let mut records = 0;
    for record in Records::open_with(path, limit)? {
        match record {
            Ok(_) | Err(Error::Line { .. }) => records += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn ranges(text: &str, count: u64) -> Option<Range<u64>> {
        let (_, slice) = Slice::split(text).unwrap()?;
        slice.range_of(Some(count), Path::new("a")).ok()
    }

    /// Protects: slices select the records that `datasets.load_dataset` selects.
    #[test]
    fn slices_are_those_of_datasets() {
        for (text, count, expected) in [
            ("a[:500]", 1000, Some(0..500)),
            ("a[:500]", 10, Some(0..10)),
            ("a[5:]", 10, Some(5..10)),
            ("a[-3:]", 10, Some(7..10)),
            ("a[:-3]", 10, Some(0..7)),
            ("a[10%:20%]", 240, Some(24..48)),
            ("a[50%:]", 3, Some(2..3)),
            ("a[-10%:]", 25, Some(23..25)),
            ("a[:50%]", 25, Some(0..12)),
            ("a[50%:]", 5, Some(2..5)),
            ("a[10%:]", 5, Some(0..5)),
            ("a[10%:30%]", 25, Some(2..8)),
            ("a[:]", 4, Some(0..4)),
            ("a[4:]", 4, None),
            ("a[3:-2]", 4, None),
            ("a[-3:3]", 4, Some(1..3)),
        ] {
            assert_eq!(ranges(text, count), expected, "{text} of {count}");
        }
        assert_eq!(Slice::split("a.jsonl").unwrap(), None);
        for text in ["a[500]", "a[x:]", "a[:101%]", "[:5]", "a[1:2:3]"] {
            let error = Slice::split(text).unwrap_err().to_string();
            assert!(error.contains("expected one such as [:500]"), "{error}");
        }
    }

    /// Protects: a slice that is empty in every file is refused before a file is read, and other slices are
    /// not.
    #[test]
    fn some_slices_are_empty_in_every_file() {
        for (text, expected) in [
            ("a[5:2]", "a: the slice [5:2] is empty: its start is behind its end"),
            ("a[2:2]", "a: the slice [2:2] is empty: its start is at its end"),
            ("a[:0]", "a: the slice [:0] is empty: its start is at its end"),
            ("a[3:0%]", "a: the slice [3:0%] is empty: its start is behind its end"),
            ("a[-1:-3]", "a: the slice [-1:-3] is empty: its start is behind its end"),
            ("a[50%:25%]", "a: the slice [50%:25%] is empty: its start is behind its end"),
            ("a[-5%:-5%]", "a: the slice [-5%:-5%] is empty: its start is at its end"),
        ] {
            assert_eq!(Slice::split(text).unwrap_err().to_string(), expected);
        }
        for text in ["a[5:-2]", "a[-1:3]", "a[:-5]", "a[-5:]", "a[5:10%]", "a[90%:5]", "a[-9%:5%]", "a[:]"] {
            assert!(Slice::split(text).is_ok(), "{text}");
        }
    }

    /// Protects: an empty slice is called empty, with the number of records.
    #[test]
    fn empty_slices_are_called_empty() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.jsonl");
        fs::write(&file, "{\"a\": 1}\n".repeat(4)).unwrap();
        for (text, expected) in [
            ("a[-1:1]", "the slice [-1:1] of 4 records is empty: its start is behind its end"),
            ("a[2:-2]", "the slice [2:-2] of 4 records is empty: its start is at its end"),
            ("a[5:100%]", "the slice [5:100%] of 4 records is empty: it starts behind the last record"),
        ] {
            let (_, slice) = Slice::split(text).unwrap().unwrap();
            let said = slice.range(&file, 1 << 20).unwrap_err().to_string();
            assert_eq!(said, format!("{}: {expected}", file.display()));
        }
    }

    /// Protects: a slice of several files continues from one file to the next.
    #[test]
    fn slices_span_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, records: usize| {
            let path = folder.path().join(name);
            fs::write(&path, "{\"a\": 1}\n".repeat(records)).unwrap();
            path
        };
        let files = [file("a.jsonl", 4), file("b.jsonl", 3), file("c.jsonl", 5)];
        let spread = |text: &str| -> Vec<String> {
            let (_, slice) = Slice::split(text).unwrap().unwrap();
            let found = slice.spread(&files, 1 << 20).unwrap();
            found.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(spread("x[2:8]"), ["a.jsonl[2:4]", "b.jsonl[0:3]", "c.jsonl[0:1]"]);
        assert_eq!(spread("x[:50%]"), ["a.jsonl[0:4]", "b.jsonl[0:2]"]);
        assert_eq!(spread("x[-1:]"), ["c.jsonl[4:5]"]);
    }
}
