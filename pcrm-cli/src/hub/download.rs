//! The download of one file into the cache. Its commit, etag and length are checked before a byte is written.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::cache::{Repo, Word};
use super::client::{Answer, Client, encoded};
use crate::progress::{Download, say};

/// The facts that a Hub states about a file.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    etag: Word,
    /// The SHA-256 of the content, if the etag is one.
    digest: Option<String>,
    /// The first byte of the response.
    start: u64,
    /// The size of the whole file in bytes.
    size: u64,
}

/// The Hub refused a file with this status.
#[derive(Debug)]
pub struct Refused(pub u16);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.0)
    }
}

impl std::error::Error for Refused {}

/// Downloads a file of a commit into the cache, atomically. What arrived before a connection broke is kept
/// aside, and the next call continues there.
///
/// # Errors
/// Fails if the Hub refuses the file ([`Refused`]), the response is for another commit, has an invalid etag
/// or no length, or differs in length or digest, the connection breaks, or the disk is full.
pub fn fetch(client: &Client, repo: &Repo, commit: &Word, file: &str) -> Result<()> {
    let way = repo.on_its_way(commit, file);
    let part = way.with_extension("part");
    fs::create_dir_all(way.parent().context("a cache has a folder")?)?;
    let _lock = lock(&way.with_extension("lock"), file)?;
    if repo.snapshot(commit).join(file).exists() {
        return Ok(());
    }
    let path = format!("{}/resolve/{commit}/{}", repo.page(), encoded(file, b"/"));
    let (answer, facts) = ask(client, &path, commit, &part)?;
    let blob = repo.blob(&facts.etag);
    // The same content may be cached under another name or commit. The cached content of an etag is never
    // replaced, since snapshots from other programs may refer to it.
    if let Ok(found) = fs::metadata(&blob) {
        ensure!(
            found.len() == facts.size,
            "the answer has {} bytes under the etag {}, of which the cache holds {}; remove {} to fetch them \
             again",
            facts.size,
            facts.etag,
            found.len(),
            blob.display()
        );
    } else {
        let mut bar = Download::new(&format!("{}/{file}", repo.name));
        bar.begin(facts.size, facts.start);
        let digest = receive(answer, &facts, &part, &bar)?;
        bar.finish();
        if facts.digest.as_ref().is_some_and(|expected| *expected != digest) {
            fs::remove_file(&part)?;
            bail!("the content has SHA-256 {digest}, expected that of its etag {}", facts.etag);
        }
        fs::create_dir_all(blob.parent().context("a blob has a folder")?)?;
        fs::rename(&part, &blob).with_context(|| blob.display().to_string())?;
    }
    repo.link(commit, file, &facts.etag)
}

/// Requests a file, continuing an earlier partial download.
fn ask(client: &Client, path: &str, commit: &Word, part: &Path) -> Result<(Answer, Facts)> {
    let there = fs::metadata(part).map_or(0, |found| found.len());
    let mut answer = client.get(path, there)?;
    if there > 0 && answer.response.status().as_u16() == 416 {
        fs::remove_file(part)?;
        answer = client.get(path, 0)?;
    }
    let facts = facts(&answer, commit, if part.exists() { there } else { 0 })?;
    Ok((answer, facts))
}

/// Checks the headers of a response before its content is read.
fn facts(answer: &Answer, commit: &Word, asked: u64) -> Result<Facts> {
    let status = answer.response.status().as_u16();
    if ![200, 206].contains(&status) {
        return Err(Refused(status).into());
    }
    let said = answer.own_header("x-repo-commit").unwrap_or("none");
    ensure!(said == commit.as_str(), "the answer is of commit {said:?}; expected {commit}");
    let linked = answer.own_header("x-linked-etag");
    let given = linked.or(answer.own_header("etag")).unwrap_or_default();
    let etag = given.trim().trim_start_matches("W/").trim_matches('"');
    let etag = Word::new(etag)
        .with_context(|| format!("the answer has etag {given:?}; expected letters and digits"))?;
    let is_digest =
        |etag: &Word| etag.as_str().len() == 64 && etag.as_str().bytes().all(|byte| byte.is_ascii_hexdigit());
    let digest = linked.is_some() && is_digest(&etag);
    let digest = digest.then(|| etag.as_str().to_ascii_lowercase());
    let length = answer.header("content-length").and_then(|length| length.parse::<u64>().ok());
    let range = answer.header("content-range").and_then(range);
    let (start, size) = match (status, range, length) {
        (206, Some((start, size)), _) => (start, size),
        (200, _, Some(length)) => (0, length),
        _ => bail!("the answer gives no length"),
    };
    ensure!(
        [0, asked].contains(&start) && start <= size,
        "the answer begins at byte {start}, not at {asked}"
    );
    Ok(Facts { etag, digest, start, size })
}

