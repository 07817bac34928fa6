//! How much may be written: so much in one file, and so that the disk keeps what the owner wants free.

use std::os::fd::AsFd;

use farwire_protocol::failure::{Failure, Kind};

use crate::fault::fault;
use crate::path::Rel;
use crate::rules::Rules;

/// At most so many bytes are written before the space that is left is looked at again: others write, too.
const LOOK: u64 = 4 << 20;

/// What one file, or one copy of many, may still take.
#[derive(Debug)]
pub(crate) struct Space<'a> {
    rules: &'a Rules,
    /// The bytes of the file that is being written.
    size: u64,
    /// So many more were found to fit when the disk was looked at.
    fits: u64,
}

impl<'a> Space<'a> {
    /// That of a file of which so many bytes are there.
    pub(crate) fn new(rules: &'a Rules, size: u64) -> Self {
        Self { rules, size, fits: 0 }
    }

    /// The bytes of the file so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The file has so many bytes now, or another one is begun that has.
    pub(crate) fn begin(&mut self, size: u64) {
        self.size = size;
    }

    /// How many bytes are written at once at most, so that the disk is looked at often enough.
    pub(crate) fn piece(&self) -> u64 {
        if self.rules.spare > 0 { LOOK } else { 1 << 30 }
    }

    /// Whether a file may have so many bytes.
    pub(crate) fn admits(&self, path: &Rel, size: u64) -> Result<(), Failure> {
        if size <= self.rules.largest {
            return Ok(());
        }
        let text = format!("{path} would have more than {} bytes", self.rules.largest);
        Err(Failure::new(Kind::TooLarge, text))
    }

    /// Takes room for so many more bytes, on the disk of `to`.
    pub(crate) fn take(&mut self, path: &Rel, to: impl AsFd, more: u64) -> Result<(), Failure> {
        let size = self.size.saturating_add(more);
        self.admits(path, size)?;
        if self.rules.spare > 0 && self.fits <= more {
            let stat = rustix::fs::fstatvfs(to).map_err(|error| fault(path, error))?;
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let Some(fits) = free.checked_sub(self.rules.spare).filter(|fits| *fits >= more) else {
                let text = format!("{path} would leave less room than the owner keeps free");
                return Err(Failure::new(Kind::DiskFull, text));
            };
            self.fits = fits.min(LOOK.max(more));
        }
        self.fits = self.fits.saturating_sub(more);
        self.size = size;
        Ok(())
    }

    /// Gives back what was taken and not written.
    pub(crate) fn release(&mut self, bytes: u64) {
        self.fits += bytes;
        self.size = self.size.saturating_sub(bytes);
    }
}
