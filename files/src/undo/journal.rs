//! The journal on disk: records of changes, and short lines that update earlier records.
//!
//! A line is a length of four bytes and CBOR. Nothing counts after the first line that is
//! incomplete or cannot be decoded. The file is rewritten once most of it is about changes that
//! were forgotten, or has been superseded.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;

use farwire_protocol::cbor;
use farwire_protocol::failure::{Failure, Kind};
use rustix::fs::{AtFlags, Mode, OFlags};

use super::{ChangeRecord, store_failure};

/// The longest line.
const LINE: usize = 4 << 20;

/// A journal up to this length is not rewritten.
const SHORT: u64 = 1 << 20;

const NAME: &str = "journal";
const NAME_NEW: &str = "journal.new";

/// The journal, up to where it was read and written.
#[derive(Debug, Default)]
pub(super) struct Journal {
    length: u64,
}

impl Journal {
    /// Reads the journal line by line, and truncates it after the last valid line. Calls `each`
    /// with every record and its length.
    pub(super) fn read(
        store: &OwnedFd,
        mut each: impl FnMut(ChangeRecord, u64),
    ) -> Result<Self, Failure> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: File = match rustix::fs::openat(store, NAME, flags, Mode::empty()) {
            Ok(journal) => journal.into(),
            Err(rustix::io::Errno::NOENT) => return Ok(Self::default()),
            Err(error) => return Err(store_failure(error)),
        };
        let mut from = BufReader::new(&file);
        let mut journal = Self::default();
        let mut length = [0; 4];
        while from.read_exact(&mut length).is_ok() {
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > LINE {
                break;
            }
            let mut bytes = vec![0; length];
            let Ok(()) = from.read_exact(&mut bytes) else { break };
            let Ok(record) = cbor::decode(&bytes, LINE) else { break };
            journal.length += 4 + length as u64;
            each(record, length as u64);
        }
        file.set_len(journal.length).map_err(store_failure)?;
        Ok(journal)
    }

    /// Appends a line. Returns its length.
    pub(super) fn append(&mut self, store: &OwnedFd, line: &ChangeRecord) -> Result<u64, Failure> {
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let journal = rustix::fs::openat(store, NAME, flags, Mode::from_raw_mode(0o600));
        let mut journal = File::from(journal.map_err(store_failure)?);
        let bytes = frame(line)?;
        if let Err(error) = journal.write_all(&bytes) {
            // Later lines must not follow half a line.
            let _ = journal.set_len(self.length);
            return Err(store_failure(error));
        }
        self.length += bytes.len() as u64;
        Ok(bytes.len() as u64 - 4)
    }

    /// Whether more than half of the journal is obsolete.
    pub(super) fn is_long(&self, live: u64) -> bool {
        self.length > SHORT && self.length / 2 > live
    }

    /// Rewrites the journal.
    pub(super) fn rewrite<'a>(
        &mut self,
        store: &OwnedFd,
        lines: impl Iterator<Item = &'a ChangeRecord>,
    ) -> Result<(), Failure> {
        match write(store, lines) {
            Ok(length) => {
                self.length = length;
                Ok(())
            }
            Err(error) => {
                // An incomplete file must not stay behind.
                let _ = rustix::fs::unlinkat(store, NAME_NEW, AtFlags::empty());
                Err(error)
            }
        }
    }
}

fn write<'a>(
    store: &OwnedFd,
    lines: impl Iterator<Item = &'a ChangeRecord>,
) -> Result<u64, Failure> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let journal = rustix::fs::openat(store, NAME_NEW, flags, Mode::from_raw_mode(0o600));
    let mut journal = io::BufWriter::new(File::from(journal.map_err(store_failure)?));
    let mut length = 0;
    for line in lines {
        let bytes = frame(line)?;
        journal.write_all(&bytes).map_err(store_failure)?;
        length += bytes.len() as u64;
    }
    let journal = journal.into_inner().map_err(|error| store_failure(error.into_error()))?;
    journal.sync_data().map_err(store_failure)?;
    rustix::fs::renameat(store, NAME_NEW, store, NAME).map_err(store_failure)?;
    Ok(length)
}

fn frame(line: &ChangeRecord) -> Result<Vec<u8>, Failure> {
    let bytes = cbor::encode(line);
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= LINE);
    let length = length.ok_or_else(|| {
        Failure::new(Kind::TooLarge, "the change touches more files than can be recorded")
    })?;
    Ok([&length.to_be_bytes()[..], &bytes].concat())
}
