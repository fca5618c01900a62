//! The name of a source, as the command line has it: `own`, `vllm:URL`, `sglang:URL`, `file:PATH`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::SourceKind;
use crate::error::{Error, Result};
use crate::options::refuse;

/// A source and its address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SourceName {
    /// The trainer's own engine.
    #[default]
    Own,
    /// A server of vLLM at this address.
    Vllm(String),
    /// A server of SGLang at this address.
    Sglang(String),
    /// A file of samples.
    File(PathBuf),
}

impl SourceName {
    /// Returns the kind of the source.
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Own => SourceKind::Own,
            Self::Vllm(_) => SourceKind::Vllm,
            Self::Sglang(_) => SourceKind::Sglang,
            Self::File(_) => SourceKind::File,
        }
    }
}

impl FromStr for SourceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const EXPECTED: &str = "own, vllm:URL, sglang:URL or file:PATH";
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let url = || -> Result<String> {
            let host = rest.strip_prefix("http://").or(rest.strip_prefix("https://"));
            match host.is_some_and(|host| !host.trim_matches('/').is_empty()) {
                true => {
                    let root = rest.trim_end_matches('/');
                    Ok(root.strip_suffix("/v1").unwrap_or(root).to_owned())
                }
                false => {
                    refuse("rollouts", format!("{text:?}: expected {kind}:http://HOST:PORT, or https://"))
                }
            }
        };
        match (kind, rest) {
            ("own", "") => Ok(Self::Own),
            ("vllm", _) => url().map(Self::Vllm),
            ("sglang", _) => url().map(Self::Sglang),
            ("file", "") => refuse("rollouts", format!("{text:?}: expected file:PATH")),
            ("file", path) => Ok(Self::File(path.into())),
            _ => refuse("rollouts", format!("{text:?}: expected {EXPECTED}")),
        }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("own"),
            Self::Vllm(url) => write!(f, "vllm:{url}"),
            Self::Sglang(url) => write!(f, "sglang:{url}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: every form is read and printed, the API's path is not part of a server's address, and a
    /// mistake names what was expected.
    #[test]
    fn names_are_read_and_mistakes_are_named() {
        for (text, expected) in [
            ("own", "own"),
            ("vllm:http://localhost:8000", "vllm:http://localhost:8000"),
            ("vllm:http://localhost:8000/v1/", "vllm:http://localhost:8000"),
            ("sglang:https://h:30000/", "sglang:https://h:30000"),
            ("file:a:b.jsonl", "file:a:b.jsonl"),
        ] {
            assert_eq!(text.parse::<SourceName>().unwrap().to_string(), expected);
        }
        for (text, part) in [
            ("vllm", "expected vllm:http://HOST:PORT"),
            ("sglang:localhost:30000", "expected sglang:http://HOST:PORT"),
            ("vllm:http://", "expected vllm:http://HOST:PORT"),
            ("file:", "expected file:PATH"),
            ("tgi:http://a", "expected own, vllm:URL, sglang:URL or file:PATH"),
        ] {
            let message = text.parse::<SourceName>().unwrap_err().to_string();
            assert!(message.starts_with("rollouts: ") && message.contains(part), "{message}");
        }
    }
}
