//! Generated worlds: preference pairs whose true reward is known, and whose labels are human.
//!
//! What a model learns can be measured on them against the truth, without data of anyone's.

mod alike;
mod domain;
mod domains;
mod facts;
mod grammar;
mod truth;
mod world;

pub use alike::{Carried, ENOUGH, Likeness, Strength, Verdict};
pub use domain::{Domain, Line, Part, Task};
pub use domains::DOMAINS;
pub use grammar::Question;
pub use world::{Asked, Pair, World};