/// Returns the first byte and the total length of `bytes 5-9/10`.
fn range(text: &str) -> Option<(u64, u64)> {
    let (bytes, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((bytes.split_once('-')?.0.parse().ok()?, size.parse().ok()?))
}

/// Appends the content to the partial file; returns the SHA-256 of the whole.
fn receive(answer: Answer, facts: &Facts, part: &Path, bar: &Download) -> Result<String> {
    let place = || part.display().to_string();
    let mut digest = Sha256::new();
    if facts.start > 0 {
        io::copy(&mut File::open(part).with_context(place)?.take(facts.start), &mut Hashed(&mut digest))?;
    }
    let file = OpenOptions::new().append(true).create(true).open(part).with_context(place)?;
    file.set_len(facts.start).with_context(place)?;
    let mut body = answer.response.into_body().into_reader();
    let (mut done, mut bytes) = (facts.start, vec![0; 1 << 16]);
    while done < facts.size {
        let room = (facts.size - done).min(bytes.len() as u64) as usize;
        let read = body.read(&mut bytes[..room])?;
        ensure!(read > 0, "the content ends after {done} of {} bytes", facts.size);
        (&file).write_all(&bytes[..read]).with_context(place)?;
        digest.update(&bytes[..read]);
        bar.advance(read as u64);
        done += read as u64;
    }
    file.sync_all().with_context(place)?;
    Ok(pcrm_core::digest::hex(&digest.finalize()))
}

struct Hashed<'a>(&'a mut Sha256);

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until no other process downloads the same file.
fn lock(path: &Path, file: &str) -> Result<File> {
    let place = || path.display().to_string();
    let held = OpenOptions::new().append(true).create(true).open(path).with_context(place)?;
    match held.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say(&format!("waiting for another process to fetch {file}"));
            held.lock().with_context(place)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(place),
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use ureq::Body;
    use ureq::http::Response;

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn answer(status: u16, headers: &[(&str, &str)]) -> Answer {
        let mut response = Response::builder().status(status);
        for (key, value) in headers {
            response = response.header(*key, *value);
        }
        let response = response.body(Body::builder().data("")).unwrap_or_else(|error| panic!("{error}"));
        Answer { own: Some(response.headers().clone()), response }
    }

    fn read(status: u16, change: &[(&str, &str)], asked: u64) -> Result<Facts, String> {
        let usual = [("x-repo-commit", COMMIT), ("etag", "\"ab12\""), ("content-length", "9")];
        let kept = usual.iter().filter(|(key, _)| !change.iter().any(|(changed, _)| changed == key));
        let all: Vec<(&str, &str)> =
            kept.chain(change.iter().filter(|(_, value)| !value.is_empty())).copied().collect();
        let commit = Word::new(COMMIT).unwrap_or_else(|| panic!("a word"));
        facts(&answer(status, &all), &commit, asked).map_err(|error| error.to_string())
    }

    /// Protects: a response is accepted only for the requested commit, with a valid etag and a length.
    #[test]
    fn answers_are_checked_before_they_are_read() {
        let plain = Facts { etag: Word::new("ab12").unwrap(), digest: None, start: 0, size: 9 };
        assert_eq!(read(200, &[], 0), Ok(plain));
        let digest = "AB".repeat(32);
        let linked = read(200, &[("x-linked-etag", &format!("W/\"{digest}\""))], 0).unwrap();
        assert_eq!(linked.digest, Some("ab".repeat(32)));
        let resumed = read(206, &[("content-range", "bytes 5-9/10")], 5).unwrap();
        assert_eq!((resumed.start, resumed.size), (5, 10));
        for (status, change, asked, said) in [
            (200, ("x-repo-commit", "0123"), 0, "of commit \"0123\""),
            (200, ("x-repo-commit", ""), 0, "of commit \"none\""),
            (200, ("x-repo-commit", "../../../../evil"), 0, "of commit"),
            (200, ("etag", "\"/home/me/.ssh/authorized_keys\""), 0, "has etag"),
            (200, ("etag", "\"../../../../evil.json\""), 0, "has etag"),
            (200, ("x-linked-etag", "a/b"), 0, "has etag"),
            (200, ("etag", ""), 0, "has etag"),
            (200, ("content-length", ""), 0, "no length"),
            (206, ("content-range", "bytes 4-9/10"), 5, "begins at byte 4"),
            (206, ("content-range", "bytes x"), 5, "no length"),
            (404, ("a", "b"), 0, "status 404"),
        ] {
            let error = read(status, &[change], asked).unwrap_err();
            assert!(error.contains(said), "{change:?}: {error}");
        }
    }
}
