//! Surveys preference data before training: counts, and findings with advice.
//!
//! No model runs here. [`file_schema`] describes each file, its schema and its columns. [`reading`] turns the
//! report on reading into findings. [`lengths`] counts tokens, [`ends`] checks how sequences begin and end,
//! [`template`] checks the chat template, and [`lost`] counts the turns that it leaves out. [`repeats`] finds
//! repeated pairs and prompts, [`sets`] counts ranked sets, and [`bounds`] surveys a constraint's bounds. Each
//! has `findings`, a list of [`Finding`]s; the thresholds are constants of the modules.

pub mod bounds;
pub mod ends;
pub mod file_schema;
mod finding;
pub mod lengths;
pub mod lost;
pub mod reading;
pub mod repeats;
pub mod sets;
pub mod template;
#[cfg(test)]
pub(in crate::data) mod testing;

pub(in crate::data) use finding::many;
pub use finding::{Finding, Severity, Tally};
