//! The arguments of `farwire setup`.

use clap::builder::PossibleValuesParser;

/// The name of every client, in the order in which help lists them. A test compares these names
/// with those of the clients: this file knows no client, so that what is made of the arguments can
/// stand below the clients.
pub(super) const NAMES: [&str; 2] = ["codex", "claude"];

/// Tell an MCP client on this machine to use Farwire
///
/// Adds an entry to the client's configuration, or repairs the one that is there. Comments, order
/// and everything else in the file stay as they are, and the old file is kept beside it.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct SetupArgs {
    /// The client
    #[arg(value_parser = PossibleValuesParser::new(NAMES))]
    pub client: String,
    /// Show the entry, and write nothing
    #[arg(long, conflicts_with_all = ["remove", "verify", "force"])]
    pub print: bool,
    /// Take the entry out again
    #[arg(long, conflicts_with_all = ["verify", "approve"])]
    pub remove: bool,
    /// Start what the entry says, as the client would, and check that it answers
    ///
    /// An entry that is there is checked as it is, and nothing is written; where there is none, it
    /// is added first.
    #[arg(long)]
    pub verify: bool,
    /// Let the client use every tool without asking each time
    #[arg(long)]
    pub approve: bool,
    /// Replace an entry of this name that is not ours
    #[arg(long)]
    pub force: bool,
    /// For all projects of this user, or for the project in the current directory
    #[arg(long, value_enum, default_value_t)]
    pub scope: Scope,
    /// The entry's name, which becomes part of each tool's name
    #[arg(long, default_value = "farwire")]
    pub name: String,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Which of a client's configurations is meant.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Scope {
    /// That of the user, for all projects
    #[default]
    User,
    /// That of the project in the current directory
    Project,
}
