//! `pcrm constraint`: which constraints there are, what one does, and its bounds on data.

mod bounds;
mod explain;
mod explanation;
mod list;
mod report;

use anyhow::Result;
use clap::Subcommand;

/// What is told of constraints.
#[derive(Debug, Subcommand)]
pub enum ConstraintVerb {
    /// Lists the constraints that are compiled in: formula and defaults
    List(list::ListArgs),
    /// Explains a constraint: formula, parameters, and its bound Δ* by the similarity s of the answers
    Explain(explain::ExplainArgs),
    /// Computes the bounds of pairs: s, Δ* and P = σ(Δ*/2) of each, and their deciles
    Bounds(Box<bounds::BoundsArgs>),
}

/// Tells.
///
/// # Errors
/// Everything that the user's files and options can cause.
pub fn run(verb: &ConstraintVerb) -> Result<()> {
    match verb {
        ConstraintVerb::List(args) => list::run(args),
        ConstraintVerb::Explain(args) => explain::run(args),
        ConstraintVerb::Bounds(args) => bounds::run(args),
    }
}
