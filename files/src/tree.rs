//! The only way to the file system: everything beneath one directory handle.
//!
//! # Invariants
//!
//! - The kernel resolves every path in one call, beneath the root (`openat2(2)`, `RESOLVE_BENEATH`
//!   and `RESOLVE_NO_MAGICLINKS`). A concurrent link or rename may change which file is found, but
//!   the file is always beneath the root.
//! - Changes apply to one name in a directory that was resolved like this.
//! - Only regular files and directories are opened. No link is ever created.
//! - Replacing a file is atomic: the name holds either the old file or the new one.
//!
//! A walk descends from handle to handle, one name at a time, and follows no link.

mod access;
mod append;
mod attribute;
mod content;
mod copy;
mod draft;
mod locks;
mod owner;
mod place;
mod remove;
mod rename;
mod rights;
mod root;
mod space;
mod stat;
mod sweep;
mod walk;

pub(crate) use self::access::mode_without_acl;
pub(crate) use self::content::has_no_size;
pub(crate) use self::copy::is_left_out;
pub use self::copy::{Copied, LeftOut};
pub use self::draft::{Draft, WriteOptions, remember_umask};
pub(crate) use self::draft::{changed_meanwhile, mode_of_new};
pub use self::place::Place;
pub use self::root::Tree;
pub use self::stat::Stat;
pub(crate) use self::walk::EVERYTHING;
pub use self::walk::{Handle, Listed, Listing, Visit, Visited, open_in};

#[cfg(test)]
pub(crate) mod tests;
