//! The programs together. Each file is a subject; its tests read as what holds.

mod at_most_once;
mod attach;
mod bad_input;
mod blind_relay;
mod catalogue;
mod cli;
mod enroll;
mod files;
mod files_attacks;
mod files_faults;
mod files_mount;
mod files_moved;
mod files_tools;
mod hostile_relay;
mod mcp;
mod pty;
mod relay;
mod run;
mod session;
mod session_cli;
mod session_faults;
mod session_hands;
mod session_kept;
mod session_tools;
mod survival;
mod takeover;
