//! What can be asked. To add a tool: a file here, and a line in its category's list.
//!
//! A tool is a struct: its fields are its arguments and their comments its manual. The MCP server,
//! the words of scopes and the reference are readings of [`CATALOGUE`]; none of them knows a tool
//! by name.

mod answer;
mod arguments;
mod caller;
pub mod file;
pub mod find;
mod names;
pub mod offer;
pub mod output;
mod picture;
pub mod pty;
pub mod run;
mod schema;
pub mod scope;
mod seat;
pub mod servers;
pub mod session;
mod signals;
pub mod status;
pub mod stop;
mod tool;

use farwire_protocol::failure::{Failure, Kind};

pub use self::arguments::budget;
pub use self::caller::{Caller, Picture};
pub use self::seat::{Seat as Desk, Seat, Settings};
pub use self::tool::{Cancel, Effect, Entry, Group, Tool};

/// Every tool, by category.
pub const CATALOGUE: &[Category] = &[
    Category {
        name: "core",
        about: "The daily tools. Listed where nothing else is asked for.",
        tools: CORE,
    },
    Category {
        name: "files",
        about: "Files beneath opened directories: undo, patches, moving, removing.",
        tools: file::more::ALL,
    },
    Category {
        name: "pty",
        about: "Terminals by the names and with the rules of a PTY server: owners, leases, cursors of each client.",
        tools: pty::ALL,
    },
    Category {
        name: "session",
        about: "Terminals that people and models share: history, events, a default target, retry.",
        tools: session::ALL,
    },
];

/// Tools that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Category {
    /// A word of scopes.
    pub name: &'static str,
    /// What they are for.
    pub about: &'static str,
    /// The tools, in the order in which clients list them.
    pub tools: &'static [Entry],
}

/// The daily tools.
pub const CORE: &[Entry] = &[
    Entry::of::<servers::Servers>(),
    Entry::of::<status::Status>(),
    Entry::of::<run::Run>(),
    Entry::of::<output::Output>(),
    Entry::of::<stop::Stop>(),
    Entry::of::<session::open::SessionOpen>(),
    Entry::of::<session::send::SessionSend>(),
    Entry::of::<file::read::FileRead>(),
    Entry::of::<file::write::FileWrite>(),
    Entry::of::<file::edit::FileEdit>(),
    Entry::of::<file::list::FileList>(),
    Entry::of::<file::search::FileSearch>(),
    Entry::of::<file::copy::FileCopy>(),
    Entry::of::<find::ToolFind>(),
    Entry::of::<find::ToolCall>(),
];

/// What a model does about a failure: it has tools where people have commands.
pub fn next(failure: &Failure) -> &str {
    match (&failure.hint, failure.kind) {
        (None, Kind::UnknownServer | Kind::AmbiguousServer) => "servers lists the names",
        (None, Kind::ServerPending) => "a person must enroll it; servers lists the others",
        (None, Kind::EmptyCommand) => "say in command what to run",
        (None, Kind::UnknownId) => "status with all lists the ids",
        (None, Kind::AlreadyEnded) => "output with the id shows what it said",
        (None, Kind::InputLocked) => {
            "wait with output, or ask the person to let go of the keyboard; status shows who types"
        }
        (None, Kind::TerminalBusy) => {
            "output with view=screen shows what is there; answer or leave it with session_send"
        }
        (None, Kind::NoRoot) => {
            "servers with its name lists what is open; only its owner opens more"
        }
        _ => failure.hint(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_told_of_tools_and_not_of_commands() {
        for kind in [Kind::UnknownServer, Kind::ServerPending, Kind::UnknownId, Kind::AlreadyEnded]
        {
            assert!(!next(&Failure::new(kind, "no")).contains('`'), "{kind}");
        }
        // Those of files have the numbers from 100 on.
        for &kind in Kind::ALL.iter().filter(|kind| kind.number() >= 100) {
            let told = Failure::new(kind, "no");
            assert!(!next(&told).contains("--") && !next(&told).contains("`farwire"), "{kind}");
        }
        let own = Failure::new(Kind::UnknownId, "no").with_hint("look there");
        assert_eq!(next(&own), "look there");
    }
}
