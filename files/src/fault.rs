//! Turns errors of the kernel into failures for whoever asked. They name only the path that was
//! asked for.

use farwire_protocol::failure::{Failure, Kind};
use rustix::io::Errno;

use crate::path::Rel;

/// The failure of an operation on this path.
pub(crate) fn fault(path: &Rel, error: Errno) -> Failure {
    let (kind, what) = match error {
        Errno::NOENT => (Kind::NoSuchFile, "is not there"),
        Errno::XDEV => (Kind::OutsideRoot, "does not stay beneath the root"),
        Errno::LOOP => (Kind::OutsideRoot, "goes through links that are not followed"),
        Errno::NOTDIR => (Kind::NotADirectory, "goes through something that is not a directory"),
        Errno::ISDIR => (Kind::NotAFile, "is a directory"),
        Errno::NXIO => (Kind::NotAFile, "is not a regular file"),
        Errno::EXIST => (Kind::FileExists, "is there already"),
        Errno::NOTEMPTY => (Kind::DirectoryNotEmpty, "is not empty"),
        Errno::ACCESS | Errno::PERM => {
            (Kind::PermissionDenied, "may not be touched by the agent's user")
        }
        Errno::ROFS => (Kind::ReadOnly, "is on a file system that cannot be written to"),
        Errno::NOSPC | Errno::DQUOT => (Kind::DiskFull, "found no room on the disk"),
        Errno::FBIG => (Kind::TooLarge, "would be larger than a file may be"),
        Errno::NAMETOOLONG => (Kind::InvalidArgument, "has a name that is too long"),
        Errno::INVAL => (Kind::InvalidArgument, "cannot be used like this"),
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
            (Kind::ResourceExhausted, "met a limit of the system")
        }
        Errno::AGAIN => (Kind::Busy, "was being moved all the time"),
        Errno::BUSY => (Kind::OutsideRoot, "is in use, or something is mounted there"),
        other => {
            let text = format!("{path}: {}", std::io::Error::from(other));
            return Failure::new(Kind::Io, text).with_hint("look at the disk of the server");
        }
    };
    let failure = Failure::new(kind, format!("{path} {what}"));
    match error {
        Errno::ROFS => failure.with_hint("the server has it mounted read-only"),
        Errno::BUSY => failure.with_hint("unmount it on the server, or end what has it open"),
        _ => failure,
    }
}
