//! Files beneath one directory, and nowhere else.
//!
//! ```text
//!     path     paths relative to a root
//!     peer     the other end of a question: content comes in, answers go out
//!     listener whether the other end still listens
//!     rules    what the owner of the root allows
//!     tree     the only way to the file system: everything beneath one directory handle
//!     undo     keeps what changes replace
//!     verbs    list, read, write, edit, search, copy …
//!     dav      the same for WebDAV clients, behind a strict filter
//!     worker   the process around it: streams in, answers out, confined by the kernel
//! ```
//!
//! Not here: keys, the network, and who may ask. The agent decides that, and starts the worker.

pub mod dav;
pub mod listener;
pub mod path;
pub mod peer;
pub mod rules;
pub mod transfers;
pub mod tree;
pub mod undo;
pub mod verbs;
pub mod worker;

mod fault;
