//! Finds the input files: named files, and the data files of a folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::lines::MAX_LINE;
use super::slice::Slice;
use crate::error::{Error, Result};

/// Extensions of data files; `.gz` or `.zst` may follow them.
pub const ENDINGS: &[&str] = &[".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".csv", ".tsv"];

/// Files other than data that the `datasets` library writes.
const NOT_DATA: &[&str] = &["dataset_info.json", "dataset_infos.json", STATE, SPLITS];

/// The file of `save_to_disk` that lists a data set's files.
const STATE: &str = "state.json";

/// The file of `save_to_disk` that lists the folders of splits.
const SPLITS: &str = "dataset_dict.json";

/// Words in the names of files and folders that `datasets` and `pcrm data split` use for splits, with the splits;
/// the words of a split are together.
const SPLIT_WORDS: [(&str, &str); 12] = [
    ("train", "train"),
    ("training", "train"),
    ("test", "test"),
    ("testing", "test"),
    ("eval", "test"),
    ("evaluation", "test"),
    ("validation", "validation"),
    ("valid", "validation"),
    ("val", "validation"),
    ("dev", "validation"),
    ("held", "held_out"),
    ("heldout", "held_out"),
];

/// Returns the files at these paths: a file or a slice of a file as it is, and the data files of a folder
/// sorted by name. Subfolders are not searched, because they are usually splits.
///
/// # Errors
/// Fails if a folder cannot be read, has no data file, or has files of several splits, since training on a
/// test split is a mistake. Also fails for `-`, the usual name of standard input.
pub fn data_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let (place, slice) = Slice::of(path)?;
        if place.is_dir() {
            let all = of_folder(&place)?;
            files.extend(match slice {
                Some(slice) => slice.spread(&all, MAX_LINE)?,
                None => all,
            });
        } else if path == Path::new("-") {
            let message =
                "standard input is not supported here, since data are read more than once; expected a file";
            return Err(Error::file(path, message));
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// Returns the SHA-256 of a file's content; for a slice, the hash of the file followed by the slice.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn digest(path: &Path) -> Result<String> {
    let (place, slice) = Slice::of(path)?;
    let whole = crate::digest::file(&place)?;
    Ok(slice.map_or(whole.clone(), |slice| format!("{whole}{slice}")))
}

fn of_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    if let Some(files) = saved(folder)? {
        return Ok(files);
    }
    let (mut files, mut folders, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            folders.push(name);
        } else if is_data(&name) {
            files.push(path);
        } else if !name.starts_with('.') {
            others.push(name);
        }
    }
    if files.is_empty() {
        let named = |what: &str, mut names: Vec<String>| {
            names.sort();
            names.truncate(8);
            if names.is_empty() { String::new() } else { format!(" ({what}: {})", names.join(", ")) }
        };
        return Err(Error::file(
            folder,
            format!(
                "a folder without data files; expected names that end in {}, optionally followed by .gz or \
                 .zst{}{}",
                ENDINGS.join(", "),
                named("subfolders are not searched", folders),
                named("files found", others)
            ),
        ));
    }
    files.sort();
    refuse_splits(folder, &files)?;
    Ok(files)
}

/// Returns the files of a folder written by `save_to_disk`, or `None` for any other folder.
fn saved(folder: &Path) -> Result<Option<Vec<PathBuf>>> {
    let read = |name: &str| -> Result<Option<Value>> {
        let path = folder.join(name);
        if !path.is_file() {
            return Ok(None);
        }
        let text = fs::read(&path).map_err(Error::io(&path))?;
        serde_json::from_slice(&text).map(Some).map_err(|error| Error::file(&path, error.to_string()))
    };
    if let Some(splits) = read(SPLITS)?.as_ref().and_then(|splits| splits["splits"].as_array()) {
        let names: Vec<&str> = splits.iter().filter_map(Value::as_str).collect();
        let first = names.first().copied().unwrap_or("train");
        return Err(Error::file(
            folder,
            format!(
                "a DatasetDict written by save_to_disk with the splits {}; name the folder of one, such as \
                 {}",
                names.join(", "),
                folder.join(first).display()
            ),
        ));
    }
    let Some(state) = read(STATE)? else { return Ok(None) };
    let Some(files) = state["_data_files"].as_array() else { return Ok(None) };
    let names = files.iter().filter_map(|file| file["filename"].as_str());
    // A name with a path could lead out of the folder.
    let files: Vec<PathBuf> =
        names.filter(|name| !name.contains(['/', '\\'])).map(|name| folder.join(name)).collect();
    Ok((!files.is_empty()).then_some(files))
}

