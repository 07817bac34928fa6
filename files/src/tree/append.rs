//! Appending to a file: all of it, or nothing.

use std::os::fd::AsFd;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::How;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::draft::{WriteOptions, changed_meanwhile};
use super::root::Tree;
use super::space::Space;
use super::stat::Stat;
use crate::fault::fault;
use crate::path::Rel;

impl Tree {
    /// Appends to a file, and creates it if it does not exist.
    pub fn append(
        &self,
        path: &Rel,
        wanted: WriteOptions,
        content: &[u8],
    ) -> Result<Stat, Failure> {
        let failed = |error| fault(path, error);
        let place = self.place_to_write(path)?;
        if place.stat().map_err(failed)?.is_none() {
            let mut draft = self.draft(path, WriteOptions { how: How::Create, ..wanted })?;
            draft.write(content)?;
            return draft.commit();
        }
        let _name_lock = self.lock_name(&place);
        let before = self.admits(&place, &wanted)?.ok_or_else(|| failed(Errno::NOENT))?;
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(place.dir.as_fd(), &place.name[..], flags, Mode::empty());
        let file = file.map_err(failed)?;
        let opened = Stat::new(&rustix::fs::fstat(&file).map_err(failed)?);
        if (opened.device, opened.inode) != (before.device, before.inode) {
            return Err(changed_meanwhile(path));
        }
        self.listener.check()?;
        Space::new(self.rules(), opened.size).take(path, &file, content.len() as u64)?;
        let written = rustix::io::write(&file, content).map_err(failed)?;
        if written < content.len() {
            // The disk took only a part of it. Nothing is better than a part.
            let full = failed(Errno::NOSPC);
            if take_back(&file, written as u64).map_err(failed)? {
                return Err(full);
            }
            let text = format!(
                "only {written} of {} bytes were appended to {path}, and others have appended since: \
                 the disk is full",
                content.len()
            );
            return Err(Failure::new(full.kind, text));
        }
        // The content is there. A plain failure would make the caller append it again.
        let unsure = |error| {
            let cause = std::io::Error::from(error);
            let text =
                format!("the content was appended to {path}, but may not survive a crash: {cause}");
            Failure::new(Kind::OutcomeUnknown, text)
        };
        if wanted.durable {
            rustix::fs::fdatasync(&file).map_err(unsure)?;
        }
        Ok(Stat::new(&rustix::fs::fstat(&file).map_err(unsure)?))
    }
}

/// Removes the `written` bytes just appended through this handle, unless another program has
/// appended since: what others wrote stays. Returns whether the bytes were removed.
fn take_back(file: impl AsFd, written: u64) -> Result<bool, Errno> {
    // The kernel has set the offset to the end of what it wrote, wherever that was.
    let end = rustix::fs::tell(&file)?;
    let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
    if size != end {
        return Ok(false);
    }
    rustix::fs::ftruncate(&file, end.saturating_sub(written))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_was_added_in_part_is_taken_back_and_what_others_added_is_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let open = || std::fs::File::options().create(true).append(true).open(&path).unwrap();
        let (mut ours, mut theirs) = (open(), open());
        theirs.write_all(b"theirs\n").unwrap();
        ours.write_all(b"ou").unwrap();
        assert_eq!(take_back(&ours, 2), Ok(true));
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs\n");
        theirs.write_all(b"more\n").unwrap();
        ours.write_all(b"ou").unwrap();
        theirs.write_all(b"last\n").unwrap();
        assert_eq!(take_back(&ours, 2), Ok(false));
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs\nmore\noulast\n");
    }
}
