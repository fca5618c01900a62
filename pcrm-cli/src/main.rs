//! `pcrm`: reward models with prior constraints.

mod commands;
mod machine;
mod plugins;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

// A third of the time of candle's training steps goes into fresh pages with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(name = "pcrm", version, about = "Train reward models whose scores can be trusted")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Trains on a small generated world, with and without constraints, and shows both side by side
    Quickstart(commands::quickstart::QuickstartArgs),
    /// Lists the backends and constraints that are compiled in
    Plugins,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.verb {
        Verb::Quickstart(args) => commands::quickstart::run(args),
        Verb::Plugins => commands::plugins::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
