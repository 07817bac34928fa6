//! The arguments of `farwire setup`.

use clap::builder::PossibleValuesParser;

/// The name of every client, in the order in which help lists them. A test compares these names
/// with those of the clients: this file does not depend on the clients, so that the arguments can
/// be in a layer below them.
pub(super) const NAMES: [&str; 2] = ["codex", "claude"];

/// Configure an AI client on this machine to use Farwire
///
/// Adds an entry to the client's configuration, or repairs the existing one. Comments, order and
/// everything else in the file stay as they are, and the old file is kept next to it.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct SetupArgs {
    /// The client
    #[arg(value_parser = PossibleValuesParser::new(NAMES))]
    pub client: String,
    /// Print the entry, and write nothing
    #[arg(long, conflicts_with_all = ["remove", "verify", "force"])]
    pub print: bool,
    /// Remove the entry
    #[arg(long, conflicts_with_all = ["verify", "approve"])]
    pub remove: bool,
    /// Start the entry's command as the client would, and check that it answers
    ///
    /// An existing entry is checked as it is, and nothing is written; a missing entry is added
    /// first.
    #[arg(long)]
    pub verify: bool,
    /// Let the client use every tool without asking each time
    #[arg(long)]
    pub approve: bool,
    /// Replace an entry of this name that Farwire did not write
    #[arg(long)]
    pub force: bool,
    /// Configure all projects of this user, or the project in the current directory
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
    /// The user's configuration, for all projects
    #[default]
    User,
    /// The configuration of the project in the current directory
    Project,
}
