//! `--model org/name` and `--data org/name:part`: repositories of the Hugging Face Hub in place of local
//! paths.
//!
//! Existing local paths take precedence. A repository's files are stored in the cache shared with
//! `huggingface_hub`, and the code behind this module sees paths into it. A Hub is not trusted: nothing it
//! sends becomes a path before it is checked (`cache.rs`), and a response is accepted only for the requested
//! commit (`download.rs`). The environment is read as `huggingface_hub` reads it (`environment.rs`), and a data
//! set's configs and splits as `datasets` reads them (`card.rs`).

mod cache;
mod card;
mod client;
mod download;
mod environment;
mod repository;
mod select;
pub mod stdin;
mod upload;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use pcrm_core::data::lines::MAX_LINE;
use pcrm_core::data::slice::Slice;
use pcrm_core::model::folder;
use pcrm_core::model::lora::peft::AdapterFolder;

pub use self::cache::{CachedPath, Kind};
pub use self::select::Weights;
pub use self::upload::{Content, Entry, Target, push};
use crate::hub::repository::Repository;
use crate::progress::say;
use crate::usage::usage;
use crate::warnings;

/// The branch that is fetched by default.
const MAIN: &str = "main";

/// The revisions of repositories.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Hugging Face Hub")]
pub struct Hub {
    /// Fetch --model at this branch, tag or commit, if it is a repository (org/name)
    #[arg(long, value_name = "REV", default_value = MAIN)]
    pub revision: String,
    /// Fetch --data at this branch, tag or commit, for repositories (org/name, org/name:split, org/name:config,
    /// org/name:config/split, org/name:file)
    #[arg(long, value_name = "REV", default_value = MAIN)]
    pub data_revision: String,
}

impl Hub {
    /// Returns these options with another revision of the model, unless one is given.
    pub fn or_revision(&self, revision: Option<&str>) -> Self {
        let own = revision.filter(|_| self.revision == MAIN).unwrap_or(&self.revision);
        Self { revision: own.to_owned(), ..self.clone() }
    }

    /// Returns the folder of a model: `given` itself if it exists, else the cached files of the repository of
    /// that name.
    ///
    /// # Errors
    /// Fails if the path is not a model folder, or if the repository does not exist, is not readable, cannot
    /// be reached or holds no model. The message begins with `option` and names all attempts.
    pub fn model(&self, option: &str, given: &Path, weights: Weights) -> Result<PathBuf> {
        let Some(name) = Name::of(given).filter(|name| name.part.is_none()) else {
            folder::check(given).with_context(|| format!("{option} {}", given.display()))?;
            Self::warn_of_local("--revision", &self.revision, option, given);
            return Ok(given.to_path_buf());
        };
        let fetch = || -> Result<PathBuf> {
            let mut repository = Repository::open(&name.repository, Kind::Model, &self.revision)?;
            let folder = repository.folder();
            repository.fetch(&select::model_files(repository.files(), weights)?)?;
            if weights == Weights::Read {
                repository.fetch(&select::weight_files(repository.files(), &folder)?)?;
            }
            repository.keep()?;
            folder::check(&folder)?;
            Ok(folder)
        };
        fetch().with_context(|| format!("{option} {name}: no such folder here; as a repository of the Hub"))
    }

    /// Warns of a revision that is given for a local path.
    fn warn_of_local(revision: &str, given: &str, option: &str, path: &Path) {
        if given != MAIN {
            let path = path.display();
            warnings::print(&format!("{revision} {given} has no effect on {option} {path}, which is local"));
        }
    }

    /// Returns the folder of a language model, or of a PEFT adapter, whose base is loaded with it.
    ///
    /// # Errors
    /// Fails as [`Hub::model`] does.
    pub fn model_or_adapter(&self, option: &str, given: &Path, weights: Weights) -> Result<PathBuf> {
        match AdapterFolder::is_alone(given) {
            true => Ok(given.to_path_buf()),
            false => self.model(option, given, weights),
        }
    }

