//! The `pcrm` binary: calls the library of this package.

fn main() -> std::process::ExitCode {
    pcrm_cli::main()
}
