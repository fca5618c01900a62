//! Studies: an experiment as data, its runs, and the analysis of their results.
//!
//! A [`Recipe`] has the question of the study and its arms. [`StudyPlan::of`] turns it into a list of jobs with
//! stable names; each is a `pcrm` command with its options and the jobs it needs. The caller runs them and
//! reads their output into [`Cell`]s, one per arm, world and seed, with [`measures`] and [`curve`].
//! [`StudyOutcome::of`] pairs the cells by seed, [`learned`] puts the outcome into words, and [`page`] and
//! [`markdown`] show it. This module runs no process and reads no file.

mod check;
pub mod curve;
mod figure;
pub mod fill;
pub mod learned;
pub mod map;
pub mod markdown;
pub mod measures;
pub mod outcome;
pub mod own_data;
pub mod page;
pub mod plan;
pub mod recipe;
pub mod results;
pub mod show;
#[cfg(test)]
mod tests;

pub use outcome::StudyOutcome;
pub use own_data::OwnData;
pub use plan::{Job, StudyPlan};
pub use recipe::Recipe;
pub use results::{Cell, Results};
