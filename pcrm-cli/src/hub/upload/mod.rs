//! Uploads to a repository of the Hub in one commit: create the repository, ask which files go to large file
//! storage, send them, and commit.
//!
//! This is the HTTP protocol of `huggingface_hub`. A request that fails with 429, a server error or a broken
//! connection is repeated (`repeat.rs`); a large file that an earlier attempt has stored is not sent again
//! (`large.rs`).

mod create;
mod large;
mod repeat;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::Response;

use self::repeat::{Answered, repeated};
use super::cache::is_inside;
use super::client::{Client, encoded};
use super::environment::endpoint;

const JSON: (&str, &str) = ("application/json", "application/json");
/// The number of leading bytes that the Hub gets to decide whether a file is large.
const SAMPLE: u64 = 512;
/// The largest answer to read, in bytes.
const ANSWER: u64 = 16 << 20;

/// The content of a file to upload.
#[derive(Debug, Clone)]
pub enum Content {
    /// A file on the disk.
    File(PathBuf),
    /// Bytes in memory.
    Bytes(Vec<u8>),
}

/// A file to upload.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The path in the repository.
    pub name: String,
    /// The content.
    pub content: Content,
}

/// The destination of an upload.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// `org/name`.
    pub repository: &'a str,
    /// The branch; it is created if it is missing.
    pub revision: &'a str,
    /// True to make the repository private if it is new.
    pub private: bool,
}

impl Entry {
    /// Returns the size in bytes.
    ///
    /// # Errors
    /// Fails if the file is missing.
    pub fn size(&self) -> Result<u64> {
        match &self.content {
            Content::File(path) => {
                Ok(std::fs::metadata(path).with_context(|| path.display().to_string())?.len())
            }
            Content::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Opens the content at byte `start`.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    fn open(&self, start: u64) -> Result<Box<dyn Read + '_>> {
        Ok(match &self.content {
            Content::File(path) => {
                let place = || path.display().to_string();
                let mut file = File::open(path).with_context(place)?;
                file.seek(SeekFrom::Start(start)).with_context(place)?;
                Box::new(file)
            }
            Content::Bytes(bytes) => Box::new(&bytes[(start as usize).min(bytes.len())..]),
        })
    }

    /// Reads at most this many bytes from the start.
    fn head(&self, most: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(0)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Returns the SHA-256 of the content.
    fn digest(&self) -> Result<String> {
        let mut hasher = Sha256::new();
        let (mut content, mut piece) = (self.open(0)?, vec![0; 1 << 20]);
        loop {
            match content.read(&mut piece) {
                Ok(0) => return Ok(pcrm_core::digest::hex(&hasher.finalize())),
                Ok(read) => hasher.update(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).with_context(|| self.name.clone()),
            }
        }
    }
}

/// Uploads files in one commit with this message. Returns the address of the commit, or of the repository if
/// the Hub returns none.
///
/// # Errors
/// Fails if there is no token, if the Hub refuses the token or the repository's name, or after repeated
/// failures. The branch changes only if the commit succeeds.
pub fn push(target: &Target<'_>, entries: &[Entry], message: &str) -> Result<String> {
    ensure!(
        is_inside(target.revision),
        "{:?} is not a revision; expected the name of a branch",
        target.revision
    );
    for entry in entries {
        ensure!(is_inside(&entry.name), "{:?} leads out of the repository", entry.name);
    }
    let client = Client::new()?;
    ensure!(
        client.has_token(),
        "no token for {}: set HF_TOKEN to a token with write access (over plain http to another machine \
         none is sent)",
        endpoint()
    );
    create::create(&client, target)?;
    let large = sorted(&client, target, entries)?;
    let mut lines = vec![json!({"key": "header", "value": {"summary": message, "description": ""}})];
    let mut stored = Vec::new();
    for (entry, large) in entries.iter().zip(&large) {
        match large {
            true => stored.push(large::Object { entry, oid: entry.digest()?, size: entry.size()? }),
            false => {
                let content = STANDARD.encode(entry.head(u64::MAX)?);
                let value = json!({"content": content, "path": entry.name, "encoding": "base64"});
                lines.push(json!({"key": "file", "value": value}));
            }
        }
    }
    large::store(&client, target, &stored)?;
    for large::Object { entry, oid, size } in &stored {
        let value = json!({"path": entry.name, "algo": "sha256", "oid": oid, "size": size});
        lines.push(json!({"key": "lfsFile", "value": value}));
    }
    commit(&client, target, &lines)
}

#[derive(Deserialize)]
struct Modes {
    files: Vec<Mode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mode {
    path: String,
    upload_mode: String,
}

/// Asks the Hub which files go to large file storage.
fn sorted(client: &Client, target: &Target<'_>, entries: &[Entry]) -> Result<Vec<bool>> {
    let files = entries.iter().map(|entry| {
        let sample = STANDARD.encode(entry.head(SAMPLE)?);
        Ok(json!({"path": entry.name, "sample": sample, "size": entry.size()?}))
    });
    let asked = json!({"files": files.collect::<Result<Vec<_>>>()?}).to_string();
    let path = format!("api/models/{}/preupload/{}", target.repository, encoded(target.revision, b""));
    let answer = repeated("asking how to upload", || client.post(&path, JSON, asked.as_bytes()))?;
    let modes: Modes = parsed(accept(target, answer, "asking how to upload", &[])?)?;
    entries
        .iter()
        .map(|entry| {
            let mode = modes.files.iter().find(|mode| mode.path == entry.name);
            match mode.map(|mode| mode.upload_mode.as_str()) {
                Some("lfs") => Ok(true),
                Some("regular") => Ok(false),
                mode => bail!(
                    "{} gives {mode:?} as the upload mode of {}; expected lfs or regular",
                    endpoint(),
                    entry.name
                ),
            }
        })
        .collect()
}

fn commit(client: &Client, target: &Target<'_>, lines: &[Value]) -> Result<String> {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let path = format!("api/models/{}/commit/{}", target.repository, encoded(target.revision, b""));
    let kinds = ("application/x-ndjson", "application/json");
    let answer = repeated("committing", || client.post(&path, kinds, body.as_bytes()))?;
    let answer: Value = parsed(accept(target, answer, "committing", &[])?)?;
    let address = answer["commitUrl"].as_str().map(str::to_owned);
    Ok(address.unwrap_or_else(|| format!("{}/{}", endpoint(), target.repository)))
}

/// Refuses an answer whose status is neither a success nor one of these.
fn accept(target: &Target<'_>, answer: Answered, doing: &str, fine: &[u16]) -> Result<Response<Body>> {
    let Answered { response, status } = answer;
    if (200..300).contains(&status) || fine.contains(&status) {
        return Ok(response);
    }
    let said = repeat::said(response);
    let (hub, repository) = (endpoint(), target.repository);
    match status {
        401 => bail!(
            "{hub} does not accept the token (status 401{said}): set HF_TOKEN to a valid token with write \
             access ({hub}/settings/tokens)"
        ),
        403 => bail!(
            "{hub} refuses to write to {repository} (status 403{said}): the token needs write access \
             to {repository}"
        ),
        _ => bail!("{doing}: {hub} answers with status {status}{said}"),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(response: Response<Body>) -> Result<T> {
    let body = response.into_body().into_with_config().limit(ANSWER);
    serde_json::from_str(&body.read_to_string()?).with_context(|| format!("an answer of {}", endpoint()))
}
