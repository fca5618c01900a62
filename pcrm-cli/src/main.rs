//! The `pcrm` binary: calls the library of this package. With the feature `tch`, libtorch is in `pcrm-tch`.

use std::process::ExitCode;

use pcrm_cli::Sibling;

const BUILT_BY: &str = match cfg!(feature = "distributed") {
    true => "scripts/libtorch && cargo build --release --features pcrm-cli/distributed",
    false => "scripts/libtorch && cargo build --release --features pcrm-cli/tch",
};

fn main() -> ExitCode {
    let sibling = Sibling { name: "pcrm-tch", built_by: BUILT_BY };
    pcrm_cli::main_with(cfg!(feature = "tch").then_some(sibling))
}
