//! The commands of the command line and their arguments. Their comments are its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use farwire_protocol::address::valid_address;

use crate::files::spec;
use crate::service::Whose;

/// Gives the owner's devices access to this server. Only dials out, and decides what is allowed.
#[derive(Debug, Parser)]
#[command(name = "farwire-agent", version, arg_required_else_help = true)]
pub(super) struct Cli {
    /// Where keys and state are kept [default: /var/lib/farwire-agent, or below ~/.local/state]
    #[arg(long, global = true, value_name = "DIR", env = "FARWIRE_AGENT_STATE")]
    pub(super) state: Option<PathBuf>,
    /// What to log on standard error: error, warn, info, debug, trace, or a filter [default: info]
    #[arg(long, global = true, value_name = "FILTER", env = "FARWIRE_LOG")]
    pub(super) log: Option<String>,
    #[command(subcommand)]
    pub(super) command: AgentCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum AgentCommand {
    /// Enroll this server with a token from `farwire server create`
    Enroll(Enroll),
    /// Connect to the relay and serve until a signal arrives
    Run(Run),
    #[command(flatten)]
    Helper(Helper),
    /// Open directories for files, and close them again
    #[command(subcommand)]
    Root(RootCommand),
    /// Show this agent's status
    Status(Json),
    /// Print the fingerprint to compare with `farwire server show`
    Fingerprint(Fingerprint),
    /// Forget the enrollment and all authorized devices
    Leave,
    /// Authorize devices by hand
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Run as a systemd service, so that the server comes back after a reboot
    #[command(subcommand)]
    Service(ServiceCommand),
}

/// Processes that an agent starts by itself. They get an empty environment, so that they depend
/// neither on settings nor on the default state directory.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum Helper {
    /// Hold programs for an agent, which starts this by itself
    #[command(hide = true)]
    Holder,
    /// Work on the files of one root for an agent, which starts this by itself
    #[command(hide = true)]
    FileWorker,
}

#[derive(Args, Debug)]
pub(super) struct Run {
    /// A TOML file that may set `log` and `relay`
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) roots: spec::Options,
}

#[derive(Debug, Subcommand)]
pub(super) enum RootCommand {
    /// Open directories; takes effect when the agent next starts
    Add {
        #[command(flatten)]
        roots: spec::Options,
    },
    /// List the directories that are open
    Ls(Json),
    /// Close a directory; takes effect when the agent next starts
    Rm {
        /// Its name
        name: String,
    },
}

#[derive(Args, Debug)]
#[group(id = "how", required = true, multiple = false)]
pub(super) struct TokenFrom {
    /// Read the token from this file
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// The token; `-` reads it from standard input, which other users cannot see
    #[arg(long, value_name = "TOKEN")]
    pub(super) token: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct Enroll {
    #[command(flatten)]
    pub(super) from: TokenFrom,
    /// Where this server reaches the relay, if not at the address in the token
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub(super) relay: Option<String>,
    /// How long to wait for the answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub(super) wait: u64,
    #[command(flatten)]
    pub(super) roots: spec::Options,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Debug)]
pub(super) struct Json {
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Fingerprint {
    /// Print the whole bundle, for `farwire server add`
    #[arg(long)]
    pub(super) bundle: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum DeviceCommand {
    /// Authorize a device, by the bundle that `farwire fingerprint --bundle` prints
    Add {
        /// What to call it
        name: String,
        /// The file with the bundle; `-` reads it from standard input
        #[arg(long, value_name = "FILE")]
        bundle: PathBuf,
    },
    /// List the authorized devices
    Ls(Json),
    /// Lock out a device, by its name or fingerprint; what it has open ends within 2 s
    Rm {
        /// Its name or its fingerprint
        device: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// Install, enable and start the service
    Install(Scope),
    /// Stop and remove the service
    Uninstall(Scope),
    /// Show whether it is active
    Status(Scope),
    /// Print the unit without installing it
    Print(Scope),
}

#[derive(Args, Debug)]
pub(super) struct Scope {
    /// A service of this user instead of the system's
    #[arg(long)]
    pub(super) user: bool,
}

impl Scope {
    /// Whose service this is about.
    pub(super) fn whose(&self) -> Whose {
        if self.user { Whose::User } else { Whose::System }
    }
}

fn address(text: &str) -> Result<String, String> {
    if valid_address(text) { Ok(text.to_owned()) } else { Err("not HOST:PORT".to_owned()) }
}
