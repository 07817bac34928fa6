//! Starts this program again as another process of the agent: a holder, or the worker of a root.
//!
//! By way of `/proc/self/exe`, which is the same build even when the file has been replaced. The
//! process gets a socket as its standard input, shares our standard error, and inherits nothing
//! else.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

use farwire_protocol::failure::Failure;
use rustix::fs::{Mode, OFlags};

use super::spawn::{SpawnCommand, Stdin, spawn_with};
use super::wait::Leader;

/// Starts ourselves with these arguments and this socket.
///
/// # Errors
///
/// Those of a start; `failed` turns the others, of the descriptors, into one.
pub(crate) fn start(
    arguments: impl IntoIterator<Item = OsString>,
    socket: BorrowedFd<'_>,
    failed: impl FnOnce(io::Error) -> Failure,
) -> Result<Leader, Failure> {
    let command = SpawnCommand {
        argv: std::iter::once("/proc/self/exe".into()).chain(arguments).collect(),
        cwd: Some(PathBuf::from("/")),
        env: Vec::new(),
        user: None,
        stdin: Stdin::Null,
        terminal: false,
        extra: None,
    };
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let null = null.map_err(|error| failed(error.into()))?;
    let stderr = io::stderr();
    spawn_with(&command, [socket, null.as_fd(), stderr.as_fd()])
}
