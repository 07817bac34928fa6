//! Limits on what is written: the largest file, and the space that the owner wants to stay free.

use std::os::fd::AsFd;

use farwire_protocol::failure::{Failure, Kind};

use crate::fault::fault;
use crate::path::Rel;
use crate::rules::Rules;

/// At most this many bytes are written before the free space is checked again, since others write
/// too.
const LOOK: u64 = 4 << 20;

/// The most bytes that the kernel copies at once: it cannot be interrupted.
const PIECE: u64 = 64 << 20;

/// The space that one file, or one copy of many files, may still use.
#[derive(Debug)]
pub(crate) struct Space<'a> {
    rules: &'a Rules,
    /// The size of the file being written.
    size: u64,
    /// How many more bytes fit, by the last check of the disk.
    fits: u64,
}

impl<'a> Space<'a> {
    /// For a file that has `size` bytes already.
    pub(crate) fn new(rules: &'a Rules, size: u64) -> Self {
        Self { rules, size, fits: 0 }
    }

    /// The size of the file so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Sets the size, after a truncation or for the next file of a copy.
    pub(crate) fn begin(&mut self, size: u64) {
        self.size = size;
    }

    /// The most bytes to write at once, so that the disk and the listener are checked often enough.
    pub(crate) fn piece(&self) -> u64 {
        if self.rules.spare > 0 { LOOK } else { PIECE }
    }

    /// Checks that a file may have this size.
    pub(crate) fn admits(&self, path: &Rel, size: u64) -> Result<(), Failure> {
        if size <= self.rules.largest {
            return Ok(());
        }
        let text = format!(
            "{path} would have more than the {} bytes that the owner allows",
            self.rules.largest
        );
        Err(Failure::new(Kind::TooLarge, text))
    }

    /// Reserves `more` bytes on the disk of `to`.
    pub(crate) fn take(&mut self, path: &Rel, to: impl AsFd, more: u64) -> Result<(), Failure> {
        let size = self.size.saturating_add(more);
        self.admits(path, size)?;
        if self.rules.spare > 0 && self.fits <= more {
            let stat = rustix::fs::fstatvfs(to).map_err(|error| fault(path, error))?;
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let Some(fits) = free.checked_sub(self.rules.spare).filter(|fits| *fits >= more) else {
                let text = format!("{path} would leave less disk space than the owner keeps free");
                return Err(Failure::new(Kind::DiskFull, text));
            };
            self.fits = fits.min(LOOK.max(more));
        }
        self.fits = self.fits.saturating_sub(more);
        self.size = size;
        Ok(())
    }

    /// Releases bytes that were reserved and not written.
    pub(crate) fn release(&mut self, bytes: u64) {
        self.fits += bytes;
        self.size = self.size.saturating_sub(bytes);
    }
}
