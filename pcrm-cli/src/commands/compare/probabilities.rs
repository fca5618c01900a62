//! Known probabilities of preferences, from a column of the data.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use pcrm_core::data::encode::EncodedPair;
use pcrm_core::data::files::data_files;
use pcrm_core::data::report::Origin;

use crate::record::{named, records};
use crate::training::TrainingArgs;

/// The probability of each record that may be held out.
#[derive(Debug)]
pub struct Probabilities {
    known: HashMap<Origin, f64>,
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
            for (origin, record) in records(&file)? {
                let at = || origin.to_string();
                let value = named(&record, field, "--probability-field").with_context(at)?;
                let Some(p) = value.as_f64().filter(|p| (0.0..=1.0).contains(p)) else {
                    bail!(
                        "{}: --probability-field {field}: found {value}, expected a number from 0 to 1",
                        at()
                    );
                };
                known.insert(origin, p);
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
            self.known.get(pair.origin).copied().with_context(|| pair.origin.to_string())
        };
        pairs.map(of).collect()
    }
}
