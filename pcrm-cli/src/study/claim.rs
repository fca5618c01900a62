//! The record that assigns a folder to one study, with the digests of the files that its runs read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pcrm_core::data::files::{self, data_files};
use pcrm_core::digest;
use pcrm_core::disk::sealed;
use pcrm_eval::study::{OwnData, Recipe};
use serde::{Deserialize, Serialize};

/// The file that identifies the study in a folder.
const MARKER: &str = "study-options.json";

/// The options and the files that determine a study's runs.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Marker {
    title: String,
    quick: bool,
    /// Digests of data and of a local model, and commits of models of the Hub, by option, such as
    /// `--data pairs.jsonl`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    inputs: BTreeMap<String, String>,
}

/// A folder that may hold this study, and the record to write there.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    found: Option<Marker>,
    marker: Marker,
}

impl Claim {
    /// Checks that a folder is new or holds this study on the same files. A folder from before digests were
    /// recorded counts as made from the files as they are now.
    ///
    /// # Errors
    /// Fails if the folder holds another study or other files, or if a file cannot be read or has changed since
    /// the study began.
    pub fn of(output: &Path, recipe: &Recipe, quick: bool) -> Result<Self> {
        let path = output.join(MARKER);
        let found: Option<Marker> = match path.exists() {
            true => Some(sealed::read(&path)?.0),
            false => None,
        };
        match &found {
            Some(found) => ensure!(
                found.title == recipe.title && found.quick == quick,
                "--output {}: holds the study {:?}{}; name another folder",
                output.display(),
                found.title,
                if found.quick { " with --quick" } else { "" }
            ),
            None => is_empty(output)?,
        }
        // Files that this call leaves out may come back, so they stay in the record.
        let mut inputs = found.as_ref().map_or_else(BTreeMap::new, |found| found.inputs.clone());
        for (option, digest) in recipe.data.as_ref().map(digests).transpose()?.unwrap_or_default() {
            let before = inputs.entry(option.clone()).or_insert_with(|| digest.clone());
            ensure!(*before == digest, "{option}: has changed since this study began; name another --output");
        }
        let marker = Marker { title: recipe.title.clone(), quick, inputs };
        Ok(Self { path, found, marker })
    }

    /// Returns the digests and commits by option.
    pub fn inputs(&self) -> &BTreeMap<String, String> {
        &self.marker.inputs
    }

    /// Adds inputs to the record.
    pub fn add(&mut self, inputs: impl Iterator<Item = (String, String)>) {
        self.marker.inputs.extend(inputs);
    }

    /// Writes the record if it is new.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn record(self) -> Result<()> {
        match self.found.is_none_or(|found| found != self.marker) {
            true => Ok(sealed::write(&self.path, &self.marker)?),
            false => Ok(()),
        }
    }
}

/// Refuses a folder with files.
fn is_empty(output: &Path) -> Result<()> {
    let mut others = std::fs::read_dir(output).with_context(|| output.display().to_string())?;
    let is_other = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| !entry.file_name().to_string_lossy().starts_with(".pcrm"))
    };
    ensure!(
        !others.any(is_other),
        "--output {}: holds files that no study made; name another folder",
        output.display()
    );
    Ok(())
}

/// Returns the digests of data and of a local model, by option. Of a repository of the Hub the commit is recorded
/// instead ([`HubModels`](super::models::HubModels)).
fn digests(data: &OwnData) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for file in &data.files {
        let option = format!("--data {file}");
        let of_file = || -> Result<String> {
            let all = data_files(&[PathBuf::from(file)])?;
            let all = all.iter().map(|path| files::digest(path)).collect::<pcrm_core::Result<Vec<_>>>()?;
            Ok(digest::text(&all.join(" ")))
        };
        let digest = of_file().with_context(|| option.clone())?;
        found.insert(option, digest);
    }
    let model = Path::new(&data.model);
    if model.exists() {
        let option = format!("--model {}", data.model);
        let digest = digest::with_base(model).with_context(|| option.clone())?;
        found.insert(option, digest);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::study::recipes;

    /// Protects: a file or a model that changes between two calls of a study is refused, as one report would mix
    /// both; more files may join, and a folder without digests still opens.
    #[test]
    fn changed_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (output, model, config) = (dir.path().join("out"), path("model"), path("model/config.json"));
        fs::create_dir_all(&output).unwrap();
        fs::create_dir_all(&model).unwrap();
        for file in [path("a.jsonl"), path("b.jsonl"), config.clone()] {
            fs::write(file, "{}\n").unwrap();
        }
        let claim = |names: &[&str]| {
            let mut recipe = recipes::read("preferences").unwrap();
            let files = names.iter().map(|name| path(name)).collect();
            recipe.use_data(OwnData::new(files, model.clone(), false)).unwrap();
            Claim::of(&output, &recipe, false)
        };
        let title = recipes::read("preferences").unwrap().title;
        let old = serde_json::json!({ "title": title, "quick": false });
        sealed::write(&output.join(MARKER), &old).unwrap();
        claim(&["a.jsonl"]).unwrap().record().unwrap();
        claim(&["a.jsonl", "b.jsonl"]).unwrap().record().unwrap();
        claim(&["a.jsonl"]).unwrap().record().unwrap();
        for (file, option) in [("b.jsonl", "--data"), ("model/config.json", "--model")] {
            fs::write(path(file), "{ }\n").unwrap();
            let refused = claim(&["a.jsonl", "b.jsonl"]).unwrap_err().to_string();
            let name = if option == "--model" { model.clone() } else { path(file) };
            let expected =
                format!("{option} {name}: has changed since this study began; name another --output");
            assert_eq!(refused, expected);
            fs::write(path(file), "{}\n").unwrap();
        }
        claim(&["a.jsonl", "b.jsonl"]).unwrap();
    }
}
