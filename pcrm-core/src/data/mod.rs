//! Training data: from the user's files to token ids.
//!
//! [`files`] lists the files to read, [`mod@slice`] selects records of a file, and [`records`] finds
//! the records in each file ([`lines`] streams JSON lines). [`schema`] detects the meaning of their columns;
//! [`columns`] holds the columns that the user names. [`preference`] and [`texts`] read records for reward
//! models; [`completions`], [`prompts`] and [`labelled`] read records for language models. [`report`] counts
//! the records left out and gives the reasons. [`encode`] renders and tokenises the others exactly as TRL's
//! trainers do. [`convert`] and [`split`] make new files, which [`output`] writes. [`overlap`] finds the
//! prompts and pairs that two data sets share, and [`survey`] looks for faults before training. [`scored`] marks the
//! rows whose scores are a model's.

pub mod answer_set;
mod arrow_rows;
mod asked;
pub mod columns;
pub mod completions;
mod container;
pub mod conversation;
pub mod convert;
mod elements;
pub mod encode;
pub mod files;
mod gzip;
pub mod labelled;
mod layouts;
pub mod lines;
mod load;
mod not_finite;
mod objects;
mod origin;
pub mod output;
pub mod overlap;
mod parquet_rows;
pub mod preference;
pub mod prompt_id;
pub mod prompts;
mod readable;
pub mod records;
pub mod render;
pub mod report;
mod scan;
pub mod schema;
pub mod scored;
mod signature;
pub mod slice;
pub mod split;
pub mod surrogate;
pub mod survey;
mod table_rows;
mod tables;
pub mod texts;
mod turns;
mod unread;

/// Returns the folder of shared test data; if there is none, prints the path it looked at.
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
