//! Changing the mode and the modification time of an existing file.

use std::os::fd::AsFd as _;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::What;
use rustix::fs::{Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::root::Tree;
use super::stat::Stat;
use super::walk::step;
use crate::fault::fault;
use crate::path::Rel;

impl Tree {
    /// Sets the mode and the modification time of a file or directory. A link is not followed.
    /// Set-id bits are never set; a directory keeps those that it has, since its owner shares it by
    /// them.
    ///
    /// # Errors
    ///
    /// Those of any change; `permission_denied` also if the file can be opened neither for reading
    /// nor for writing.
    pub fn set_rights(
        &self,
        path: &Rel,
        mode: Option<u32>,
        modified: Option<i64>,
    ) -> Result<Stat, Failure> {
        let failed = |error| fault(path, error);
        let place = self.place_to_change(path)?;
        let _name_lock = self.lock_name(&place);
        let found = place.stat().map_err(failed)?.ok_or_else(|| failed(Errno::NOENT))?;
        if !matches!(found.what, What::File | What::Directory) {
            return Err(failed(Errno::NXIO));
        }
        // By a handle: the name may lead to another file a moment later.
        let open = |flags| {
            let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
            step(place.dir.as_fd(), &place.name, flags, self.rules.mounts)
        };
        let file = match open(OFlags::RDONLY) {
            Err(Errno::ACCESS) if found.what == What::File => open(OFlags::WRONLY),
            opened => opened,
        };
        let file = file.map_err(failed)?;
        let before = Stat::new(&rustix::fs::fstat(&file).map_err(failed)?);
        match before.what {
            What::Directory => {}
            What::File if before.links == 1 || self.rules.hard_links => {}
            What::File => {
                let text =
                    format!("{path} has several hard links, some of which may be outside the root");
                return Err(Failure::new(Kind::OutsideRoot, text));
            }
            What::Link | What::Other => return Err(failed(Errno::NXIO)),
        }
        let in_place = self.hold_in_place(&[&place])?;
        if let Some(mode) = mode {
            let shared = if before.what == What::Directory { before.mode & 0o7000 } else { 0 };
            let mode = Mode::from_raw_mode((mode & 0o777) | shared);
            rustix::fs::fchmod(&file, mode).map_err(failed)?;
        }
        if let Some(modified) = modified {
            let times = Timestamps {
                last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
                last_modification: Timespec {
                    tv_sec: modified.div_euclid(1_000_000_000),
                    tv_nsec: modified.rem_euclid(1_000_000_000),
                },
            };
            rustix::fs::futimens(&file, &times).map_err(failed)?;
        }
        drop(in_place);
        rustix::fs::fstat(&file).map(|stat| Stat::new(&stat)).map_err(failed)
    }
}
