//! What preference data are like, told before anything is trained on them: facts as counts, and findings with
//! what to do.
//!
//! No model is run here. [`told`] says what a file is and by which columns; [`reading`] turns the report on
//! reading into findings; [`lengths`] counts tokens; [`ends`] looks at how sequences begin and end,
//! [`template`] at the chat template; [`repeats`] finds pairs and prompts that stand more than once; [`sets`]
//! counts ranked sets; [`bounds`] tells what a constraint will do. Each has `findings`, a list of
//! [`Finding`]s; their thresholds are constants of their modules.

pub mod bounds;
pub mod ends;
mod finding;
pub mod lengths;
pub mod reading;
pub mod repeats;
pub mod sets;
pub mod template;
#[cfg(test)]
pub(in crate::data) mod testing;
pub mod told;

pub(in crate::data) use finding::many;
pub use finding::{Finding, Severity, Tally};
