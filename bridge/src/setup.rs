//! `farwire setup CLIENT`: tells an MCP client on this machine to start us.
//!
//! ```text
//! SetupArgs + Context -> Client -> Documents -> text -> ConfigFile
//!                          |                             `- replaces the file, keeps a backup
//!                          `- where its files are, what goes into them, what it starts us with
//! ```
//!
//! # Invariants
//!
//! - All documents are read and edited before the first is written; a malformed one stops
//!   everything.
//! - What is not ours stays, byte for byte. An entry of our name that is not ours is not touched
//!   without `--force`.
//! - A second run writes nothing. `--remove` leaves what would be there without us.
//! - Nothing here uses the network, and no client's own command is run.
//!
//! To add a client: a file in `setup/`, and a line in `CLIENTS`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use farwire_protocol::failure::{Failure, Kind};
use serde_json::Value;

mod apply;
mod claude;
mod codex;
mod entry;
mod file;
mod json;
mod json_entry;
mod report;
mod toml_entry;
mod verify;

use entry::Job;
pub use report::{Changed, Report, Status};
pub use verify::{Problem, Verified};

/// Every client that we can set up, in the order in which help lists them.
const CLIENTS: &[&dyn Client] = &[&codex::Codex, &claude::Claude];

/// Tell an MCP client on this machine to use Farwire
///
/// Adds an entry to the client's configuration, or repairs the one that is there. Comments, order
/// and everything else in the file stay as they are, and the old file is kept beside it.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct SetupArgs {
    /// The client
    #[arg(value_parser = PossibleValuesParser::new(CLIENTS.iter().map(|client| client.name())))]
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

/// A tool of ours, as far as clients must be told about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// Whether it changes nothing anywhere.
    pub read_only: bool,
}

/// Where we are: everything that is not said on the command line of `setup` itself.
#[derive(Clone)]
pub struct Context {
    /// Our own program, as an absolute path.
    pub exe: PathBuf,
    /// The user's home directory.
    pub user_home: PathBuf,
    /// The current directory.
    pub cwd: PathBuf,
    /// The bridge's directory, where `--home` or `FARWIRE_HOME` named one.
    pub farwire_home: Option<PathBuf>,
    /// The environment.
    pub env: BTreeMap<OsString, OsString>,
    /// The tools that every client must see.
    pub tools: Vec<Tool>,
}

impl Context {
    /// Asks the operating system. `farwire_home` is what `--home` or `FARWIRE_HOME` named.
    pub fn of_process(farwire_home: Option<PathBuf>, tools: &[Tool]) -> Result<Self, Failure> {
        let failed = |what: &'static str| move |error| Failure::caused(Kind::Io, what, &error);
        let exe = std::env::current_exe().and_then(|exe| exe.canonicalize());
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        let no_home = || {
            Failure::new(Kind::Configuration, "the home directory is not known")
                .with_hint("set `HOME` to an absolute path")
        };
        Ok(Self {
            exe: exe.map_err(failed("cannot find our own program"))?,
            user_home: home.ok_or_else(no_home)?,
            cwd: std::env::current_dir().map_err(failed("cannot find the current directory"))?,
            farwire_home,
            env: std::env::vars_os().collect(),
            tools: tools.to_vec(),
        })
    }
}

impl fmt::Debug for Context {
    /// Without the environment, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("exe", &self.exe)
            .field("user_home", &self.user_home)
            .field("cwd", &self.cwd)
            .field("farwire_home", &self.farwire_home)
            .field("tools", &self.tools)
            .finish_non_exhaustive()
    }
}

/// Sets up the client that `args` name, or does to it what else they say.
pub fn run(args: &SetupArgs, context: &Context) -> Result<Report, Failure> {
    let Some(client) = CLIENTS.iter().find(|client| client.name() == args.client) else {
        let names: Vec<_> = CLIENTS.iter().map(|client| client.name()).collect();
        return Err(Failure::new(Kind::InvalidArgument, "no such client")
            .with_hint(format!("the clients are {}", names.join(", "))));
    };
    let job = Job::new(args, context)?;
    let setup = apply::Setup { client: *client, documents: client.documents(&job), job: &job };
    match (args.print, args.remove) {
        (true, _) => setup.print(),
        (_, true) => setup.remove(),
        _ => setup.install(),
    }
}

/// A program that can be told to start our MCP server.
trait Client: Sync {
    /// Its name on the command line, and in `mcp serve --client`.
    fn name(&self) -> &'static str;

    /// The documents that tell it so, the one with the entry first.
    fn documents<'a>(&self, job: &'a Job<'a>) -> Vec<Box<dyn Document + 'a>>;

    /// What a person must do for it to notice.
    fn next(&self, scope: Scope) -> &'static str;

    /// How it would start this entry.
    fn launch(&self, entry: &Value, context: &Context) -> Result<verify::Launch, Problem>;
}

/// One configuration file, as a text that has something of ours in it or not.
///
/// None of these reads or writes a file. An empty text stands for a file that is not there.
trait Document {
    /// Where the client looks for it.
    fn path(&self) -> &Path;

    /// What stands in the entry's place, in the document that holds the entry.
    fn found(&self, _text: &str) -> Result<Found, Fault> {
        Ok(Found::Absent)
    }

    /// The text with everything of ours in it; the same text where nothing is missing.
    fn install(&self, text: &str) -> Result<String, Fault>;

    /// The text without anything of ours; the same text where there is nothing.
    fn remove(&self, text: &str) -> Result<String, Fault>;

    /// The text without what we leave empty or may have found empty, to be compared only.
    fn tidy(&self, text: &str) -> Result<String, Fault>;

    /// Whether two texts mean the same and differ in white space at most.
    fn same(&self, one: &str, other: &str) -> bool;

    /// Whether nothing is left in the text that anybody could miss.
    fn blank(&self, text: &str) -> bool;

    /// How many bytes the file may have. Claude Code's state has been seen at 5 MB.
    fn limit(&self) -> u64 {
        64 << 20
    }

    /// What it holds, in a few words.
    fn what(&self) -> String {
        "the entry".to_owned()
    }
}

/// What stands where our entry belongs.
enum Found {
    Absent,
    Ours(Value),
    Foreign(Value),
}

/// Why a text cannot be edited, and where in it that is.
struct Fault {
    at: usize,
    message: String,
}

impl From<json::edit::EditError> for Fault {
    fn from(error: json::edit::EditError) -> Self {
        Self { at: error.at(), message: error.to_string() }
    }
}

#[cfg(test)]
mod tests;
