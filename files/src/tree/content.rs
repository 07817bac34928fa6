//! Copying the bytes of a file, in the kernel where possible, and keeping holes.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;

use farwire_protocol::failure::{Failure, Kind};
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::access::mode_without_acl;
use super::draft::{changed_meanwhile, copy_attributes};
use super::space::Space;
use super::stat::Stat;
use crate::fault::fault;
use crate::listener::Listener;
use crate::path::Rel;

/// A file to be copied, in the state that it had when it was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) file: &'a File,
    pub(super) stat: &'a Stat,
}

/// Where a copy goes.
#[derive(Debug)]
pub(super) struct Destination<'a, 'r> {
    /// The path that was asked for: errors name it.
    pub(super) path: &'a Rel,
    /// The space that the copy may use.
    pub(super) space: &'a mut Space<'r>,
    /// Who waits for it.
    pub(super) listener: &'r Listener,
}

/// Why a file was not copied.
#[derive(Debug)]
pub(super) enum NotCopied {
    /// The source cannot be read.
    Unread(Errno),
    /// The source became shorter, or was overwritten.
    Changed(Failure),
    /// The copy cannot be written.
    Unwritten(Failure),
}

impl NotCopied {
    /// The failure of a copy of this file alone, to `path`.
    pub(super) fn failure(self, path: &Rel) -> Failure {
        match self {
            Self::Unread(error) => fault(path, error),
            Self::Changed(failure) | Self::Unwritten(failure) => failure,
        }
    }
}

/// Copies a file into a new directory that nobody else can see.
pub(super) fn copy_one(
    from: Source<'_>,
    to: &impl AsFd,
    name: &[u8],
    destination: &mut Destination<'_, '_>,
) -> Result<u64, NotCopied> {
    let path = destination.path;
    let failed = |error| NotCopied::Unwritten(fault(path, error));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600));
    let copy: File = copy.map_err(failed)?.into();
    let bytes = copy_content(from, &copy, destination)?;
    // A file system without attributes has none to copy.
    let _ = copy_attributes(from.file, &copy);
    let mode = mode_without_acl(from.file, from.stat.mode);
    rustix::fs::fchmod(&copy, Mode::from_raw_mode(mode)).map_err(failed)?;
    Ok(bytes)
}

/// Copies the bytes that the file had when it was opened. Returns how many.
///
/// # Errors
///
/// [`NotCopied::Changed`] if bytes were truncated or overwritten. Appended bytes are no error: a
/// log is copied as far as it was.
pub(super) fn copy_content(
    from: Source<'_>,
    to: &File,
    destination: &mut Destination<'_, '_>,
) -> Result<u64, NotCopied> {
    let path = destination.path;
    destination.space.begin(0);
    let size = match has_no_size(from.file, from.stat) {
        true => copy_to_end(from.file, to, destination)?,
        false => copy_sized(from, to, destination)?,
    };
    rustix::fs::ftruncate(to, size).map_err(|error| NotCopied::Unwritten(fault(path, error)))?;
    destination.space.begin(size);
    // Only now can a hole at the end be told from a file that was truncated.
    let now = Stat::new(&rustix::fs::fstat(from.file).map_err(NotCopied::Unread)?);
    if now.size < from.stat.size {
        return Err(NotCopied::Changed(cut_off(path)));
    }
    // The file was overwritten: the copy would mix several states.
    if now.size == from.stat.size && now.revision != from.stat.revision {
        return Err(NotCopied::Changed(changed_meanwhile(path)));
    }
    Ok(size)
}

/// Whether a file has content although its size is 0, like those of `/proc`. Only reading finds the
/// end of its content.
pub(crate) fn has_no_size(file: &File, stat: &Stat) -> bool {
    stat.size == 0
        && file.read_at(&mut [0], 0).is_ok_and(|bytes| bytes > 0)
        // A file that has grown since it was opened has a size now.
        && rustix::fs::fstat(file).is_ok_and(|now| now.st_size == 0)
}

/// Copies a file without a size. Returns how much there was.
fn copy_to_end(
    from: &File,
    to: &File,
    destination: &mut Destination<'_, '_>,
) -> Result<u64, NotCopied> {
    let Destination { path, space, listener } = destination;
    let mut buffer = vec![0; 128 << 10];
    let mut at = 0;
    loop {
        listener.check().map_err(NotCopied::Unwritten)?;
        let length = from.read_at(&mut buffer, at);
        let length = length.map_err(|error| NotCopied::Unread(errno(&error)))?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(at);
        }
        space.take(path, to, bytes.len() as u64).map_err(NotCopied::Unwritten)?;
        let written = to.write_all_at(bytes, at);
        written.map_err(|error| NotCopied::Unwritten(fault(path, errno(&error))))?;
        at += bytes.len() as u64;
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Copies the bytes of a file up to the size that it had, without holes. Returns the size.
fn copy_sized(
    from: Source<'_>,
    to: &File,
    destination: &mut Destination<'_, '_>,
) -> Result<u64, NotCopied> {
    let size = from.stat.size;
    destination.space.admits(destination.path, size).map_err(NotCopied::Unwritten)?;
    let mut at = 0;
    while at < size {
        let end = match rustix::fs::seek(from.file, SeekFrom::Data(at)) {
            // Data after the old end was appended since, and is not copied.
            Ok(start) if start >= size => break,
            Ok(start) => {
                at = start;
                rustix::fs::seek(from.file, SeekFrom::Hole(start)).map_or(size, |end| end.min(size))
            }
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            // The file system does not report holes.
            Err(_) => size,
        };
        at = copy_part(from.file, to, at..end.max(at), destination)?;
    }
    Ok(size)
}

/// Copies a range of bytes. Returns its end.
fn copy_part(
    from: &File,
    to: &File,
    range: Range<u64>,
    destination: &mut Destination<'_, '_>,
) -> Result<u64, NotCopied> {
    let Destination { path, space, listener } = destination;
    let Range { start: mut at, end } = range;
    let mut buffer = Vec::new();
    while at < end {
        listener.check().map_err(NotCopied::Unwritten)?;
        let most = (end - at).min(space.piece());
        space.take(path, to, most).map_err(NotCopied::Unwritten)?;
        let most = usize::try_from(most).unwrap_or(64 << 20);
        if buffer.is_empty() {
            let (mut read, mut written) = (at, at);
            match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), most) {
                Ok(bytes) if bytes > 0 => {
                    at += bytes as u64;
                    space.release((most - bytes) as u64);
                    continue;
                }
                Err(Errno::INTR) => {
                    space.release(most as u64);
                    continue;
                }
                // Some file systems return 0 if they do not support this. An error does not say
                // whether reading or writing failed. Both are repeated with a buffer.
                Ok(_) | Err(_) => buffer = vec![0; 128 << 10],
            }
        }
        let length = buffer.len().min(most);
        let length = from.read_at(buffer.get_mut(..length).unwrap_or_default(), at);
        let length = length.map_err(|error| NotCopied::Unread(errno(&error)))?;
        if length == 0 {
            return Err(NotCopied::Changed(cut_off(path)));
        }
        let written = to.write_all_at(buffer.get(..length).unwrap_or_default(), at);
        written.map_err(|error| NotCopied::Unwritten(fault(path, errno(&error))))?;
        space.release((most - length) as u64);
        at += length as u64;
    }
    Ok(end)
}

fn cut_off(path: &Rel) -> Failure {
    let text = format!("the source of {path} became shorter while it was copied");
    Failure::new(Kind::ChangedMeanwhile, text)
}
