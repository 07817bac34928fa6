//! Turns errors of the kernel into failures for the requester. They name only the requested path.

use farwire_protocol::failure::{Failure, Kind};
use rustix::io::Errno;

use crate::path::Rel;

/// The failure of an operation on this path.
pub(crate) fn fault(path: &Rel, error: Errno) -> Failure {
    let (kind, what) = match error {
        Errno::NOENT => (Kind::NoSuchFile, "does not exist"),
        Errno::XDEV => (Kind::OutsideRoot, "does not stay beneath the root"),
        Errno::LOOP => (Kind::OutsideRoot, "leads through symbolic links that are not followed"),
        Errno::NOTDIR => (Kind::NotADirectory, "leads through something that is not a directory"),
        Errno::ISDIR => (Kind::NotAFile, "is a directory"),
        Errno::NXIO => (Kind::NotAFile, "is not a regular file"),
        Errno::EXIST => (Kind::FileExists, "already exists"),
        Errno::NOTEMPTY => (Kind::DirectoryNotEmpty, "is not empty"),
        Errno::ACCESS | Errno::PERM => {
            (Kind::PermissionDenied, "is not accessible to the agent's user")
        }
        Errno::ROFS => (Kind::ReadOnly, "is on a read-only file system"),
        Errno::NOSPC | Errno::DQUOT => (Kind::DiskFull, "does not fit on the disk"),
        Errno::FBIG => (Kind::TooLarge, "would exceed the largest size of a file"),
        Errno::NAMETOOLONG => (Kind::InvalidArgument, "has a name that is too long"),
        Errno::INVAL => (Kind::InvalidArgument, "cannot be used like this"),
        Errno::MFILE | Errno::NFILE => {
            (Kind::ResourceExhausted, "cannot be opened: too many open files on the server")
        }
        Errno::NOMEM => (Kind::ResourceExhausted, "cannot be used: the server is out of memory"),
        Errno::AGAIN => (Kind::Busy, "was renamed repeatedly while it was looked up"),
        Errno::BUSY => (Kind::OutsideRoot, "is in use or is a mount point"),
        other => {
            let text = format!("{path}: {}", std::io::Error::from(other));
            return Failure::new(Kind::Io, text).with_hint("check the disk of the server");
        }
    };
    let failure = Failure::new(kind, format!("{path} {what}"));
    match error {
        Errno::ROFS => failure.with_hint("the server has it mounted read-only"),
        Errno::AGAIN => failure.with_hint("try again"),
        Errno::BUSY => failure.with_hint("unmount it on the server, or end what has it open"),
        _ => failure,
    }
}
