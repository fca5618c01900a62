//! Fuzz targets for every reader of a user's files: `scripts/fuzz 60` runs each for a minute.

// Constraints register themselves.
use pcrm_constraints as _;

pub mod entries;
