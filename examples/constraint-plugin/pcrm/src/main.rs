use constraint_plugin as _;

fn main() -> std::process::ExitCode {
    pcrm_cli::main()
}
