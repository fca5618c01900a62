//! `pcrm`: reward models with prior constraints. The library exports its entry point, so a binary can link plugins
//! of its own:
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

// The print macros panic when the reader of the output is gone; `terminal` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod allocator;
mod arguments;
mod bound_summary;
mod card;
mod chain;
mod chart;
mod children;
mod columns;
mod commands;
mod comparison;
mod config;
mod constraint;
mod dataset;
mod examples;
mod export;
mod generation;
mod hub;
mod interrupt;
mod left_out;
mod machine;
mod numbers;
mod output;
mod page;
mod paragraph;
mod plugins;
mod priors;
mod processes;
mod progress;
mod quantize;
mod record;
mod report;
mod revision;
#[cfg(feature = "serve")]
mod serve;
mod sibling;
mod study;
mod suggest;
mod template;
mod terminal;
mod training;
mod untrained;
mod usage;
mod warnings;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::chain::in_full;
use crate::commands::bench::BenchVerb;
use crate::commands::constraint::ConstraintVerb;
use crate::commands::data::DataVerb;
use crate::commands::eval::EvalVerb;
use crate::commands::online;
pub use crate::sibling::Sibling;

#[derive(Debug, Parser)]
#[command(name = "pcrm", version, about = "Train reward models whose scores can be trusted", long_about = ABOUT)]
#[command(after_long_help = AFTER)]
struct Cli {
    /// Print errors only
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    verb: Verb,
}

const ABOUT: &str = "\
Train reward models whose scores can be trusted: Bradley-Terry with a bound on every pair's margin \
(Prior Constraints-based Reward Models, arXiv 2404.00978), on Hugging Face checkpoints and preference files.";

const AFTER: &str = "\
Try `pcrm quickstart` first: it needs nothing but this binary.

Exit codes: 0 for success; 1 for errors in files, data, models or training; 2 for errors in options (unknown, out of \
range, without effect, not to be combined); 130 after Ctrl-C. `pcrm inspect` exits with 1 for warnings and 2 for \
errors.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Train reward models and policies in small generated worlds and compare constraints
    Quickstart(commands::quickstart::QuickstartArgs),
    /// Check your data against a model before training
    Inspect(Box<commands::inspect::InspectArgs>),
    /// Train a reward model on preference pairs
    Reward(Box<commands::reward::RewardArgs>),
    /// Fine-tune a language model on prompts with completions, conversations or texts
    Sft(Box<commands::sft::SftArgs>),
    /// Train a language model on preferences (DPO), optionally with bounded margins
    Dpo(Box<commands::dpo::DpoArgs>),
    /// Train a language model on single answers labelled desirable or undesirable (KTO)
    Kto(Box<commands::kto::KtoArgs>),
    /// Fit a constraint to measured win rates
    Calibrate(Box<commands::calibrate::CalibrateArgs>),
    /// Compare constraints over several seeds
    Compare(Box<commands::compare::CompareArgs>),
    /// Train a policy on its own answers with a critic (PPO)
    Ppo(Box<online::PpoArgs>),
    /// Train a policy on its own answers with group-relative rewards (GRPO and variants)
    Grpo(Box<online::GrpoArgs>),
    /// Train a policy on its own answers, each compared with the mean of the others (RLOO)
    Rloo(Box<online::RlooArgs>),
    /// Train a policy on pairs of its own answers (online DPO), optionally with bounded margins
    OnlineDpo(Box<online::OnlineDpoArgs>),
    /// Start several processes of a training command on this machine
    Launch(commands::launch::LaunchArgs),
    /// Print the memory, exchanged bytes and time of a step on several GPUs before training
    Plan(commands::plan::PlanArgs),
    /// Run an experiment from a recipe: several runs, one report
    Study(commands::study::StudyArgs),
    /// Compare training runs: a table, and a page with their curves
    Report(commands::report::ReportArgs),
    /// Sample answers from a language model
    Generate(Box<commands::generate::GenerateArgs>),
    /// Sample n answers to each prompt and keep the best by a reward
    BestOfN(Box<commands::best_of_n::BestArgs>),
    /// Compare the answers of policies pair by pair with a judge
    Judge(Box<commands::judge::JudgeArgs>),
    /// Merge a PEFT adapter into its base model
    Merge(commands::merge::MergeArgs),
    /// Export a finished run for sharing, and upload it to the Hugging Face Hub
    Export(commands::export::ExportArgs),
    /// Score texts or pairs with a trained reward model
    Score(commands::score::ScoreArgs),
    /// Serve reward models over the HTTP protocols of OpenRLHF, vLLM, SGLang and TEI
    #[cfg(feature = "serve")]
    Serve(Box<commands::serve::ServeArgs>),
    /// List, explain and apply constraints
    #[command(subcommand)]
    Constraint(ConstraintVerb),
    /// Convert, split and generate preference files
    #[command(subcommand)]
    Data(DataVerb),
    /// Evaluate reward models and policies, and merge comparisons
    #[command(subcommand)]
    Eval(EvalVerb),
    /// Benchmark training, scoring, sampling and matrix products
    #[command(subcommand)]
    Bench(BenchVerb),
    /// List the compiled-in backends, constraints, encoders, judges and rewards
    Plugins,
    /// Print shell completions
    Completions {
        /// Shell to print completions for
        shell: Shell,
    },
    /// Write a man page for each command into a folder
    Man {
        /// Folder to write to; created if it does not exist
        output: PathBuf,
    },
}

/// Entry point: parses the arguments, runs the command and returns its exit code.
pub fn main() -> ExitCode {
    main_with(None)
}

