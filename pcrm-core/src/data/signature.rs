//! Detects files without readable records from their first bytes, with advice on how to convert them.

/// The number of leading bytes that [`foreign`] examines.
pub(super) const LENGTH: usize = 512;

/// The offset of the bytes, the bytes, the kind of file, and the advice.
type Signature = (usize, &'static [u8], &'static str, &'static str);

const UNPACK: &str = "unpack it, and name the files in it";
const EXPORT: &str = "write it as JSON lines or Parquet (datasets: Dataset.to_json, Dataset.to_parquet)";
const NO_DATA: &str = "expected JSON lines, JSON, Parquet or Arrow";

const SIGNATURES: &[Signature] = &[
    (0, b"PK\x03\x04", "a zip archive", UNPACK),
    (0, b"PK\x05\x06", "an empty zip archive", UNPACK),
    (0, b"PK\x07\x08", "a zip archive in parts", UNPACK),
    (0, b"BZh", "compressed with bzip2", "unpack it with bunzip2, or pack it with gzip or zstd"),
    (0, b"\xfd7zXZ\0", "compressed with xz", "unpack it with unxz, or pack it with gzip or zstd"),
    (0, b"LZIP\x01", "compressed with lzip", "unpack it with lzip -d, or pack it with gzip or zstd"),
    (0, b"\x5d\0\0", "compressed with lzma", "unpack it with unlzma, or pack it with gzip or zstd"),
    (0, b"\x04\x22\x4d\x18", "compressed with lz4", "unpack it with lz4 -d, or pack it with gzip or zstd"),
    (0, b"\xff\x06\0\0sNaPpY", "compressed with snappy", "unpack it, or pack it with gzip or zstd"),
    (0, b"\x1f\x9d", "compressed with compress (.Z)", "unpack it with uncompress"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"PARE", "a Parquet file with an encrypted footer", "decrypt it first"),
    (0, b"FEA1\0\0\0\0", "a Feather file, version 1", EXPORT),
    (0, b"Obj\x01", "an Avro file", EXPORT),
    (0, b"SQLite format 3\0", "an SQLite database", EXPORT),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", EXPORT),
    (0, b"\x93NUMPY", "a NumPy array", EXPORT),
    (0, b"\x80\x02", "a Python pickle", EXPORT),
    (0, b"\x80\x03", "a Python pickle", EXPORT),
    (0, b"\x80\x04", "a Python pickle", EXPORT),
    (0, b"\x80\x05", "a Python pickle", EXPORT),
    (0, b"%PDF-", "a PDF file", NO_DATA),
    (0, b"\x89PNG\r\n", "a PNG image", NO_DATA),
    (0, b"\x7fELF", "a program", NO_DATA),
    (0, b"\xd0\xcf\x11\xe0", "an old Microsoft Office file", EXPORT),
    (
        0,
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, not the file itself",
        "fetch the file with `git lfs pull`, or name the repository (org/name) as the data",
    ),
];

/// Describes a file that holds no records, from its first bytes, with advice; returns `None` if it may hold
/// records.
pub(super) fn foreign(head: &[u8]) -> Option<String> {
    if let Some(archive) = zip_of(head) {
        return Some(archive.to_owned());
    }
    let known =
        SIGNATURES.iter().find(|(at, bytes, ..)| head.get(*at..).is_some_and(|h| h.starts_with(bytes)));
    if let Some((.., name, way_out)) = known {
        return Some(format!("{name}; {way_out}"));
    }
    if let Some(page) = page(head) {
        return Some(format!(
            "{page}, not data: the download may have failed; fetch the file again and check its content"
        ));
    }
    encoding(head)
        .map(|encoding| format!("{encoding}; expected UTF-8"))
        .or_else(|| is_binary(head).then(|| format!("a binary file of unknown format; {NO_DATA}")))
}

/// Names program formats that are zip archives.
fn zip_of(head: &[u8]) -> Option<&'static str> {
    let holds = |name: &str| head.windows(name.len()).any(|window| window == name.as_bytes());
    if !head.starts_with(b"PK\x03\x04") {
        return None;
    }
    if holds("data.pkl") || holds("archive/") {
        return Some("a PyTorch file (torch.save); write its records as JSON lines or Parquet");
    }
    if holds("[Content_Types].xml") || holds("xl/") {
        return Some("a spreadsheet or another Office file; write it as JSON lines or Parquet");
    }
    holds(".npy").then_some("NumPy arrays in a zip archive (.npz); write them as JSON lines or Parquet")
}

