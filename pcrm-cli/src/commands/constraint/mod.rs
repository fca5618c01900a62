//! `pcrm constraint`: lists and explains constraints and computes their bounds on data.

mod bounds;
mod explain;
mod explanation;
mod list;
mod report;

use anyhow::Result;
use clap::Subcommand;

/// Subcommands of `pcrm constraint`.
#[derive(Debug, Subcommand)]
pub enum ConstraintVerb {
    /// List the compiled-in constraints with formulas and defaults
    List(list::ListArgs),
    /// Explain a constraint: formula, parameters, and its bound Δ* by the similarity s of the answers
    Explain(explain::ExplainArgs),
    /// Compute the bounds of pairs: s, Δ* and P = σ(Δ*/2) of each, and their deciles
    Bounds(Box<bounds::BoundsArgs>),
}

/// Runs the subcommand.
///
/// # Errors
/// Fails as the subcommand does.
pub fn run(verb: &ConstraintVerb) -> Result<()> {
    match verb {
        ConstraintVerb::List(args) => list::run(args),
        ConstraintVerb::Explain(args) => explain::run(args),
        ConstraintVerb::Bounds(args) => bounds::run(args),
    }
}
