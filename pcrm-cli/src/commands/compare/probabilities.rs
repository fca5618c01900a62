//! Known probabilities of preferences, from a column of the data.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use pcrm_core::data::encode::EncodedPair;
use pcrm_core::data::files::data_files;

use crate::record::{named, records};
use crate::training::TrainingArgs;

/// The probability of each record that may be held out, by file and line.
#[derive(Debug)]
pub struct Probabilities {
    known: HashMap<(PathBuf, u64), f64>,
}

impl Probabilities {
    /// Reads the column from the files.
    ///
    /// # Errors
    /// Fails, with file and line, if a file cannot be read or a record lacks the column or has anything but a
    /// number from 0 to 1.
    pub fn read(args: &TrainingArgs, field: &str) -> Result<Self> {
        let from = if args.eval_data.is_empty() { &args.data } else { &args.eval_data };
        let mut known = HashMap::new();
        for file in data_files(from)? {
            for (line, record) in records(&file)? {
                let at = || format!("{}:{line}", file.display());
                let value = named(&record, field, "--probability-field").with_context(at)?;
                let Some(p) = value.as_f64().filter(|p| (0.0..=1.0).contains(p)) else {
                    bail!(
                        "{}: --probability-field {field}: found {value}, expected a number from 0 to 1",
                        at()
                    );
                };
                known.insert((file.clone(), line), p);
            }
        }
        Ok(Self { known })
    }

    /// Returns the probabilities of these pairs.
    ///
    /// # Errors
    /// Fails if a pair is from another file.
    pub fn of<'a>(&self, pairs: impl Iterator<Item = EncodedPair<'a>>) -> Result<Vec<f64>> {
        let of = |pair: EncodedPair<'_>| {
            let place = (pair.origin.file.to_path_buf(), pair.origin.line);
            self.known.get(&place).copied().with_context(|| pair.origin.to_string())
        };
        pairs.map(of).collect()
    }
}
