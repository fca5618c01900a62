//! The on-disk cache of repositories, in the layout of `huggingface_hub`: `blobs` by etag, `snapshots` of
//! links to them by commit, and `refs` from branches and tags to commits.
//!
//! Etags, commits and file names come from a server. None of them becomes part of a path unless it is a
//! [`Word`] or a path that [`is_inside`] accepts.

use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use pcrm_core::model::weights;

use super::{environment, is_repository};

/// The kind of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A model, or an encoder.
    Model,
    /// A data set.
    Dataset,
}

impl Kind {
    /// Returns the noun for messages.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "data set",
        }
    }

    /// Returns the word for it in addresses and in the names of the cache's folders.
    fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

/// A repository by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repo {
    /// `org/name`.
    pub name: String,
    /// The kind of the repository.
    pub kind: Kind,
}

/// A commit or etag that is safe as a file name: at most 128 ASCII letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word(String);

impl Word {
    /// Returns the text as a word, or `None` if it is not one.
    pub fn new(text: &str) -> Option<Self> {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let fits = (1..=128).contains(&text.len());
        (fits && text.bytes().all(safe)).then(|| Self(text.to_owned()))
    }

    /// Returns the word as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Repo {
    /// Returns the path of the repository's page on a Hub.
    pub fn page(&self) -> String {
        match self.kind {
            Kind::Model => self.name.clone(),
            Kind::Dataset => format!("datasets/{}", self.name),
        }
    }

    /// Returns the path of the Hub's description of the repository.
    pub fn description_page(&self) -> String {
        format!("api/{}/{}", self.kind.plural(), self.name)
    }

    /// Returns the path of the Hub's description of a revision.
    pub fn listing_page(&self, revision: &str) -> String {
        format!("{}/revision/{revision}", self.description_page())
    }

    /// Returns the folder of a commit's files.
    pub fn snapshot(&self, commit: &Word) -> PathBuf {
        self.folder().join("snapshots").join(commit.as_str())
    }

    /// Returns the path of the content with this etag.
    pub fn blob(&self, etag: &Word) -> PathBuf {
        self.folder().join("blobs").join(etag.as_str())
    }

    /// Returns pcrm's own folder: lists of files, and partial downloads.
    fn own(&self) -> PathBuf {
        self.folder().join(".pcrm")
    }

    /// Returns the path of a partial download, without an extension.
    pub fn on_its_way(&self, commit: &Word, file: &str) -> PathBuf {
        self.own().join(pcrm_core::digest::text(&format!("{commit}/{file}")))
    }

    /// Returns the path of the list of a commit's files; the cache may hold only some of them.
    pub fn listing(&self, commit: &Word) -> PathBuf {
        self.own().join(format!("{commit}.json"))
    }

    /// Returns the commit last recorded for a revision, or the revision itself if it is a commit.
    pub fn commit(&self, revision: &str) -> Option<Word> {
        if !is_inside(revision) {
            return None;
        }
        match fs::read_to_string(self.folder().join("refs").join(revision)) {
            Ok(commit) => Word::new(commit.trim()),
            Err(_) => Word::new(revision),
        }
    }

    /// Records the commit of a revision.
    ///
    /// # Errors
    /// Fails if the disk is full or not writable.
    pub fn keep(&self, revision: &str, commit: &Word) -> Result<()> {
        let path = self.folder().join("refs").join(revision);
        Ok(weights::write(&path, commit.as_str().as_bytes())?)
    }

    /// Links a file of a commit to its content in the cache.
    ///
    /// # Errors
    /// Fails if the disk is full or not writable.
    pub fn link(&self, commit: &Word, file: &str, etag: &Word) -> Result<()> {
        let link = self.snapshot(commit).join(file);
        let place = || link.display().to_string();
        let folder = link.parent().context("the file of a commit has a folder")?;
        fs::create_dir_all(folder).with_context(place)?;
        // The link may be dangling, its content removed.
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link).with_context(place)?;
        }
        #[cfg(unix)]
        {
            // Up from snapshots/COMMIT and the file's own folders.
            let up = "../".repeat(1 + Path::new(file).components().count());
            std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), &link).with_context(place)?;
        }
        #[cfg(not(unix))]
        fs::copy(self.blob(etag), &link).with_context(place)?;
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        environment::cache().join(format!("{}--{}", self.kind.plural(), self.name.replace('/', "--")))
    }
}

/// A path inside a cache of repositories, this one or another, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedPath {
    /// The kind of the repository.
    pub kind: Kind,
    /// `org/name`.
    pub repository: String,
    /// The commit.
    pub commit: String,
}

impl CachedPath {
    /// Returns the repository and the commit that a path belongs to, or `None` for a path outside of caches.
    pub fn of(path: &Path) -> Option<Self> {
        let parts: Vec<&str> = path.components().filter_map(|part| part.as_os_str().to_str()).collect();
        parts.windows(3).find_map(|at| {
            let (kind, name) = [Kind::Model, Kind::Dataset]
                .into_iter()
                .find_map(|kind| Some((kind, at[0].strip_prefix(kind.plural())?)))?;
            let repository = name.strip_prefix("--")?.replacen("--", "/", 1);
            let found = at[1] == "snapshots" && is_repository(&repository);
            found.then(|| Self { kind, repository, commit: at[2].to_owned() })
        })
    }
}

/// Returns true if a relative path stays inside its folder.
pub fn is_inside(file: &str) -> bool {
    !file.is_empty() && Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: nothing that a server sends leads out of the cache.
    #[test]
    fn words_and_paths_stay_inside() {
        for word in ["0123abc", "4-5f_A", "d41d8cd98f00b204e9800998ecf8427e-12"] {
            assert_eq!(Word::new(word).map(|word| word.to_string()).as_deref(), Some(word));
        }
        for text in ["", "/etc/passwd", "..", "a/b", "a.b", "a b", "W/\"a\"", "\u{e9}", &"a".repeat(129)] {
            assert_eq!(Word::new(text), None, "{text:?}");
        }
        assert!(is_inside("data/train.jsonl") && is_inside("..a"));
        for path in ["", "/a", "../a", "a/../../b", "..", "./"] {
            assert!(!is_inside(path), "{path:?}");
        }
    }

    /// Protects: a path into a cache gives the repository and the commit; other paths give none.
    #[test]
    fn cached_paths_name_their_repository() {
        let of = |path: &str| {
            let found = CachedPath::of(Path::new(path))?;
            Some((found.kind, found.repository, found.commit))
        };
        let expected = |kind, repository: &str| Some((kind, repository.to_owned(), "0123abc".to_owned()));
        let model = "/home/me/.cache/huggingface/hub/models--Qwen--Qwen2.5-0.5B/snapshots/0123abc";
        assert_eq!(of(model), expected(Kind::Model, "Qwen/Qwen2.5-0.5B"));
        let data = "/snapshots/hub/datasets--acme--pairs/snapshots/0123abc/data/train.jsonl";
        assert_eq!(of(data), expected(Kind::Dataset, "acme/pairs"));
        for path in [
            "models/qwen",
            "/data/snapshots/x",
            "models--alone/snapshots/0",
            "models--a--b/snapshots",
            "models--a--b/blobs/0",
            "modelsa--b/snapshots/0",
            "snapshots",
            "",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
