//! Preference data: from the user's files to token ids.
//!
//! [`lines`] streams a file, [`records`] finds the JSON records in it, [`schema`] says what their columns mean,
//! [`preference`] and [`texts`] read them, [`report`] tells what was kept and why the rest was not, and
//! [`encode`] renders and tokenises them exactly as TRL's reward trainer does.

pub mod conversation;
pub mod encode;
pub mod lines;
mod load;
pub mod preference;
pub mod records;
pub mod render;
pub mod report;
pub mod schema;
pub mod texts;

/// The shared test data, or a line that says where it was looked for.
#[cfg(test)]
pub(crate) fn shared_data() -> Option<std::path::PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let path = std::env::var_os("PCRM_DATA").map_or_else(|| default.into(), std::path::PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    println!("no test data at {} (set PCRM_DATA to change): nothing checked", path.display());
    None
}
