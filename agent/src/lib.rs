//! The agent: runs on the server, only dials out, and decides.
//!
//! [`run`] keeps a connection to the relay and hands each stream that comes over it to `agent`,
//! which answers handshakes and admits streams of links; `streams` serve them, on `jobs`, which run
//! programs through `os`. [`enroll`] is how all this begins.

mod agent;
pub mod cli;
mod config;
mod conversations;
mod device;
mod dial;
mod enroll;
mod jobs;
mod links;
mod os;
mod rates;
mod run;
mod service;
mod status;
mod streams;
