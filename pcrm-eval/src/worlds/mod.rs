//! Generated worlds: preference pairs with known true rewards and human-like labels.
//!
//! They let a reward model be measured against the truth, without real data.

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
pub use world::{Pair, World, WorldPrompt};
