//! Adding to the end of a file: all of it at once, or nothing.

use std::os::fd::AsFd as _;

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::How;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Room, Stat, Tree, Wanted, changed};
use crate::fault::fault;
use crate::path::Rel;

impl Tree {
    /// Adds to the end of a file, which is made if it is not there.
    pub fn append(&self, path: &Rel, wanted: Wanted, content: &[u8]) -> Result<Stat, Failure> {
        let failed = |error| fault(path, error);
        let place = self.place_to_write(path)?;
        if place.stat().map_err(failed)?.is_none() {
            let mut draft = self.draft(path, Wanted { how: How::Create, ..wanted })?;
            draft.write(content)?;
            return draft.commit();
        }
        let _lane = self.lane(&place);
        let before = self.admits(&place, &wanted)?.ok_or_else(|| failed(Errno::NOENT))?;
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(place.dir.as_fd(), &place.name[..], flags, Mode::empty());
        let file = file.map_err(failed)?;
        let opened = Stat::new(&rustix::fs::fstat(&file).map_err(failed)?);
        if (opened.device, opened.inode) != (before.device, before.inode) {
            return Err(changed(path));
        }
        Room::new(self.rules(), opened.size).take(path, &file, content.len() as u64)?;
        let written = rustix::io::write(&file, content).map_err(failed)?;
        if written < content.len() {
            // The disk took a part of it: nothing is better than a part.
            rustix::fs::ftruncate(&file, opened.size).map_err(failed)?;
            return Err(failed(Errno::NOSPC));
        }
        if wanted.durable {
            rustix::fs::fdatasync(&file).map_err(failed)?;
        }
        Ok(Stat::new(&rustix::fs::fstat(&file).map_err(failed)?))
    }
}
