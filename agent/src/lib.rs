//! The agent: runs on the server, only dials out, and decides.

mod jobs;
mod system;
