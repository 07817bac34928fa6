//! The command line of `farwire-relay`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use farwire_protocol::failure::{Failure, Kind};
use tracing_subscriber::EnvFilter;

use crate::{config, run};

/// Joins bridges and agents, and reads nothing.
#[derive(Debug, Parser)]
#[command(name = "farwire-relay", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay
    ///
    /// Once it accepts connections it prints one line, `ready URL`, on standard output. While nobody
    /// has made a workspace the URL holds a one-time invite: give it to `farwire init --relay -`.
    Serve(Serve),
    /// Print a URL with a new one-time invite, good for an hour
    Invite(Data),
    /// Print the relay's URL: its address and its key
    Url(Data),
}

/// How to serve. What is not given here comes from the file, and then from the default.
#[derive(Args, Debug)]
pub struct Serve {
    /// A TOML file with the same names as the options below
    #[arg(long, value_name = "FILE", env = "FARWIRE_RELAY_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where to listen for QUIC [default: 0.0.0.0:4433]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// The address that URLs and tokens name, HOST:PORT [default: the primary address]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Where to serve /livez, /readyz and /metrics [default: 127.0.0.1:4480]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Where keys and records are kept [default: /var/lib/farwire-relay, or below ~/.local/state]
    #[arg(long, value_name = "DIR", env = "FARWIRE_RELAY_DATA")]
    pub data: Option<PathBuf>,
    /// Append TLS secrets to this file. It shows that there is nothing to be read
    #[arg(long, value_name = "FILE")]
    pub keylog: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or a filter
    #[arg(long, value_name = "FILTER", env = "FARWIRE_LOG")]
    pub log: Option<String>,
    /// How to log
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

#[derive(Args, Debug)]
struct Data {
    /// The data directory of the relay
    #[arg(long, value_name = "DIR", env = "FARWIRE_RELAY_DATA")]
    data: Option<PathBuf>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Runs the program and gives its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nowhere to print it to is no reason to fail differently.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    let done = match cli.command {
        Command::Serve(options) => config::Config::load(options).and_then(|config| {
            log(&config);
            run::serve(config)
        }),
        Command::Invite(Data { data }) => run::print_url(data, true),
        Command::Url(Data { data }) => run::print_url(data, false),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (kind, message, hint) = (failure.kind, &failure.message, failure.hint());
            // Standard error may be closed.
            let _ = writeln!(std::io::stderr(), "error[{kind}]: {message}\nhint: {hint}");
            ExitCode::from(code(&failure))
        }
    }
}

/// sysexits: usage, data, unavailable, I/O, configuration.
fn code(failure: &Failure) -> u8 {
    match failure.kind {
        Kind::InvalidArgument => 64,
        Kind::KeystoreCorrupt | Kind::StateVersion => 65,
        Kind::Io => 74,
        Kind::Configuration | Kind::KeystorePermissions => 78,
        _ => 69,
    }
}

fn log(config: &config::Config) {
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    match config.log_format {
        LogFormat::Text => logs.with_ansi(false).init(),
        LogFormat::Json => logs.json().init(),
    }
}
