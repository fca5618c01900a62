//! Checks of a model's folder, with descriptions of other content.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use super::disguise;
use crate::error::{Error, Result};

/// The configuration of a LoRA or another PEFT adapter.
const ADAPTER: &str = "adapter_config.json";

/// Files that are checked before any is read.
const LOOKED_AT: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    super::weights::SINGLE,
    super::weights::INDEX,
];

/// Checks that a path is a model's folder; the error describes what it is instead.
///
/// # Errors
/// Fails if the path is missing or a file, if it holds an adapter, alone or with full weights, if it has no
/// `config.json`, and if one of the model's files is a page of HTML, a Git LFS pointer or an archive.
pub fn check(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Err(Error::file(dir, "no such folder"));
    }
    if !dir.is_dir() {
        return Err(Error::file(dir, "is a file; expected the folder of a model, with config.json in it"));
    }
    if dir.join(ADAPTER).exists() {
        return Err(Error::file(dir, adapter(dir)));
    }
    if !dir.join("config.json").exists() {
        return Err(Error::file(dir, format!("has no config.json; {}", holds(dir))));
    }
    for name in LOOKED_AT {
        let path = dir.join(name);
        if path.exists() {
            disguise::check(&path)?;
        }
    }
    Ok(())
}

/// Describes a folder with an adapter.
fn adapter(dir: &Path) -> String {
    let text = disguise::read_text(&dir.join(ADAPTER)).unwrap_or_default();
    let config: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
    let field = |key: &str| config.get(key).and_then(Value::as_str).filter(|value| !value.is_empty());
    let kind = field("peft_type").map_or_else(String::new, |kind| format!(" ({kind})"));
    let base = field("base_model_name_or_path").unwrap_or("its base model");
    let weights = [super::weights::SINGLE, super::weights::INDEX].iter().any(|name| dir.join(name).exists());
    let merge = format!("`pcrm merge {} --output FOLDER` makes a full model of it", dir.display());
    match weights {
        true => format!(
            "holds a PEFT adapter{kind} beside full weights ({ADAPTER}); transformers would apply it to \
             them, pcrm does not. Remove the adapter's files to use the full weights, or move them to a \
             folder of their own: {merge}"
        ),
        false => format!("is a PEFT adapter{kind} of {base}, not a model; {merge}"),
    }
}

/// Describes a folder without safetensors weights, naming weights in other formats.
pub(super) fn without_weights(dir: &Path) -> String {
    format!("has neither {} nor {}; {}", super::weights::SINGLE, super::weights::INDEX, holds(dir))
}

/// Describes the content of a folder without usable weights, with the remedy.
fn holds(dir: &Path) -> String {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let ending = |ends: &[&str]| names.iter().find(|name| ends.iter().any(|end| name.ends_with(end)));
    if let Some(name) = names.iter().find(|name| name.starts_with("pytorch_model") && name.contains(".bin")) {
        return format!(
            "found {name}: convert it in Python with transformers, which unpickles tensors alone: \
             AutoModelForSequenceClassification.from_pretrained({dir:?}).save_pretrained({dir:?}) \
             (AutoModelForCausalLM for a language model)"
        );
    }
    if let Some(name) = ending(&[".gguf"]) {
        return format!("found {name}, a file of llama.cpp; use the checkpoint that it was made from");
    }
    if let Some(name) = ending(&[".h5", ".msgpack", ".onnx", ".pt", ".pth", ".ckpt", ".bin"]) {
        return format!("found {name}; load it in Python and save it with save_pretrained, as safetensors");
    }
    if let Some(name) = names.iter().find(|name| name.starts_with("checkpoint-")) {
        return format!("found {name}: pass the folder of the checkpoint itself");
    }
    if let Some(name) = ending(&[".safetensors"]) {
        return format!("found {name}; expected the file names of transformers' save_pretrained");
    }
    match names.as_slice() {
        [] => "the folder is empty".to_owned(),
        _ if names.iter().any(|name| name == "config.json") => {
            "found no weights in any format; a command that trains can draw them with --random-init"
                .to_owned()
        }
        names => format!("it holds {}", some(names)),
    }
}

/// Reads a file of a model's folder, which must be a regular file: reading a pipe or a device might never
/// end.
///
/// # Errors
/// Fails if it is not a regular file or cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    disguise::open(path)?.read_to_end(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}

/// Formats the first of many names.
pub(crate) fn some<T: AsRef<str>>(names: &[T]) -> String {
    const LISTED: usize = 8;
    let listed: Vec<&str> = names.iter().take(LISTED).map(AsRef::as_ref).collect();
    match names.len().checked_sub(LISTED).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", listed.join(", ")),
        None => listed.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(files: &[(&str, &str)]) -> String {
        let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap_or_else(|error| panic!("{error}"));
        }
        check(dir.path()).map_or_else(|error| error.to_string(), |()| String::new())
    }

    /// Protects: a folder that is not a model's is described, with the remedy.
    #[test]
    fn folders_are_named_for_what_they_are() {
        let adapter = r#"{"peft_type": "LORA", "base_model_name_or_path": "org/base"}"#;
        for (files, parts) in [
            (&[("config.json", "{}")][..], &[][..]),
            (&[], &["has no config.json", "empty"]),
            (&[(ADAPTER, adapter)], &["is a PEFT adapter (LORA) of org/base", "pcrm merge"]),
            (&[(ADAPTER, "{"), ("adapter_model.safetensors", "")], &["is a PEFT adapter of its base model"]),
            (
                &[(ADAPTER, adapter), ("config.json", "{}"), ("model.safetensors", "x")],
                &["beside full weights", "Remove the adapter's files"],
            ),
            (&[("config.json", "<!DOCTYPE html>")], &["config.json: is a page of HTML"]),
            (&[("config.json", "{}"), ("tokenizer.json", "<html>")], &["tokenizer.json: is a page of HTML"]),
            (
                &[("config.json", "{}"), ("model.safetensors", "version https://git-lfs.github.com/spec/v1")],
                &["model.safetensors: is a Git LFS pointer"],
            ),
            (&[("pytorch_model.bin", "x")], &["has no config.json", "found pytorch_model.bin"]),
            (&[("model-q4.gguf", "GGUF")], &["llama.cpp"]),
        ] {
            let said = said(files);
            assert_eq!(said.is_empty(), parts.is_empty(), "{said}");
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        }
        let nowhere = check(Path::new("/nowhere/at/all")).map_err(|error| error.to_string());
        assert_eq!(nowhere, Err("/nowhere/at/all: no such folder".to_owned()));
    }
}
