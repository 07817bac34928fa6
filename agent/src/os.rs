//! The agent's interface to the operating system, and the only place with `unsafe`.
//!
//! A run comes through here in this order:
//!
//! ```text
//!     user         whose rights it gets
//!     shell        a command line becomes a program and its arguments
//!     environment  the variables that it sees; nothing of the agent's own leaks
//!     spawn        the program starts, or it is said exactly why not
//!     wait         how it ended, from the kernel and nothing else
//!     group        signals for all of it, and a count of what got away
//! ```
//!
//! [`harden`] and [`limits`] are for the start of the agent itself; [`facts`] and [`clock`] say
//! where and when it runs. Linux comes first. The agent also compiles on other Unix systems, and
//! does without what they lack: process descriptors, the walk through `/proc`, close-on-exec for
//! inherited descriptors.
//!
//! A session also has a terminal: [`pty`]. Other processes of the agent are this program again
//! ([`ourselves`]), and talk to it in [`packets`].
//!
//! Not here: the output of programs, and the ladder of signals that stops a run.

pub(crate) mod arguments;
pub(crate) mod clock;
pub(crate) mod environment;
pub(crate) mod errno;
pub(crate) mod facts;
pub(crate) mod group;
pub(crate) mod harden;
pub(crate) mod input;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod ourselves;
pub(crate) mod packets;
pub(crate) mod pty;
pub(crate) mod shell;
pub(crate) mod signals;
pub(crate) mod spawn;
pub(crate) mod thread;
pub(crate) mod user;
pub(crate) mod wait;
pub(crate) mod watch;

#[cfg(target_os = "linux")]
mod process;
mod quote;

#[cfg(test)]
mod testing;
