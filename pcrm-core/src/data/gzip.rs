//! Reads all members of a gzip file, and ignores the padding that tapes and downloads add.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// A reader of the bytes of all members. Zeros after a member are padding, as in Python's gzip and in gzip
/// itself; any other bytes that begin no member are an error.
pub(super) struct Gzip<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gzip<R> {
    /// Creates a reader that starts at the first byte of a member.
    pub(super) fn new(reader: R) -> Self {
        Self { member: Some(GzDecoder::new(reader)) }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(out)?;
            if count > 0 || out.is_empty() {
                return Ok(count);
            }
            let Some(mut rest) = self.member.take().map(GzDecoder::into_inner) else { break };
            match first_after_zeros(&mut rest)? {
                None => break,
                Some(0x1f) => self.member = Some(GzDecoder::new(rest)),
                Some(byte) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!(
                            "the gzip data are followed by the byte {byte:#04x}; expected the end, zeros or \
                             more gzip data"
                        ),
                    ));
                }
            }
        }
        Ok(0)
    }
}

/// Consumes zeros and returns the first other byte without consuming it.
fn first_after_zeros(reader: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        let first = buffer.get(zeros).copied();
        reader.consume(zeros);
        if first.is_some() {
            return Ok(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(text: &str) -> Vec<u8> {
        let mut packed = Vec::new();
        flate2::read::GzEncoder::new(text.as_bytes(), flate2::Compression::fast())
            .read_to_end(&mut packed)
            .unwrap();
        packed
    }

    fn unpacked(bytes: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        // With a small buffer, members and zeros end at every position in it.
        Gzip::new(io::BufReader::with_capacity(7, bytes)).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Protects: all members are read, with zeros between and after them; other trailing bytes and a
    /// truncated member are errors.
    #[test]
    fn members_and_padding_are_read() {
        let (one, two, zeros) = (packed("one\n"), packed("two\n"), vec![0; 1000]);
        assert_eq!(unpacked(&[&one[..], &two].concat()).unwrap(), "one\ntwo\n");
        assert_eq!(unpacked(&[&one[..], &zeros].concat()).unwrap(), "one\n");
        assert_eq!(unpacked(&[&one[..], &zeros, &two, &zeros].concat()).unwrap(), "one\ntwo\n");
        let said = unpacked(&[&one[..], b"text"].concat()).unwrap_err().to_string();
        assert!(said.contains("the byte 0x74; expected the end"), "{said}");
        assert!(unpacked(&one[..one.len() - 3]).is_err());
    }
}
