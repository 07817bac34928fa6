//! `farwire`.

use std::process::ExitCode;

fn main() -> ExitCode {
    farwire::cli::main()
}