fn page(head: &[u8]) -> Option<&'static str> {
    let text = head.trim_ascii_start();
    let begins = |tag: &str| text.get(..tag.len()).is_some_and(|h| h.eq_ignore_ascii_case(tag.as_bytes()));
    if begins("<!doctype html") || begins("<html") || begins("<head") || begins("<body") {
        return Some("an HTML page");
    }
    (begins("<?xml") || begins("<error>")).then_some("an XML document")
}

/// Detects encodings other than UTF-8 from their byte order marks or from zeros next to ASCII letters.
fn encoding(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(&[0xff, 0xfe, 0, 0]) || head.starts_with(&[0, 0, 0xfe, 0xff]) {
        return Some("text in UTF-32 (by its byte order mark)");
    }
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        return Some("text in UTF-16 (by its byte order mark)");
    }
    let pairs = || head.chunks_exact(2).take(16);
    let ascii = |byte: u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    let one_sided = head.len() >= 8
        && (pairs().all(|pair| pair[0] == 0 && ascii(pair[1]))
            || pairs().all(|pair| pair[1] == 0 && ascii(pair[0])));
    one_sided.then_some("text in UTF-16 (every other byte is zero)")
}

/// Returns true if many of the bytes are control characters, which text does not contain.
fn is_binary(head: &[u8]) -> bool {
    let control = |byte: &&u8| **byte < 0x20 && !matches!(**byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
    let count = head.iter().filter(control).count();
    count > 4 && count * 20 > head.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: files without records are named by their format, with advice.
    #[test]
    fn foreign_files_are_named() {
        let tar = [vec![b'x'; 257], b"ustar\x0000".to_vec()].concat();
        let wide: Vec<u8> = "{\"prompt\": \"q\"}".bytes().flat_map(|byte| [byte, 0]).collect();
        for (head, expected) in [
            (&b"PK\x03\x04\x14\0\0\0\0\0pairs.jsonl{}"[..], "a zip archive; unpack it"),
            (b"PK\x03\x04\x14\0\0\0archive/data.pkl", "a PyTorch file"),
            (b"PK\x03\x04\x14\0\0\0[Content_Types].xml", "a spreadsheet"),
            (b"BZh91AY&SY", "compressed with bzip2; unpack it with bunzip2"),
            (b"\xfd7zXZ\0\0\x04", "compressed with xz"),
            (b"\x04\x22\x4d\x18\x60\x40", "compressed with lz4"),
            (b"7z\xbc\xaf\x27\x1c\0\x04", "a 7z archive"),
            (&tar, "a tar archive"),
            (b"\x80\x04\x95\x10\0", "a Python pickle"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer, not the file"),
            (b"\n <!DOCTYPE HTML><html>", "an HTML page, not data"),
            (b"<?xml version='1.0'?><Error>", "an XML document"),
            (b"\xff\xfe{\0", "text in UTF-16 (by its byte order mark); expected UTF-8"),
            (&wide, "text in UTF-16 (every other byte is zero)"),
            (b"\0\x01\x02\x03\x04\x05\x06{}", "a binary file of unknown format"),
        ] {
            let said = foreign(head).unwrap_or_default();
            assert!(said.starts_with(expected), "{said}");
        }
        for text in ["{\"prompt\": \"PK\"}", "[1]", "prompt,chosen\n", "", "\u{e9}t\u{e9}\t\n"] {
            assert_eq!(foreign(text.as_bytes()), None, "{text}");
        }
    }
}
