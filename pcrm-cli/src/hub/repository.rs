//! A repository of the Hub: its files, downloaded into the cache or found there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use pcrm_core::model::weights::write_json;
use serde::Deserialize;

use super::cache::{Kind, Repo, Word, is_inside};
use super::client::{Client, encoded};
use super::download::{self, Refused};
use super::environment::{self, endpoint, token};
use crate::chain::in_full;
use crate::progress::say;

/// The largest size of a repository's file list, in bytes.
const LONGEST_LIST: u64 = 64 << 20;

/// A repository at one commit.
pub struct Repository {
    repo: Repo,
    revision: String,
    commit: Word,
    files: Vec<String>,
    /// The Hub, or `None` if everything must be in the cache.
    remote: Option<Client>,
    /// The reason for having no remote.
    unreachable: String,
}

impl Repository {
    /// Looks up the commit and the files of a revision, in the cache if the Hub cannot be reached.
    ///
    /// # Errors
    /// Fails if the repository or revision does not exist or is not readable, or if the Hub gives no answer
    /// and the cache lacks it.
    pub fn open(name: &str, kind: Kind, revision: &str) -> Result<Self> {
        ensure!(is_inside(revision), "{revision:?} is not a revision; expected a branch, a tag or a commit");
        let repo = Repo { name: name.to_owned(), kind };
        let at = |commit, files, remote, unreachable| Self {
            repo: repo.clone(),
            revision: revision.to_owned(),
            commit,
            files,
            remote,
            unreachable,
        };
        let from_cache = |why: String| match cached(&repo, revision) {
            Some((commit, files)) => Ok(at(commit, files, None, why)),
            None => bail!("{why}, and {} does not hold {name} at {revision}", environment::cache().display()),
        };
        if let Some(variable) = environment::offline() {
            return from_cache(format!("{variable} is set"));
        }
        let client = Client::new()?;
        match ask(&client, &repo, revision) {
            Ok(Listing::Holds(commit, files)) => Ok(at(commit, files, Some(client), String::new())),
            Ok(Listing::Refuses(why)) => bail!(why),
            Err(error) => {
                let found = from_cache(format!("{} gives no answer ({})", endpoint(), in_full(&error)))?;
                say(&format!("{}: reading {name} from the cache", found.unreachable));
                Ok(found)
            }
        }
    }

    /// Returns the names of all files.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Returns the folder of the fetched files.
    pub fn folder(&self) -> PathBuf {
        self.repo.snapshot(&self.commit)
    }

    /// Fetches files that are not in the cache.
    ///
    /// # Errors
    /// Fails if a file is not readable, a response is not trustworthy, the connection breaks or the disk is
    /// full; files fetched before are kept.
    pub fn fetch(&mut self, files: &[String]) -> Result<()> {
        for file in files {
            let name = &self.repo.name;
            ensure!(is_inside(file), "{file:?} of {name} leads out of its folder");
            if self.folder().join(file).exists() {
                continue;
            }
            let Some(remote) = &self.remote else {
                bail!("{}, and {} lacks {file} of {name}", self.unreachable, environment::cache().display());
            };
            download::fetch(remote, &self.repo, &self.commit, file)
                .map_err(|error| self.explain(error, file))?;
        }
        Ok(())
    }

    /// Records that this revision can be read from the cache, now that all wanted files are there.
    ///
    /// # Errors
    /// Fails if the record cannot be written.
    pub fn keep(&self) -> Result<()> {
        if self.remote.is_some() {
            write_json(&self.repo.listing(&self.commit), &self.files)?;
            self.repo.keep(&self.revision, &self.commit)?;
        }
        Ok(())
    }

    fn explain(&self, error: anyhow::Error, file: &str) -> anyhow::Error {
        let place = format!("{file} of {} on {}", self.repo.name, endpoint());
        match error.downcast_ref() {
            Some(Refused(401 | 403)) => anyhow!("{place} may not be read{}", permission(&self.repo)),
            _ => error.context(place),
        }
    }
}

enum Listing {
    /// The commit, and the names of its files, sorted.
    Holds(Word, Vec<String>),
    /// A final refusal; asking again would not help.
    Refuses(String),
}

/// The facts that a Hub states about a revision.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// Asks the Hub for the contents of a revision; fails if the Hub gives no answer.
fn ask(client: &Client, repo: &Repo, revision: &str) -> Result<Listing> {
    let answer = client.get(&repo.listing_page(&encoded(revision, b"")), 0)?;
    let status = answer.response.status().as_u16();
    let code = answer.header("x-error-code").unwrap_or_default().to_owned();
    let said = answer
        .header("x-error-message")
        .map_or(String::new(), |said| format!(": {}", said.chars().take(300).collect::<String>()));
    let (name, noun, hub) = (&repo.name, repo.kind.noun(), endpoint());
    Ok(match status {
        200 => {
            let body = answer.response.into_body().into_with_config().limit(LONGEST_LIST);
            let info: Info = serde_json::from_str(&body.read_to_string()?)
                .with_context(|| format!("{hub} lists no files of {name}"))?;
            let is_commit =
                |text: &str| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let asked_for = !is_commit(revision) || revision.eq_ignore_ascii_case(&info.sha);
            let commit = Word::new(&info.sha).filter(|_| asked_for).with_context(|| {
                let shown: String = info.sha.chars().take(80).collect();
                format!("{hub} gives {shown:?} as the commit of {name} at {revision}")
            })?;
            let files = info.siblings.into_iter().map(|file| file.rfilename);
            let mut files: Vec<String> = files.filter(|file| is_inside(file)).collect();
            files.sort();
            Listing::Holds(commit, files)
        }
        404 if code == "RevisionNotFound" => {
            Listing::Refuses(format!("the {noun} {name} on {hub} has no revision {revision}"))
        }
        404 => Listing::Refuses(format!("{hub} has no {noun} of that name (status 404{said})")),
        401 | 403 => Listing::Refuses(format!(
            "{hub} shows no {noun} of that name (status {status}{said}): it does not exist or may not be \
             read{}",
            permission(repo)
        )),
        _ => bail!("status {status}{said}"),
    })
}

/// Returns advice for a refusal by the Hub.
fn permission(repo: &Repo) -> String {
    let page = format!("{}/{}", endpoint(), repo.page());
    match token() {
        Some(_) => format!(" with this token; if it is gated, accept its conditions on {page}"),
        None => format!(" without a token; if it is gated, accept its conditions on {page} and set HF_TOKEN"),
    }
}

/// Returns the commit and files of a revision in the cache: those the Hub listed, or those another program
/// stored.
fn cached(repo: &Repo, revision: &str) -> Option<(Word, Vec<String>)> {
    let commit = repo.commit(revision)?;
    let folder = repo.snapshot(&commit);
    if !folder.is_dir() {
        return None;
    }
    let listed = fs::read_to_string(repo.listing(&commit)).ok();
    let files = listed.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_else(|| {
        let mut files = Vec::new();
        walk(&folder, "", &mut files);
        files.sort();
        files
    });
    Some((commit, files))
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.path().is_dir() {
            true => walk(&entry.path(), &format!("{name}/"), files),
            false => files.push(name),
        }
    }
}
