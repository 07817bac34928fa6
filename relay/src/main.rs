//! The program `farwire-relay`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    farwire_relay::cli::main()
}
