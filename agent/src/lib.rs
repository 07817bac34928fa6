//! The agent: runs on the server, only dials out, and decides.
//!
//! [`run`] keeps a connection to the relay and hands each stream that comes over it to `agent`,
//! which answers handshakes and admits streams of links; `streams` serve them, on `jobs`. Programs
//! belong to processes of their own, see `holder`, which start them through `os` and put their
//! output into a `spool`. [`enroll`] is how all this begins.

mod agent;
mod build;
pub mod cli;
mod config;
mod conversations;
mod device;
mod dial;
mod enroll;
mod files;
mod gate;
mod holder;
mod jobs;
mod links;
mod lockout;
mod os;
mod pace;
mod program;
mod rates;
mod run;
mod service;
mod sessions;
mod spool;
mod status;
mod streams;
mod terminal;
