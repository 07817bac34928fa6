//! Every tool, by category. The MCP server, the scopes and the reference are derived from
//! [`CATALOGUE`]; none of them knows a tool by name.

use super::tool::Entry;
use super::{file, find, output, pty, run, servers, session, status, stop};

/// Every tool, by category.
pub const CATALOGUE: &[Category] = &[
    Category { name: "core", about: "The everyday tools. Listed by default.", tools: CORE },
    Category {
        name: "files",
        about: "Files in opened directories: undo, patches, moving, removing.",
        tools: file::more::ALL,
    },
    Category {
        name: "pty",
        about: "Terminals with the names and rules of a PTY server: owners, leases, a cursor for each client.",
        tools: pty::ALL,
    },
    Category {
        name: "session",
        about: "Terminals that people and AI clients share: history, events, a default target, retry.",
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

/// The everyday tools.
pub const CORE: &[Entry] = &[
    Entry::of::<servers::Servers>(),
    Entry::of::<status::StatusTool>(),
    Entry::of::<run::RunTool>(),
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
