//! Uploads of large files by the Git LFS protocol: ask which files are missing, send each whole or in parts,
//! and confirm.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;
use ureq::http::Uri;

use super::repeat::{Answered, repeated};
use super::{Entry, Target, accept, parsed};
use crate::hub::client::Client;
use crate::hub::environment::endpoint;
use crate::progress::Download;

const KINDS: (&str, &str) = ("application/vnd.git-lfs+json", "application/vnd.git-lfs+json");

/// A large file with its hash and size.
pub struct Object<'a> {
    /// The file.
    pub entry: &'a Entry,
    /// The SHA-256 of its content.
    pub oid: String,
    /// The size in bytes.
    pub size: u64,
}

#[derive(Deserialize)]
struct Batch {
    objects: Vec<ObjectPlan>,
}

/// The Hub's plan for one object; it has no actions if the Hub already has the content.
#[derive(Deserialize)]
struct ObjectPlan {
    oid: String,
    #[serde(default)]
    actions: BTreeMap<String, Action>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, serde_json::Value>,
}

/// Sends the objects that the Hub lacks.
///
/// # Errors
/// Fails if the Hub refuses an object or a transfer fails repeatedly.
pub fn store(client: &Client, target: &Target<'_>, objects: &[Object<'_>]) -> Result<()> {
    if objects.is_empty() {
        return Ok(());
    }
    let asked: Vec<_> =
        objects.iter().map(|object| json!({"oid": object.oid, "size": object.size})).collect();
    let asked = json!({
        "operation": "upload", "transfers": ["basic", "multipart"], "objects": asked, "hash_algo": "sha256",
        "ref": {"name": target.revision},
    });
    let path = format!("{}.git/info/lfs/objects/batch", target.repository);
    let answer = repeated("asking for uploads", || client.post(&path, KINDS, asked.to_string().as_bytes()))?;
    let batch: Batch = parsed(accept(target, answer, "asking for uploads", &[])?)?;
    for object in objects {
        let name = &object.entry.name;
        let plan = batch.objects.iter().find(|plan| plan.oid == object.oid);
        let plan = plan.with_context(|| format!("{} gives no place for {name}", endpoint()))?;
        if let Some(refusal) = &plan.error {
            bail!("{} refuses {name}: {}", endpoint(), refusal.message);
        }
        // The Hub already has the content.
        let Some(upload) = plan.actions.get("upload") else { continue };
        let mut bar = Download::new(&format!("{}/{name}", target.repository));
        bar.begin_sending(object.size);
        match upload.header.get("chunk_size") {
            Some(size) => in_parts(client, object, upload, number(size)?, &bar)?,
            None => whole(client, object, upload, &bar)?,
        }
        bar.finish();
        if let Some(verify) = plan.actions.get("verify") {
            let (address, body) =
                (client.given(&verify.href)?, json!({"oid": object.oid, "size": object.size}));
            let doing = format!("confirming {name}");
            let answer = repeated(&doing, || client.post_to(&address, KINDS, body.to_string().as_bytes()))?;
            accept(target, answer, &doing, &[])?;
        }
    }
    Ok(())
}

/// Sends an object in one piece.
fn whole(client: &Client, object: &Object<'_>, upload: &Action, bar: &Download) -> Result<()> {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let headers: Vec<(String, String)> =
        upload.header.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    let address = client.given(&upload.href)?;
    part(client, object, &address, &headers, 0, object.size)?;
    bar.advance(object.size);
    Ok(())
}

/// Sends an object in parts of `size` bytes. The plan's headers map each part's number to its address.
fn in_parts(client: &Client, object: &Object<'_>, upload: &Action, size: u64, bar: &Download) -> Result<()> {
    ensure!(size > 0, "{} asks for parts of 0 bytes", endpoint());
    let places = upload.header.iter().filter_map(|(key, value)| {
        let number: u64 = key.parse().ok()?;
        Some((number, value.as_str()?))
    });
    let places: BTreeMap<u64, &str> = places.collect();
    let count = object.size.div_ceil(size);
    let numbered = places.keys().copied().eq(1..=count);
    ensure!(numbered, "{} gives {} addresses for {count} parts", endpoint(), places.len());
    let mut parts = Vec::new();
    for (number, place) in places {
        let start = (number - 1) * size;
        let length = size.min(object.size - start);
        let answer = part(client, object, &client.given(place)?, &[], start, length)?;
        let etag = answer.response.headers().get("etag").and_then(|etag| etag.to_str().ok());
        let etag = etag.with_context(|| format!("part {number} of {} has no etag", object.entry.name))?;
        parts.push(json!({"partNumber": number, "etag": etag}));
        bar.advance(length);
    }
    let (address, body) = (client.given(&upload.href)?, json!({"oid": object.oid, "parts": parts}));
    let doing = format!("joining the parts of {}", object.entry.name);
    let answer = repeated(&doing, || client.post_to(&address, KINDS, body.to_string().as_bytes()))?;
    stored(answer, &doing)?;
    Ok(())
}

/// Sends `length` bytes, beginning at byte `start`.
fn part(
    client: &Client,
    object: &Object<'_>,
    address: &Uri,
    headers: &[(String, String)],
    start: u64,
    length: u64,
) -> Result<Answered> {
    let doing = format!("uploading {}", object.entry.name);
    let answer = repeated(&doing, || {
        client.put(address, headers, &mut object.entry.open(start)?.take(length), length)
    })?;
    stored(answer, &doing)
}

fn stored(answer: Answered, doing: &str) -> Result<Answered> {
    let Answered { response, status } = answer;
    match status {
        200..300 => Ok(Answered { response, status }),
        _ => bail!("{doing}: status {status}{}", super::repeat::said(response)),
    }
}

/// Reads a number, which may be a JSON number or a string.
fn number(value: &serde_json::Value) -> Result<u64> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.with_context(|| format!("{} gives {value} as the size of parts", endpoint()))
}
