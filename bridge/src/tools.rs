//! The MCP tools: one file for each, or for a few that belong together.
//!
//! A tool is a struct: its fields are its arguments and their comments its manual ([`tool`]). To
//! add one: a file here, and a line in its category of the [`catalogue`].

mod answer;
mod arguments;
pub mod caller;
pub mod catalogue;
pub mod file;
pub mod find;
pub mod hint;
mod names;
pub mod offer;
pub mod output;
mod picture;
pub mod pty;
pub mod run;
mod schema;
pub mod scope;
pub mod seat;
pub mod servers;
pub mod session;
mod signals;
pub mod status;
pub mod stop;
pub mod tool;