/// Like [`main`], for a program that leaves other backends to a second program beside it.
pub fn main_with(sibling: Option<Sibling>) -> ExitCode {
    allocator::keep_pages();
    interrupt::follow_parent();
    if let Err(error) = sibling::check_version() {
        progress::fail(&error);
        return ExitCode::FAILURE;
    }
    let command = command();
    let arguments = match Arguments::of_process(&command) {
        Ok(arguments) => arguments,
        Err(error) => {
            if let Some(answer) = error.downcast_ref::<clap::Error>() {
                return terminal::answer(answer);
            }
            progress::fail(&error);
            return ExitCode::from(usage::EXIT_CODE);
        }
    };
    let cli = match Cli::from_arg_matches(&arguments.matches) {
        Ok(cli) => cli,
        Err(error) => return terminal::answer(&error),
    };
    progress::set_quiet(cli.quiet);
    progress::start_logging();
    let outcome = run(&cli, &command, &arguments, sibling);
    hub::stdin::remove();
    match outcome {
        Ok(code) => {
            processes::ended();
            code
        }
        Err(error) if error.chain().any(|cause| cause.is::<interrupt::Interrupted>()) => {
            processes::ended();
            if processes::speaks() {
                terminal::message(&in_full(&error));
            }
            ExitCode::from(interrupt::EXIT_CODE)
        }
        Err(error) if error.is::<terminal::ReaderGone>() => ExitCode::SUCCESS,
        Err(error) => {
            progress::fail(&error);
            processes::failed(&error);
            match error.chain().any(|cause| cause.is::<usage::Usage>()) {
                true => ExitCode::from(usage::EXIT_CODE),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// Returns the command line: every verb with its options.
fn command() -> Command {
    examples::fitted(with_negative_numbers(Cli::command().args_override_self(true)))
}

/// Lets options take values such as -1, so that an error is about the value and not about an unknown option.
fn with_negative_numbers(command: Command) -> Command {
    command
        .mut_args(|arg| match arg.get_action().takes_values() {
            true => arg.allow_negative_numbers(true),
            false => arg,
        })
        .mut_subcommands(with_negative_numbers)
}

/// Returns the options of a verb as the config file of its run.
fn resolved(verb: &str, command: &Command, matches: &ArgMatches) -> String {
    match (command.find_subcommand(verb), matches.subcommand()) {
        (Some(verb), Some((_, matches))) => config::resolved(verb, matches),
        _ => String::new(),
    }
}

fn run(cli: &Cli, command: &Command, arguments: &Arguments, sibling: Option<Sibling>) -> Result<ExitCode> {
    let matches = &arguments.matches;
    usage::usage(output::check(command, matches))?;
    sibling.map_or(Ok(()), |sibling| sibling.take_over(arguments))?;
    match &cli.verb {
        Verb::Inspect(args) => return Ok(commands::inspect::run(args)),
        Verb::Launch(args) => return commands::launch::run(args).map(ExitCode::from),
        Verb::Quickstart(args) => commands::quickstart::run(args, command),
        Verb::Reward(args) => commands::reward::run(args, &resolved("reward", command, matches)),
        Verb::Sft(args) => commands::sft::run(args, &resolved("sft", command, matches)),
        Verb::Dpo(args) => commands::dpo::run(args, &resolved("dpo", command, matches)),
        Verb::Kto(args) => commands::kto::run(args, &resolved("kto", command, matches)),
        Verb::Calibrate(args) => commands::calibrate::run(args),
        Verb::Compare(args) => commands::compare::run(args, command, matches),
        Verb::Report(args) => commands::report::run(args),
        Verb::Study(args) => commands::study::run(args, command),
        Verb::Ppo(args) => online::ppo(args, &resolved("ppo", command, matches)),
        Verb::OnlineDpo(args) => online::online_dpo(args, &resolved("online-dpo", command, matches)),
        Verb::Grpo(args) => online::grpo(args, &resolved("grpo", command, matches)),
        Verb::Rloo(args) => online::rloo(args, &resolved("rloo", command, matches)),
        Verb::BestOfN(args) => commands::best_of_n::run(args),
        Verb::Generate(args) => commands::generate::run(args),
        Verb::Judge(args) => commands::judge::run(args),
        Verb::Plan(args) => commands::plan::run(args),
        Verb::Merge(args) => commands::merge::run(args),
        Verb::Export(args) => commands::export::run(args),
        Verb::Score(args) => commands::score::run(args),
        #[cfg(feature = "serve")]
        Verb::Serve(args) => commands::serve::run(args),
        Verb::Constraint(verb) => commands::constraint::run(verb),
        Verb::Data(verb) => commands::data::run(verb),
        Verb::Eval(EvalVerb::Reward(args)) => commands::eval::reward(args),
        Verb::Eval(EvalVerb::Dpo(args)) => commands::eval::dpo(args),
        Verb::Eval(EvalVerb::Comparisons(args)) => commands::eval::comparisons(args),
        Verb::Bench(verb) => commands::bench::run(verb),
        Verb::Plugins => commands::plugins::run(),
        Verb::Completions { shell } => {
            // The generator panics when it cannot write, so it writes to memory first.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command.clone(), "pcrm", &mut script);
            terminal::result(&String::from_utf8_lossy(&script))
        }
        Verb::Man { output } => std::fs::create_dir_all(output)
            .and_then(|()| clap_mangen::generate_to(command.clone(), output))
            .with_context(|| output.display().to_string()),
    }?;
    Ok(ExitCode::SUCCESS)
}
