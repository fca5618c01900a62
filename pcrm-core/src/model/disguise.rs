//! Detects files that are not what their names say: HTML pages, Git LFS pointers and archives instead of a
//! model's file.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// The number of bytes that are examined.
const HEAD: usize = 256;

/// Recognises a file of another format by its first bytes, and returns a message with the remedy.
pub(crate) fn named(head: &[u8]) -> Option<&'static str> {
    let text = head.trim_ascii_start().to_ascii_lowercase();
    Some(match head {
        _ if text.starts_with(b"version https://git-lfs") => {
            "is a Git LFS pointer and not the file itself; fetch it with `git lfs pull` in its repository"
        }
        _ if text.starts_with(b"<!doctype") || text.starts_with(b"<html") || text.starts_with(b"<?xml") => {
            "is a page of HTML and not the file itself; download it again (from the Hub, by /resolve/ and \
             not /blob/)"
        }
        _ if text.starts_with(b"invalid username or password") || text.starts_with(b"entry not found") => {
            "is an error message of the Hub and not the file itself; download it again"
        }
        [b'P', b'K', 3 | 5, ..] => "is a zip archive, as torch.save writes them; expected safetensors",
        _ if is_safetensors(head) => return None,
        [0x80, 2..=5, ..] => "is a Python pickle, as torch.save writes them; expected safetensors",
        [b'G', b'G', b'U', b'F', ..] => "is a GGUF file of llama.cpp; expected safetensors",
        [0x1f, 0x8b, ..] => "is compressed by gzip; unpack it first",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "is compressed by zstd; unpack it first",
        [] => "is empty",
        _ => return None,
    })
}

/// Returns whether the first bytes are an eight-byte length, the last four of them zero, and a JSON object.
/// They may look like a pickle's.
fn is_safetensors(head: &[u8]) -> bool {
    matches!(head, [_, _, _, _, 0, 0, 0, 0, b'{', ..])
}

/// Opens a regular file. Reading a pipe or a device might never end.
///
/// # Errors
/// Fails if the path is not a regular file or cannot be opened.
pub(crate) fn open(path: &Path) -> Result<File> {
    let found = fs::metadata(path).map_err(Error::io(path))?;
    if found.is_dir() {
        return Err(Error::file(path, "is a folder; expected a file"));
    }
    if !found.is_file() {
        return Err(Error::file(path, "is a pipe, socket or device; expected a regular file"));
    }
    File::open(path).map_err(Error::io(path))
}

/// Checks that a file has the format that its name suggests.
///
/// # Errors
/// Fails if it does not, and if the file cannot be read.
pub(super) fn check(path: &Path) -> Result<()> {
    let mut head = Vec::new();
    let file = open(path)?;
    file.take(HEAD as u64).read_to_end(&mut head).map_err(Error::io(path))?;
    match named(&head) {
        Some(named) => Err(Error::file(path, named)),
        None => Ok(()),
    }
}

/// Reads the text of a model's JSON file.
///
/// # Errors
/// Fails if the file cannot be read, has another format, or is not UTF-8.
pub(super) fn read_text(path: &Path) -> Result<String> {
    check(path)?;
    fs::read_to_string(path).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: pages, pointers and archives are recognised, and real files are not suspected.
    #[test]
    fn files_are_named_by_their_first_bytes() {
        for (head, said) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n"[..], "Git LFS"),
            (b"<!DOCTYPE html>\n<html>", "HTML"),
            (b"\n  <html lang=en>", "HTML"),
            (b"<?xml version=\"1.0\"?><Error>", "HTML"),
            (b"PK\x03\x04\x00\x00", "zip"),
            (b"\x80\x02}q\x00", "pickle"),
            (b"GGUF\x03\x00", "GGUF"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"Entry not found", "error message"),
            (b"", "empty"),
        ] {
            assert!(named(head).is_some_and(|named| named.contains(said)), "{said}");
        }
        for head in [
            &b"{\"model_type\": \"llama\"}"[..],
            b"\x40\x1f\0\0\0\0\0\0{\"a\":{}}",
            b"\x80\0\0\0\0\0\0\0{",
            b"\x80\x02\0\0\0\0\0\0{\"a\"",
        ] {
            assert_eq!(named(head), None);
        }
    }

    /// Protects: irregular files are refused without opening them, which might block.
    #[cfg(unix)]
    #[test]
    fn only_regular_files_are_read() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("config.json");
        let _listener = std::os::unix::net::UnixListener::bind(&socket)?;
        for (path, said) in [
            (socket.as_path(), "is a pipe, socket or device; expected a regular file"),
            (Path::new("/dev/zero"), "is a pipe, socket or device; expected a regular file"),
            (dir.path(), "is a folder; expected a file"),
        ] {
            let error = read_text(path).map_err(|error| error.to_string());
            assert_eq!(error, Err(format!("{}: {said}", path.display())));
        }
        Ok(())
    }
}
