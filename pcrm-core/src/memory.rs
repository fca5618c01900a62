//! A check of large allocations against the machine's free memory, because a failed allocation ends the
//! process.

use crate::error::{Error, Result};

/// Bytes of a GiB.
const GIB: f64 = (1_u64 << 30) as f64;

/// Fails if `bytes` exceed the free memory; `what` names the purpose, and `None` stands for a size beyond u64.
/// If the machine does not report its free memory, the limit is 2^47 bytes, the address space of a process.
///
/// # Errors
/// Fails with [`Error::Unsupported`], which states both sizes.
pub fn require(what: &str, bytes: Option<u64>) -> Result<()> {
    let limit = available().unwrap_or(1 << 47);
    match bytes {
        Some(bytes) if bytes <= limit => Ok(()),
        _ => {
            let needed = bytes
                .map_or("more than 2^64 bytes".to_owned(), |bytes| format!("{:.1} GiB", bytes as f64 / GIB));
            let free = limit as f64 / GIB;
            Err(Error::Unsupported(format!("{what} needs {needed} of memory; {free:.1} GiB are free")))
        }
    }
}

/// Returns the memory and swap that Linux can give to a process; `None` on other systems.
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

    /// Protects: sizes that fit pass, and sizes that cannot fit are refused with their value.
    #[test]
    fn sizes_are_weighed() {
        assert!(require("a page", Some(4096)).is_ok());
        let error = require("the model", Some(1 << 60)).unwrap_err().to_string();
        assert!(error.starts_with("the model needs 1073741824.0 GiB of memory; "), "{error}");
        assert!(require("the model", None).unwrap_err().to_string().contains("more than 2^64 bytes"));
    }
}
