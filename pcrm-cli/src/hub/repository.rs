//! One repository of the Hub: its files, fetched into the cache or found there.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow, bail, ensure};
use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use pcrm_core::model::weights::write_json;

use crate::chain::in_full;
use crate::progress::{Download, say};

/// A repository at one commit.
pub struct Repository {
    name: String,
    kind: RepoType,
    revision: String,
    commit: String,
    files: Vec<String>,
    /// `None`: everything must be in the cache.
    remote: Option<ApiRepo>,
    /// Why there is no remote.
    unreachable: String,
}

impl Repository {
    /// Asks for the commit and the files of a revision. What cannot be asked, the cache answers.
    ///
    /// # Errors
    /// No such repository or revision, or none that may be read; no answer, and nothing in the cache.
    pub fn open(name: &str, kind: RepoType, revision: &str) -> Result<Self> {
        let at = |commit: String, files, remote, unreachable| Self {
            name: name.to_owned(),
            kind,
            revision: revision.to_owned(),
            commit,
            files,
            remote,
            unreachable,
        };
        let from_cache = |why: String| match cached(name, kind, revision) {
            Some((commit, files)) => Ok(at(commit, files, None, why)),
            None => bail!("{why}, and {} does not hold {name} at {revision}", CACHE.path().display()),
        };
        if offline() {
            return from_cache("HF_HUB_OFFLINE is set".to_owned());
        }
        match ask(name, kind, revision) {
            Ok(Answer::Holds(info)) => {
                let remote = api()?.repo(repo(name, kind, &info.sha));
                let files =
                    info.siblings.into_iter().map(|file| file.rfilename).filter(|file| is_inside(file));
                let mut files: Vec<String> = files.collect();
                files.sort();
                Ok(at(info.sha, files, Some(remote), String::new()))
            }
            Ok(Answer::Refuses(why)) => bail!(why),
            Err(error) => {
                let found = from_cache(format!("{} gives no answer ({})", endpoint(), in_full(&error)))?;
                say(&format!("{}: reading {name} from the cache", found.unreachable));
                Ok(found)
            }
        }
    }

    /// All files.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Where fetched files are.
    pub fn folder(&self) -> PathBuf {
        self.cache_repo().pointer_path(&self.commit)
    }

    /// Fetches files that are not in the cache.
    ///
    /// # Errors
    /// A file that may not be read, a connection that breaks, a full disk; what was fetched stays.
    pub fn fetch(&mut self, files: &[String]) -> Result<()> {
        for file in files {
            if self.folder().join(file).exists() {
                continue;
            }
            let Some(remote) = &self.remote else {
                bail!("{}, and {} lacks {file} of {}", self.unreachable, CACHE.path().display(), self.name);
            };
            let download = Download::new(&format!("{}/{file}", self.name));
            remote.download_with_progress(file, download).map_err(|error| self.explain(&error, file))?;
        }
        Ok(())
    }

    /// Notes that this revision may be read from the cache, now that all that is wanted of it is there.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep(&self) -> Result<()> {
        if self.remote.is_some() {
            let at = || CACHE.path().display().to_string();
            write_json(&listing(self.name.as_str(), self.kind, &self.commit), &self.files)?;
            self.cache_repo().create_ref(&self.commit).with_context(at)?;
        }
        Ok(())
    }

    fn cache_repo(&self) -> hf_hub::CacheRepo {
        CACHE.repo(repo(&self.name, self.kind, &self.revision))
    }

    fn explain(&self, error: &ApiError, file: &str) -> anyhow::Error {
        let place = format!("{file} of {} on {}", self.name, endpoint());
        match error {
            ApiError::RequestError(error) => match error.as_ref() {
                ureq::Error::StatusCode(401 | 403) => {
                    anyhow!("{place} may not be read{}", permission(&self.name, self.kind))
                }
                ureq::Error::StatusCode(status) => anyhow!("{place}: status {status}"),
                error => anyhow!("{place}: {error}"),
            },
            error => anyhow!("{place}: {error}"),
        }
    }
}

enum Answer {
    Holds(RepoInfo),
    /// The repository is not to be had; asking again would not help.
    Refuses(String),
}

