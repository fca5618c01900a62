//! Crash-safe files: written atomically ([`whole`]), in folders that one process holds ([`lock`]) and that others see
//! ([`shared`]), with a hash of their content if later runs rely on them ([`sealed`]), or appended line by line
//! ([`growing`]).

pub mod growing;
pub mod lock;
pub mod sealed;
pub mod shared;
pub mod whole;

use std::fs::File;
use std::path::Path;

pub use growing::{GrowingFile, Origins};
pub use lock::FolderLock;

/// Returns whether a path still leads to this open file, that is, it was not deleted, moved or replaced.
pub fn leads_to(path: &Path, file: &File) -> bool {
    let (Ok(named), Ok(open)) = (path.metadata(), file.metadata()) else { return false };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (named.dev(), named.ino()) == (open.dev(), open.ino())
    }
    #[cfg(not(unix))]
    {
        named.is_file() == open.is_file()
    }
}
