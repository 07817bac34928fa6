//! `farwire setup CLIENT`: configures an MCP client on this machine to start us.
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
//! - What is not ours stays unchanged, byte for byte. An entry of our name that is not ours is not
//!   touched without `--force`.
//! - A second run writes nothing. `--remove` leaves the files as they would be without us.
//! - Nothing here uses the network, and no client's own command is run.
//!
//! To add a client: a file in `setup/`, a line in `CLIENTS`, and its name in `arguments.rs`.

use farwire_protocol::failure::{Failure, Kind};

mod apply;
mod arguments;
mod claude;
mod client;
mod codex;
mod context;
mod entry;
mod file;
mod json;
mod json_entry;
mod report;
mod toml_entry;
mod verify;

pub use arguments::{Scope, SetupArgs};
use client::Client;
pub use context::{Context, Tool};
use entry::Job;
pub use report::{Changed, SetupReport, SetupStatus};
pub use verify::{Problem, Verified};

/// Every client that we can set up, in the order in which help lists them.
const CLIENTS: &[&dyn Client] = &[&codex::Codex, &claude::Claude];

/// Sets up the client that `args` name, or does the other action that they ask for.
pub fn run(args: &SetupArgs, context: &Context) -> Result<SetupReport, Failure> {
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

#[cfg(test)]
mod tests;
