//! `farwire-agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    farwire_agent::cli::main()
}
