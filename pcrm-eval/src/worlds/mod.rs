//! Generated worlds: preference pairs whose true reward is known, and whose labels are human.
//!
//! What a model learns can be measured on them against the truth, without data of anyone's.

mod facts;
mod grammar;
mod truth;
mod world;

pub use grammar::Question;
pub use world::{Pair, World};
