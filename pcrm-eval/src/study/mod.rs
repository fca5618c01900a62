//! Studies: an experiment as data, the runs it takes, and what their results say.
//!
//! A [`Recipe`] says what is asked and which arms answer it. [`Plan::of`] makes it a list of jobs with stable names, each a
//! verb of `pcrm` with its options and the jobs it needs. Whoever runs them reads what they leave into [`Cell`]s, one for an
//! arm in a world with a seed, by [`measures`] and [`curve`]. [`Outcome::of`] pairs the cells by seed, [`learned`] puts the
//! outcome into words, and [`page`] and [`markdown`] show it. Nothing here runs a process or reads a file.

pub mod curve;
pub mod fill;
pub mod learned;
pub mod map;
pub mod markdown;
pub mod measures;
pub mod outcome;
pub mod page;
pub mod plan;
pub mod recipe;
pub mod results;
pub mod show;
#[cfg(test)]
mod tests;

pub use outcome::Outcome;
pub use plan::{Job, Plan};
pub use recipe::Recipe;
pub use results::{Cell, Results};
