//! The files of a tokenizer: those in a folder, and those copied when it is saved.

use std::path::Path;

use serde_json::{Map, Value};

use crate::disk::whole;
use crate::error::{Error, Result};
use crate::model::{disguise, folder};

/// The file of the tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";

/// The file of its settings.
pub(super) const CONFIG: &str = "tokenizer_config.json";

/// The folder of additional chat templates.
pub(super) const TEMPLATES: &str = "additional_chat_templates";

/// Prefixes of tokenizer file names.
const STEMS: [&str; 12] = [
    "tokenizer",
    "tokenization_",
    "special_tokens_map",
    "added_tokens",
    "chat_template",
    "vocab",
    "merges",
    "sentencepiece",
    "spiece",
    "tekken",
    "normalizer",
    "bpe.codes",
];

/// Extensions that always belong to a tokenizer.
const ENDINGS: [&str; 5] = [".model", ".spm", ".tiktoken", ".jinja", ".bpe"];

/// Names that match neither rule: a processor's settings, which may hold a chat template.
const NAMES: [&str; 3] = ["processor_config.json", "preprocessor_config.json", "special_tokens.json"];

/// Extensions of weights and archives, which never belong to a tokenizer.
const WEIGHTS: [&str; 10] =
    [".safetensors", ".bin", ".pt", ".pth", ".onnx", ".gguf", ".h5", ".msgpack", ".npz", ".lock"];

/// Returns true if a file belongs to a tokenizer, by its path within the model's folder: `tokenizer.json`,
/// vocabularies in any form, special tokens, chat templates (including `additional_chat_templates/`).
pub fn is_tokenizer_file(path: &str) -> bool {
    match path.split_once('/') {
        Some((TEMPLATES, name)) => name.ends_with(".jinja") && !name.contains('/'),
        Some(_) => false,
        None => {
            let named = STEMS.iter().any(|stem| path.starts_with(stem))
                || ENDINGS.iter().any(|ending| path.ends_with(ending))
                || NAMES.contains(&path);
            named && !WEIGHTS.iter().any(|ending| path.ends_with(ending))
        }
    }
}

/// Reads all files of a tokenizer, starting with `tokenizer.json`.
///
/// # Errors
/// Fails if the path is not a folder, if `tokenizer.json` is missing, or if a file cannot be read or has
/// another format than its name.
pub(super) fn read(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    if !dir.is_dir() {
        let found = if dir.exists() { "is a file" } else { "there is no such folder" };
        return Err(Error::file(dir, format!("{found}; expected a folder with {TOKENIZER}")));
    }
    let mut names: Vec<String> = listed(dir, "")?;
    if dir.join(TEMPLATES).is_dir() {
        names.extend(listed(dir, TEMPLATES)?);
    }
    names.retain(|name| is_tokenizer_file(name));
    if !names.iter().any(|name| name == TOKENIZER) {
        return Err(Error::file(dir.join(TOKENIZER), without_tokenizer(&names)));
    }
    names.sort_by_key(|name| (rank(name), name.clone()));
    let mut files = Vec::new();
    for name in names {
        let path = dir.join(&name);
        let bytes = folder::read(&path)?;
        if let (Some(disguise), true) = (disguise::named(&bytes), is_read(&name)) {
            return Err(Error::file(path, disguise));
        }
        files.push((name, bytes));
    }
    Ok(files)
}

/// Copies all files of a tokenizer to another folder, unchanged.
///
/// # Errors
/// Fails if `from` has no `tokenizer.json`, or if a file cannot be read or written.
pub fn copy_files(from: &Path, to: &Path) -> Result<()> {
    let files = read(from)?;
    write(to, files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))
}

/// Reads a JSON file of the folder, if it exists.
///
/// # Errors
/// Fails if the file cannot be read or is not a JSON object.
pub(super) fn object_at(path: &Path) -> Result<Option<Map<String, Value>>> {
    match path.try_exists() {
        Ok(true) => object(path, &folder::read(path)?).map(Some),
        Ok(false) => Ok(None),
        Err(cause) => Err(Error::Io { path: path.to_path_buf(), cause }),
    }
}

/// Parses the JSON object in a file's bytes.
///
/// # Errors
/// Fails if the bytes are not a JSON object.
pub(super) fn object(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>> {
    let expected = "expected a JSON object";
    if let Some(disguise) = disguise::named(bytes) {
        return Err(Error::file(path, disguise));
    }
    serde_json::from_slice(bytes).map_err(|error| Error::file(path, format!("{error}; {expected}")))
}

/// Writes files into a folder and creates the folders they need.
///
/// # Errors
/// Fails if a folder or a file cannot be written.
pub(super) fn write<'a>(dir: &Path, files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
    for (name, bytes) in files {
        let path = dir.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        whole::write(&path, bytes)?;
    }
    Ok(())
}

/// Lists the files in a subfolder of `dir`, with the subfolder as prefix.
fn listed(dir: &Path, folder: &str) -> Result<Vec<String>> {
    let path = dir.join(folder);
    let entries = std::fs::read_dir(&path).map_err(Error::io(&path))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io(&path))?;
        let is_file = entry.path().is_file();
        if let (true, Ok(name)) = (is_file, entry.file_name().into_string()) {
            names.push(if folder.is_empty() { name } else { format!("{folder}/{name}") });
        }
    }
    Ok(names)
}

/// Returns the reading order of a file: the most decisive files come first.
fn rank(name: &str) -> usize {
    [TOKENIZER, CONFIG, "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"]
        .iter()
        .position(|known| *known == name)
        .unwrap_or(usize::MAX)
}

/// Returns true if a file is JSON that is parsed here, not only copied.
fn is_read(name: &str) -> bool {
    name.ends_with(".json") && (rank(name) != usize::MAX || name == "chat_template.json")
}

fn without_tokenizer(names: &[String]) -> String {
    let others: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| name.ends_with(".model") || name.starts_with("vocab") || name.starts_with("tekken"))
        .collect();
    let found =
        if others.is_empty() { String::new() } else { format!(" (the folder has {})", others.join(", ")) };
    format!(
        "not found{found}; expected Hugging Face's tokenizer.json (AutoTokenizer.from_pretrained(..)\
         .save_pretrained(..) converts a tokenizer without one)"
    )
}
