//! Memory that is asked for: weighed against what the machine has before it is, since an allocation that fails ends
//! the process.

use crate::error::{Error, Result};

/// Bytes of a GiB.
const GIB: f64 = (1_u64 << 30) as f64;

/// Refuses something that does not fit into the memory that is free; `what` is it, `bytes` its size, `None` beyond
/// all numbers. Where the machine does not say what is free, anything up to 2^47 bytes, all that a process can
/// address, passes.
///
/// # Errors
/// [`Error::Unsupported`] with both sizes.
pub fn require(what: &str, bytes: Option<u64>) -> Result<()> {
    let limit = available().unwrap_or(1 << 47);
    match bytes {
        Some(bytes) if bytes <= limit => Ok(()),
        _ => {
            let needed = bytes.map_or("more GiB than can be counted".to_owned(), |bytes| {
                format!("{:.1} GiB", bytes as f64 / GIB)
            });
            let free = limit as f64 / GIB;
            Err(Error::Unsupported(format!("{what} needs {needed} of memory; {free:.1} GiB are free")))
        }
    }
}

/// Memory and swap that Linux can give to a process; `None` elsewhere.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes = |key: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some((kilobytes("MemAvailable:")? + kilobytes("SwapFree:").unwrap_or(0)) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: what fits passes, and what cannot is refused with its size.
    #[test]
    fn sizes_are_weighed() {
        assert!(require("a page", Some(4096)).is_ok());
        let error = require("the model", Some(1 << 60)).unwrap_err().to_string();
        assert!(error.starts_with("the model needs 1073741824.0 GiB of memory; "), "{error}");
        assert!(require("the model", None).unwrap_err().to_string().contains("more GiB than"));
    }
}