/// Refuses a folder with files of several splits.
fn refuse_splits(folder: &Path, files: &[PathBuf]) -> Result<()> {
    let mut splits: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let [split] = splits_in(&name)[..] {
            splits.entry(split).or_default().push(name);
        }
    }
    if splits.len() < 2 {
        return Ok(());
    }
    let listed = splits.iter().map(|(split, names)| match names.len() {
        1 => format!("{split} ({})", names[0]),
        count => format!("{split} ({} and {} more)", names[0], count - 1),
    });
    let first = splits.get("train").or(splits.values().next()).and_then(|names| names.first());
    Err(Error::file(
        folder,
        format!(
            "a folder with files of several splits: {}; name the files of one, such as {}",
            listed.collect::<Vec<_>>().join(", "),
            first.map_or_else(String::new, |name| folder.join(name).display().to_string())
        ),
    ))
}

/// Returns the splits that the name of a file or folder contains as a word: `train` for
/// `train-00000-of-00002.parquet`.
pub fn splits_in(name: &str) -> Vec<&'static str> {
    let name = name.to_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphabetic()).collect();
    let found = SPLIT_WORDS.iter().filter(|(word, _)| words.contains(word));
    let mut splits: Vec<&str> = found.map(|(_, split)| *split).collect();
    splits.dedup();
    splits
}

fn is_data(name: &str) -> bool {
    let plain = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(name);
    let is_cache = name.starts_with("cache-") && name.ends_with(".arrow");
    !name.starts_with('.')
        && !is_cache
        && !NOT_DATA.contains(&name)
        && ENDINGS.iter().any(|ending| plain.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a folder is read as its data files in name order, without other files.
    #[test]
    fn a_folder_means_its_data_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.jsonl.gz", "a.parquet", "README.md", "dataset_info.json", ".hidden.json", "c.json"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let files = data_files(&[folder.path().to_path_buf()]).unwrap();
        let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.parquet", "b.jsonl.gz", "c.json"]);
    }

    /// Protects: a folder with several splits is refused with their names; other words in names are
    /// not splits.
    #[test]
    fn splits_in_one_folder_are_refused() {
        let read = |names: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            names.iter().for_each(|name| fs::write(folder.path().join(name), "").unwrap());
            data_files(&[folder.path().to_path_buf()])
                .map(|files| files.len())
                .map_err(|error| error.to_string())
        };
        let said = read(&[
            "train-00000-of-00002.parquet",
            "train-00001-of-00002.parquet",
            "test-00000-of-00001.parquet",
        ]);
        let said = said.unwrap_err();
        assert!(
            said.contains(
                "test (test-00000-of-00001.parquet), train (train-00000-of-00002.parquet and 1 more); name"
            ),
            "{said}"
        );
        for names in [
            ["train.jsonl", "held_out.jsonl"],
            ["pairs.dev.jsonl.gz", "pairs.train.jsonl.gz"],
            ["eval.json", "valid.json"],
        ] {
            assert!(read(&names).is_err(), "{names:?}");
        }
        for names in [
            ["helpful.test.jsonl", "harmless.test.jsonl"],
            ["train.jsonl", "more.jsonl"],
            ["latest.json", "trained.json"],
        ] {
            assert_eq!(read(&names), Ok(2), "{names:?}");
        }
        assert!(
            data_files(&[PathBuf::from("-")])
                .unwrap_err()
                .to_string()
                .contains("standard input is not supported")
        );
    }

    /// Protects: splits are found by whole words, whatever surrounds them, and each is named once.
    #[test]
    fn names_contain_splits_as_words() {
        for (name, splits) in [
            ("train-00000-of-00002.parquet", &["train"][..]),
            ("Train2.jsonl", &["train"]),
            ("train_data", &["train"]),
            ("eval-test", &["test"]),
            ("train.test.jsonl", &["train", "test"]),
            ("held_out.jsonl", &["held_out"]),
            ("retrained.jsonl", &[]),
        ] {
            assert_eq!(splits_in(name), splits, "{name}");
        }
    }

    /// The top folder of a repository holds no data: its subfolders are listed.
    #[test]
    fn a_folder_without_data_names_its_folders() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        let error = data_files(&[folder.path().to_path_buf()]).unwrap_err().to_string();
        assert!(
            error.contains("without data files") && error.contains("(subfolders are not searched: data)"),
            "{error}"
        );
    }
}
