//! Preference data: from the user's files to token ids.
//!
//! [`files`] says which files are meant, [`records`] finds the JSON records in one ([`lines`] streams those
//! of JSON lines), [`schema`] says what their columns mean and [`columns`] what the user says about them,
//! [`preference`] and [`texts`] read them, [`report`] tells what was kept and why the rest was not, and
//! [`encode`] renders and tokenises them exactly as TRL's reward trainer does. [`convert`] and [`split`] make
//! files of files, which [`output`] writes; [`overlap`] tells what stands in two, [`survey`] what data are
//! like.

mod arrow_rows;
mod asked;
pub mod columns;
mod container;
pub mod conversation;
pub mod convert;
mod elements;
pub mod encode;
pub mod files;
mod gzip;
mod layouts;
pub mod lines;
mod load;
mod not_finite;
mod objects;
pub mod output;
pub mod overlap;
mod parquet_rows;
pub mod preference;
pub mod prompt_id;
pub mod records;
pub mod render;
pub mod report;
mod scan;
pub mod schema;
mod signature;
pub mod split;
pub mod survey;
mod tables;
pub mod texts;
mod turns;
mod unread;

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
