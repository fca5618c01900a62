//! Opens a file and decompresses gzip and zstd.
//!
//! Formats are detected from the first bytes, because extensions are not reliable. Compressed files are
//! decompressed while they are read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::gzip::Gzip;
use super::signature::{self, foreign};
use crate::error::{Error, Result};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Skippable zstd frames, which hold no data; the first byte is 0x50 to 0x5f.
const SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];
const PARQUET: &[u8] = b"PAR1";
const ARROW_FILE: &[u8] = b"ARROW1";
const ARROW_STREAM: &[u8] = &[0xff; 4];
const BOM: &[u8] = &[0xef, 0xbb, 0xbf];
const BUFFER: usize = 1 << 16;
/// The maximum number of nested compression layers.
const LAYERS: usize = 3;

type Bytes = Box<dyn BufRead + Send>;

/// The content of a file.
pub(super) enum Container {
    /// Text, decompressed and without a byte order mark.
    Text(Bytes),
    /// Parquet, which requires seeking.
    Parquet(File),
    /// Arrow IPC, as a stream or as a file with a footer.
    Arrow(File),
}

/// Opens a file and detects its content.
///
/// # Errors
/// Fails if the file cannot be opened or holds no records: an archive, a web page, text that is not UTF-8.
pub(super) fn open(path: &Path) -> Result<Container> {
    let file = File::open(path).map_err(Error::io(path))?;
    let raw: Bytes = Box::new(BufReader::with_capacity(BUFFER, file));
    let (head, mut bytes) = peek(raw).map_err(Error::io(path))?;
    let again = || File::open(path).map_err(Error::io(path));
    if head.starts_with(PARQUET) {
        return again().map(Container::Parquet);
    }
    if is_arrow(&head) {
        return again().map(Container::Arrow);
    }
    let mut head = head;
    for layer in 0.. {
        let unpacked: Bytes = if head.starts_with(GZIP) {
            Box::new(BufReader::with_capacity(BUFFER, Gzip::new(bytes)))
        } else if is_zstd(&head) {
            let decoder = zstd::Decoder::with_buffer(bytes).map_err(Error::io(path))?;
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        } else {
            break;
        };
        if layer == LAYERS {
            return Err(Error::file(path, format!("packed more than {LAYERS} times; unpack it")));
        }
        (head, bytes) =
            peek(unpacked).map_err(|error| Error::file(path, format!("cannot be unpacked: {error}")))?;
        if head.starts_with(PARQUET) || is_arrow(&head) {
            return Err(Error::file(path, "a packed Parquet or Arrow file; unpack it first"));
        }
    }
    if let Some(message) = foreign(&head) {
        return Err(Error::file(path, message));
    }
    if head.starts_with(BOM) {
        bytes.consume(BOM.len());
    }
    Ok(Container::Text(bytes))
}

fn is_zstd(head: &[u8]) -> bool {
    head.starts_with(ZSTD) || (head.len() >= 4 && head[0] >> 4 == 5 && head[1..4] == *SKIPPABLE)
}

fn is_arrow(head: &[u8]) -> bool {
    head.starts_with(ARROW_FILE) || (head.len() > 8 && head.starts_with(ARROW_STREAM))
}

/// Returns the first bytes of a reader, and the reader from its beginning.
fn peek(mut reader: Bytes) -> io::Result<(Vec<u8>, Bytes)> {
    let head = head(&mut reader, signature::LENGTH)?;
    let whole = io::Cursor::new(head.clone()).chain(reader);
    Ok((head, Box::new(whole)))
}

/// Reads the first bytes, or fewer if the reader has fewer; they are consumed.
pub(super) fn head(reader: &mut dyn BufRead, bytes: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(bytes);
    reader.take(bytes as u64).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(bytes: &[u8]) -> Result<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        match open(file.path())? {
            Container::Text(mut reader) => {
                let mut text = String::new();
                reader.read_to_string(&mut text).map_err(Error::io(file.path()))?;
                Ok(text)
            }
            _ => panic!("no text"),
        }
    }

    fn zstd(text: &str) -> Vec<u8> {
        zstd::encode_all(text.as_bytes(), 0).unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
        packed
    }

    /// Protects: all zstd frames are read, and skippable frames are ignored at any position.
    #[test]
    fn zstd_is_read_whole() {
        let skippable = [&[0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let frames = [skippable.clone(), zstd("one\n"), skippable.clone(), zstd("two\n"), skippable].concat();
        assert_eq!(text_of(&frames).unwrap(), "one\ntwo\n");
    }

    /// Protects: a file compressed twice is decompressed twice, an inner byte order mark is removed, and a
    /// Parquet file or an archive in gzip is refused by name.
    #[test]
    fn layers_are_unpacked() {
        assert_eq!(text_of(&gzip(&gzip("\u{feff}text".as_bytes()))).unwrap(), "text");
        assert_eq!(text_of(&gzip(&zstd("text"))).unwrap(), "text");
        let said = |bytes: &[u8]| text_of(bytes).unwrap_err().to_string();
        assert!(said(&gzip(b"PAR1....")).contains("a packed Parquet or Arrow file"));
        assert!(said(&gzip(&[vec![b'x'; 257], b"ustar".to_vec()].concat())).contains("a tar archive"));
        let deep = (0..5).fold(b"text".to_vec(), |bytes, _| gzip(&bytes));
        assert!(said(&deep).contains("packed more than 3 times"), "{}", said(&deep));
    }
}
