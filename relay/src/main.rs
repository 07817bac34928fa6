//! `farwire-relay`.

use std::process::ExitCode;

fn main() -> ExitCode {
    farwire_relay::cli::main()
}
