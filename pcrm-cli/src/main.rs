//! The binary `pcrm`: the library of this package, started.

fn main() -> std::process::ExitCode {
    pcrm_cli::main()
}
