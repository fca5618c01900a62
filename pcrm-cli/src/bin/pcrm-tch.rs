//! The binary `pcrm-tch`: `pcrm` with libtorch. `pcrm` replaces itself by it when a command needs libtorch.

use pcrm_backend_tch as _;

fn main() -> std::process::ExitCode {
    pcrm_cli::main()
}