/// Asks the Hub what a revision holds; an error where it gives no answer.
fn ask(name: &str, kind: RepoType, revision: &str) -> Result<Answer> {
    let request = api()?.repo(repo(name, kind, revision)).info_request();
    let mut response = request.config().http_status_as_error(false).build().call()?;
    let status = response.status().as_u16();
    let header =
        |key: &str| response.headers().get(key).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (code, said) = (header("x-error-code").unwrap_or_default(), header("x-error-message"));
    let (noun, hub) = (noun(kind), endpoint());
    let said = said.map_or(String::new(), |said| format!(": {said}"));
    Ok(match status {
        200 => {
            let info: RepoInfo = serde_json::from_str(&response.body_mut().read_to_string()?)
                .with_context(|| format!("{hub} lists no files of {name}"))?;
            let commit = !info.sha.is_empty() && info.sha.bytes().all(|byte| byte.is_ascii_alphanumeric());
            ensure!(commit, "{hub} gives {:?} as the commit of {name}", info.sha);
            Answer::Holds(info)
        }
        404 if code == "RevisionNotFound" => {
            Answer::Refuses(format!("the {noun} {name} on {hub} has no revision {revision}"))
        }
        404 => Answer::Refuses(format!("{hub} has no {noun} of that name (status 404{said})")),
        401 | 403 => Answer::Refuses(format!(
            "{hub} shows no {noun} of that name (status {status}{said}): it does not exist or may not be read{}",
            permission(name, kind)
        )),
        _ => bail!("status {status}{said}"),
    })
}

/// What one may do where the Hub refuses.
fn permission(name: &str, kind: RepoType) -> String {
    let page = format!("{}/{}", endpoint(), repo(name, kind, "main").url());
    match token() {
        Some(_) => format!(" with this token; if it is gated, accept its conditions on {page}"),
        None => format!(" without a token; if it is gated, accept its conditions on {page} and set HF_TOKEN"),
    }
}

/// Commit and files of a revision in the cache: those that the Hub listed, or those that are there where another
/// program put them there.
fn cached(name: &str, kind: RepoType, revision: &str) -> Option<(String, Vec<String>)> {
    let cache = CACHE.repo(repo(name, kind, revision));
    let refs = CACHE.path().join(repo(name, kind, revision).folder_name()).join("refs").join(revision);
    let commit = match fs::read_to_string(refs) {
        Ok(commit) => commit.trim().to_owned(),
        Err(_) => revision.to_owned(), // a commit
    };
    let folder = cache.pointer_path(&commit);
    if commit.is_empty() || !is_inside(&commit) || !folder.is_dir() {
        return None;
    }
    let listed = fs::read_to_string(listing(name, kind, &commit)).ok();
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

/// Where the list of a commit's files is kept: the cache may hold some of them only.
fn listing(name: &str, kind: RepoType, commit: &str) -> PathBuf {
    CACHE.path().join(repo(name, kind, commit).folder_name()).join(".pcrm").join(format!("{commit}.json"))
}

fn repo(name: &str, kind: RepoType, revision: &str) -> Repo {
    Repo::with_revision(name.to_owned(), kind, revision.to_owned())
}

fn noun(kind: RepoType) -> &'static str {
    match kind {
        RepoType::Model => "model",
        RepoType::Dataset => "data set",
        RepoType::Space => "space",
    }
}

/// Whether a path stays in the folder that it is relative to.
fn is_inside(file: &str) -> bool {
    !file.is_empty() && Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
}

static CACHE: LazyLock<Cache> =
    LazyLock::new(|| set("HF_HUB_CACHE").map_or_else(Cache::from_env, |folder| Cache::new(folder.into())));

fn set(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.trim().is_empty())
}

fn endpoint() -> String {
    set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned()).trim_end_matches('/').to_owned()
}

fn token() -> Option<String> {
    set("HF_TOKEN").map(|token| token.trim().to_owned()).or_else(|| Cache::from_env().token())
}

fn offline() -> bool {
    set("HF_HUB_OFFLINE")
        .is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()))
}

fn api() -> Result<hf_hub::api::sync::Api> {
    let builder = ApiBuilder::from_cache(CACHE.clone()).with_endpoint(endpoint()).with_token(token());
    Ok(builder.with_user_agent("pcrm", env!("CARGO_PKG_VERSION")).build()?)
}
