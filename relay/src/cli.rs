//! The command line of `farwire-relay`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use farwire_protocol::failure::Kind;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat, ServeOptions};
use crate::{run, url};

/// Connects bridges and agents, and cannot read their traffic
#[derive(Debug, Parser)]
#[command(name = "farwire-relay", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: RelayCommand,
}

#[derive(Debug, Subcommand)]
enum RelayCommand {
    /// Run the relay
    ///
    /// Once it accepts connections it prints one line, `ready URL`, on standard output. While there
    /// is no workspace the URL contains a one-time invite: give it to `farwire init --relay -`.
    ///
    /// Options that are not given are taken from the file, then from the defaults.
    Serve(ServeOptions),
    /// Print a URL with a new one-time invite, valid for an hour
    Invite(DataOptions),
    /// Print the relay's URL: its address and its key
    Url(DataOptions),
}

#[derive(Args, Debug)]
struct DataOptions {
    /// The data directory of the relay
    #[arg(long, value_name = "DIR", env = "FARWIRE_RELAY_DATA")]
    data: Option<PathBuf>,
}

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // If it cannot be printed, the exit code says it all the same.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    let done = match cli.command {
        RelayCommand::Serve(options) => Config::load(options).and_then(|config| {
            start_logging(&config);
            run::serve(config)
        }),
        RelayCommand::Invite(DataOptions { data }) => url::run(data, true),
        RelayCommand::Url(DataOptions { data }) => url::run(data, false),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (kind, message, hint) = (failure.kind, &failure.message, failure.hint());
            // Standard error may be closed.
            let _ = writeln!(std::io::stderr(), "error[{kind}]: {message}\nhint: {hint}");
            ExitCode::from(exit_code(failure.kind))
        }
    }
}

/// Returns the exit code of a failure, as sysexits numbers it: usage, data, I/O, configuration,
/// else unavailable.
fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::InvalidArgument => 64,
        Kind::KeystoreCorrupt | Kind::StateVersion => 65,
        Kind::Io => 74,
        Kind::Configuration | Kind::KeystorePermissions => 78,
        _ => 69,
    }
}

fn start_logging(config: &Config) {
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    match config.log_format {
        LogFormat::Text => logs.with_ansi(false).init(),
        LogFormat::Json => logs.json().init(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn exit_codes_tell_whose_fault_it_is() {
        let codes = [Kind::InvalidArgument, Kind::StateVersion, Kind::Io, Kind::Configuration]
            .map(exit_code);
        assert_eq!(codes, [64, 65, 74, 78]);
        assert_eq!(exit_code(Kind::AlreadyRunning), 69);
    }
}
