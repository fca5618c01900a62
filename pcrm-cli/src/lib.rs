//! `pcrm`: reward models with prior constraints, as a library with one function, so that a binary may have plugins of
//! its own:
//!
//! ```text
//! use my_constraints as _;
//!
//! fn main() -> std::process::ExitCode {
//!     pcrm_cli::main()
//! }
//! ```
//!
//! The library sets the binary's allocator (mimalloc).

mod allocator;
mod bound_summary;
mod card;
mod chart;
mod columns;
mod commands;
mod config;
mod constraint;
mod crossfit;
mod dataset;
mod hashes;
mod hub;
mod interrupt;
mod machine;
mod page;
mod paragraph;
mod plugins;
mod priors;
mod progress;
mod report;
mod training;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use crate::commands::bench::BenchVerb;
use crate::commands::constraint::ConstraintVerb;
use crate::commands::data::DataVerb;
use crate::commands::eval::EvalVerb;

#[derive(Debug, Parser)]
#[command(name = "pcrm", version, about = "Train reward models whose scores can be trusted", long_about = ABOUT)]
#[command(after_long_help = "Try `pcrm quickstart` first: it needs nothing but this binary.")]
struct Cli {
    /// Print errors only
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    verb: Verb,
}

const ABOUT: &str = "\
Train reward models whose scores can be trusted: Bradley-Terry with a bound on every pair's margin
(Prior Constraints-based Reward Models, arXiv 2404.00978), on Hugging Face checkpoints and preference files.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Trains on a small generated world, with and without constraints, and shows both side by side
    Quickstart(commands::quickstart::QuickstartArgs),
    /// Tells what data are like for a model, and what is wrong with them, before training
    Inspect(Box<commands::inspect::InspectArgs>),
    /// Trains a reward model on preference pairs
    Reward(Box<commands::reward::RewardArgs>),
    /// Fits a constraint to how often preferred answers win, and writes it to a file
    Calibrate(Box<commands::calibrate::CalibrateArgs>),
    /// Trains under several constraints and seeds, and tells which of them helps on these data
    Compare(Box<commands::compare::CompareArgs>),
    /// Scores texts or pairs with a trained reward model
    Score(commands::score::ScoreArgs),
    /// Tells of constraints: which there are, what one does, its bounds on data
    #[command(subcommand)]
    Constraint(ConstraintVerb),
    /// Makes files of preferences of other files
    #[command(subcommand)]
    Data(DataVerb),
    /// Measures what a model is worth
    #[command(subcommand)]
    Eval(EvalVerb),
    /// Times this machine
    #[command(subcommand)]
    Bench(BenchVerb),
    /// Lists the backends and constraints that are compiled in
    Plugins,
    /// Prints completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// The whole program: reads the command line, runs the verb, says by its exit code how it went.
pub fn main() -> ExitCode {
    allocator::keep_pages();
    let command = Cli::command().args_override_self(true);
    let matches = match parse(&command) {
        Ok(matches) => matches,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    progress::set_quiet(cli.quiet);
    progress::start_logging();
    match run(&cli, &command, &matches) {
        Ok(code) => code,
        Err(error) if error.chain().any(|cause| cause.is::<interrupt::Interrupted>()) => {
            eprintln!("{error:#}");
            ExitCode::from(interrupt::EXIT_CODE)
        }
        // The reader of our output went away, as `head` does.
        Err(error)
            if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(command: &Command) -> Result<ArgMatches> {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let (all, file) = config::with_config(command, typed)?;
    Ok(command.clone().try_get_matches_from(all).unwrap_or_else(|error| {
        if let (Some(file), true) = (file, error.use_stderr()) {
            eprintln!("with the options of {}:", file.display());
        }
        error.exit()
    }))
}

fn run(cli: &Cli, command: &Command, matches: &ArgMatches) -> Result<ExitCode> {
    match &cli.verb {
        Verb::Inspect(args) => return Ok(commands::inspect::run(args)),
        Verb::Quickstart(args) => commands::quickstart::run(args),
        Verb::Reward(args) => {
            let resolved = match (command.find_subcommand("reward"), matches.subcommand()) {
                (Some(verb), Some((_, matches))) => config::resolved(verb, matches),
                _ => String::new(),
            };
            commands::reward::run(args, &resolved)
        }
        Verb::Calibrate(args) => commands::calibrate::run(args),
        Verb::Compare(args) => commands::compare::run(args, command, matches),
        Verb::Score(args) => commands::score::run(args),
        Verb::Constraint(verb) => commands::constraint::run(verb),
        Verb::Data(verb) => commands::data::run(verb),
        Verb::Eval(EvalVerb::Reward(args)) => commands::eval::reward(args),
        Verb::Eval(EvalVerb::Comparisons(args)) => commands::compare::gather(args),
        Verb::Bench(verb) => commands::bench::run(verb),
        Verb::Plugins => commands::plugins::run(),
        Verb::Completions { shell } => {
            clap_complete::generate(*shell, &mut command.clone(), "pcrm", &mut io::stdout());
            Ok(())
        }
    }?;
    Ok(ExitCode::SUCCESS)
}