    /// Returns data files: every existing path, the cached files of every named repository, and a copy of
    /// standard input for `-`. A slice such as `[:500]` may follow the name of a file or repository.
    ///
    /// # Errors
    /// Fails as [`Hub::model`] does; `option` is named in errors.
    pub fn data(&self, option: &str, given: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for path in given {
            if path == Path::new(stdin::NAME) {
                paths.push(stdin::file().with_context(|| format!("{option} -"))?);
                continue;
            }
            let (place, slice) = usage(Slice::of(path).with_context(|| option.to_owned()))?;
            let Some(name) = Name::of(&place) else {
                Self::warn_of_local("--data-revision", &self.data_revision, option, path);
                paths.push(path.clone());
                continue;
            };
            let fetch = || -> Result<Vec<PathBuf>> {
                let mut repository = Repository::open(&name.repository, Kind::Dataset, &self.data_revision)?;
                let part = name.part.as_deref();
                let is_file = repository.files().iter().any(|file| Some(file.as_str()) == part);
                let configs = if is_file { Vec::new() } else { card::configs(&mut repository)? };
                let files = select::data_files(repository.files(), &configs, part)?;
                repository.fetch(&files)?;
                repository.keep()?;
                say(&format!("{name}: {}", files.join(", ")));
                let files: Vec<PathBuf> = files.iter().map(|file| repository.folder().join(file)).collect();
                Ok(match slice {
                    Some(slice) => slice.spread(&files, MAX_LINE)?,
                    None => files,
                })
            };
            paths.extend(
                fetch().with_context(|| format!("{option} {name}: no such file here or on the Hub"))?,
            );
        }
        Ok(paths)
    }
}

/// Returns the folder of an encoder: `given` itself if it exists or is not a repository name, else the cached
/// files of the repository of that name at its branch `main`.
///
/// # Errors
/// Fails as [`Hub::model`] does.
pub fn encoder(given: &Path) -> Result<PathBuf> {
    let Some(name) = Name::of(given).filter(|name| name.part.is_none()) else {
        return Ok(std::path::absolute(given)?);
    };
    let fetch = || -> Result<PathBuf> {
        let mut repository = Repository::open(&name.repository, Kind::Model, MAIN)?;
        repository.fetch(&select::encoder_files(repository.files())?)?;
        repository.keep()?;
        Ok(repository.folder())
    };
    fetch().with_context(|| format!("encoder {name}: no such folder here"))
}

/// Returns true if a text has the form `org/name` of a repository.
pub fn is_repository(text: &str) -> bool {
    Name::parse(text).is_some_and(|name| name.part.is_none())
}

/// Returns true if a text has the form of a data set of the Hub, with or without a slice.
pub fn is_data_set(text: &str) -> bool {
    let place = Slice::split(text).ok().flatten().map_or(text, |(place, _)| place);
    Name::parse(place).is_some()
}

/// `org/name` or `org/name:part`.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    repository: String,
    part: Option<String>,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Some(part) => write!(f, "{}:{part}", self.repository),
            None => f.write_str(&self.repository),
        }
    }
}

impl Name {
    /// Returns the repository that a path names, or `None` if the path exists or is not a repository name.
    fn of(path: &Path) -> Option<Self> {
        if path.exists() { None } else { Self::parse(path.to_str()?) }
    }

    fn parse(text: &str) -> Option<Self> {
        let (repository, part) = match text.split_once(':') {
            Some((repository, part)) => (repository, Some(part.to_owned())),
            None => (text, None),
        };
        let (organisation, name) = repository.split_once('/')?;
        let word = |word: &str| {
            word.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
                && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let named = word(organisation) && word(name) && part.as_deref() != Some("");
        // A misspelt file name must not cause a network request.
        let file = part.is_none() && select::is_data_file(name);
        (named && !file).then(|| Self { repository: repository.to_owned(), part })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_repositories_are_distinguished_from_paths() {
        let name = |repository: &str, part: Option<&str>| {
            Some(Name { repository: repository.to_owned(), part: part.map(str::to_owned) })
        };
        assert_eq!(Name::parse("Qwen/Qwen2.5-0.5B"), name("Qwen/Qwen2.5-0.5B", None));
        assert_eq!(Name::parse("Anthropic/hh-rlhf:train"), name("Anthropic/hh-rlhf", Some("train")));
        assert_eq!(Name::parse("a/b:c/d.jsonl.gz"), name("a/b", Some("c/d.jsonl.gz")));
        for path in
            ["model", "./model", "../a", "a/../b", "a/b/c", "/a/b", "a/", "/b", "a/b:", "a b/c", "~/b"]
        {
            assert_eq!(Name::parse(path), None, "{path}");
        }
        for file in ["data/train.jsonl", "data/train.json.gz", "data/train.parquet"] {
            assert_eq!(Name::parse(file), None, "{file}");
        }
    }

    /// Protects: the base of an adapter is fetched at the adapter's own revision, unless another one is given.
    #[test]
    fn a_typed_revision_goes_first() {
        let of = |typed: &str, own: Option<&str>| {
            let hub = Hub { revision: typed.to_owned(), data_revision: MAIN.to_owned() };
            hub.or_revision(own).revision
        };
        assert_eq!([of(MAIN, Some("dev")), of("v2", Some("dev")), of(MAIN, None)], ["dev", "v2", MAIN]);
    }
}
