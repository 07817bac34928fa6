//! Allocates numbers that are unique in this home, now and later.
//!
//! ```text
//! farwire ids 1 NEXT RESERVED BOOT CHECKSUM LF        twice, 4096 bytes apart
//! ```
//!
//! The slot with the higher RESERVED is the valid one. Sixteen numbers are reserved in the other
//! slot, with a sync; each of them is then taken by overwriting NEXT, without one. After a reboot
//! NEXT may be stale, and the rest of the sixteen is skipped; BOOT tells a reboot. A damaged slot
//! may have reserved sixteen numbers more than the other: these are skipped as well.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use data_encoding::HEXLOWER;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::log;
use crate::dir::Dir;
use crate::fault::{Damage, FileError};
use crate::lock::Guard;
use crate::steps::{self, Step};

/// The file of the numbers.
const NAME: &str = "ids";

/// How many numbers are reserved for each sync.
const BLOCK: u64 = 16;

/// The version that we write, and the highest that we read.
const VERSION: u32 = 1;

/// The length of a slot.
const SLOT: usize = 106;

/// The slots lie in different disk blocks, so that one write can damage only one of them.
const STRIDE: usize = 4096;

/// The boot of the system. An unknown boot equals no other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Boot(pub(super) [u8; 16]);

impl Boot {
    pub(super) fn current() -> Self {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits = text.trim().replace('-', "");
        let known = HEXLOWER.decode(digits.as_bytes()).ok().and_then(|id| id.try_into().ok());
        Self(known.unwrap_or_else(|| {
            let mut random = [0; 16];
            // If random numbers fail, too, it is all zeroes, which `Slot::has_free` never accepts.
            let _ = getrandom::fill(&mut random);
            random
        }))
    }
}

/// One of the two slots.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Slot {
    next: u64,
    reserved: u64,
    boot: Boot,
}

/// Takes the next number. `guard` is the lock of the ids.
pub(super) fn next(dir: &Dir, guard: &Guard, boot: &Boot) -> Result<u64, FileError> {
    let path = dir.file_path(NAME);
    let Some(file) = dir.open_file(NAME, OFlags::RDWR)? else {
        if dir.holds(log::NAME)? {
            return Err(FileError::damaged(path, Damage::Missing)); // starting at 1 would reuse ids
        }
        return rewrite(dir, guard, 0, boot);
    };
    let slots = [0, STRIDE].map(|at| read(&file, at));
    let io = |error| FileError::io("write", &path, error);
    match slots {
        [Ok(first), Ok(second)] => {
            let rank = |slot: &Slot| (slot.reserved, slot.next);
            let (mut slot, at, other) = if rank(&first) >= rank(&second) {
                (first, 0, STRIDE)
            } else {
                (second, STRIDE, 0)
            };
            if slot.has_free(boot) {
                return slot.take(&file, at).map_err(io);
            }
            let mut slot = Slot::reserve(slot.reserved, boot).map_err(io)?;
            slot.store(&file, other).and_then(|()| sync(dir, &file)).map_err(io)?;
            slot.free_all();
            slot.take(&file, other).map_err(io)
        }
        [Err(Damage::Newer(version)), _] | [_, Err(Damage::Newer(version))] => {
            Err(FileError::Newer { path, version })
        }
        [Ok(slot), Err(_)] | [Err(_), Ok(slot)] => {
            let used = slot.reserved.saturating_add(BLOCK);
            rewrite(dir, guard, used, boot)
        }
        [Err(damage), Err(_)] => Err(FileError::damaged(path, damage)),
    }
}

/// Checks that [`next`] would succeed, without taking a number.
pub(super) fn check(dir: &Dir) -> Result<(), FileError> {
    let path = dir.file_path(NAME);
    let Some(file) = dir.open_file(NAME, OFlags::RDONLY)? else {
        let missing = dir.holds(log::NAME)?;
        return if missing { Err(FileError::damaged(path, Damage::Missing)) } else { Ok(()) };
    };
    match [0, STRIDE].map(|at| read(&file, at)) {
        [Err(Damage::Newer(version)), _] | [_, Err(Damage::Newer(version))] => {
            Err(FileError::Newer { path, version })
        }
        [Err(damage), Err(_)] => Err(FileError::damaged(path, damage)),
        _ => Ok(()),
    }
}

/// Rewrites the whole file, so that no number up to `used` is allocated again. The second slot is
/// written as if it had reserved the sixteen numbers before.
fn rewrite(dir: &Dir, guard: &Guard, used: u64, boot: &Boot) -> Result<u64, FileError> {
    let io = |error| FileError::io("write", &dir.file_path(NAME), error);
    let mut slot = Slot::reserve(used, boot).map_err(io)?;
    let mut bytes = vec![b'\n'; STRIDE];
    bytes.splice(..SLOT, slot.bytes());
    bytes.extend(Slot { next: used + 1, reserved: used, boot: boot.clone() }.bytes());
    dir.write(guard, NAME, &bytes)?;
    let file = dir.open_file(NAME, OFlags::RDWR)?;
    let file = file.ok_or_else(|| io(io::ErrorKind::NotFound.into()))?;
    slot.free_all();
    slot.take(&file, 0).map_err(io)
}

fn sync(dir: &Dir, file: &File) -> io::Result<()> {
    steps::before(dir.path(), Step::SyncFile(NAME))?;
    file.sync_data()
}

fn read(file: &File, at: usize) -> Result<Slot, Damage> {
    let mut bytes = [0; SLOT];
    // Whatever the error, this slot is unusable; the caller tries the other.
    file.read_exact_at(&mut bytes, at as u64).map_err(|_| Damage::Checksum)?;
    Slot::read(&bytes)
}

impl Slot {
    /// Reserves the sixteen numbers after `used`, with all of them marked as taken: if the sync of
    /// the reservation fails, no number has been handed out.
    fn reserve(used: u64, boot: &Boot) -> io::Result<Self> {
        // Nobody exhausts 64 bits; a file that claims so is not to be continued.
        let reserved = used.checked_add(BLOCK).filter(|reserved| *reserved < u64::MAX);
        let reserved = reserved.ok_or(io::ErrorKind::QuotaExceeded)?;
        Ok(Self { next: reserved + 1, reserved, boot: boot.clone() })
    }

    /// Marks all of its sixteen numbers as free.
    fn free_all(&mut self) {
        self.next = self.reserved + 1 - BLOCK;
    }

    /// Whether the slot has a free number that cannot have been handed out.
    fn has_free(&self, boot: &Boot) -> bool {
        self.boot == *boot && boot.0 != [0; 16] && self.next <= self.reserved
    }

    fn take(&mut self, file: &File, at: usize) -> io::Result<u64> {
        let number = self.next;
        self.next += 1;
        self.store(file, at)?;
        Ok(number)
    }

    fn store(&self, file: &File, at: usize) -> io::Result<()> {
        file.write_all_at(&self.bytes(), at as u64)
    }

    fn bytes(&self) -> Vec<u8> {
        let boot = HEXLOWER.encode(&self.boot.0);
        let head = format!("farwire ids {VERSION} {:020} {:020} {boot} ", self.next, self.reserved);
        format!("{head}{}\n", checksum(&head)).into_bytes()
    }

    fn read(bytes: &[u8]) -> Result<Self, Damage> {
        let text = core::str::from_utf8(bytes).map_err(|_| Damage::Checksum)?;
        let line = text.strip_suffix('\n').ok_or(Damage::Checksum)?;
        let (head, sum) =
            line.split_at_checked(line.len().saturating_sub(16)).ok_or(Damage::Checksum)?;
        if checksum(head) != sum {
            return Err(Damage::Checksum);
        }
        let words: Vec<_> = head.split(' ').collect();
        let ["farwire", "ids", version, next, reserved, boot, ""] = words[..] else {
            return Err(Damage::Kind);
        };
        let invalid = || Damage::Content("a field of its reservation is invalid");
        match version.parse::<u32>() {
            Ok(version) if version > VERSION => return Err(Damage::Newer(version)),
            Ok(VERSION) => {}
            _ => return Err(invalid()),
        }
        let boot = HEXLOWER.decode(boot.as_bytes()).ok().and_then(|boot| boot.try_into().ok());
        let boot = Boot(boot.ok_or_else(invalid)?);
        let next: u64 = next.parse().map_err(|_| invalid())?;
        let reserved: u64 = reserved.parse().map_err(|_| invalid())?;
        // We never write a slot whose NEXT is outside its sixteen.
        let end = reserved.checked_add(1).ok_or_else(invalid)?;
        if !(end.saturating_sub(BLOCK).max(1)..=end).contains(&next) {
            return Err(invalid());
        }
        Ok(Self { next, reserved, boot })
    }
}

fn checksum(text: &str) -> String {
    let hash = Sha256::new_with_prefix(b"farwire/ids\n").chain_update(text).finalize();
    HEXLOWER.encode(&hash[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_and_has_its_length() {
        for used in [0, 16, u64::MAX - 40] {
            let boot = Boot([7; 16]);
            let mut slot = Slot::reserve(used, &boot).unwrap();
            assert!(!slot.has_free(&boot), "not synced yet: no number may be taken");
            slot.free_all();
            assert!(slot.has_free(&boot) && slot.next == used + 1);
            let bytes = slot.bytes();
            assert_eq!((bytes.len(), Slot::read(&bytes).unwrap()), (SLOT, slot));
        }
    }

    #[test]
    fn a_slot_with_any_bit_changed_is_refused() {
        let bytes = Slot::reserve(16, &Boot([7; 16])).unwrap().bytes();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Slot::read(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn any_slot_is_read_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let _ = Slot::read(bytes);
            let text = String::from_utf8_lossy(bytes);
            let line = format!("{text}{}\n", checksum(&text));
            let _ = Slot::read(line.as_bytes());
        });
    }

    #[test]
    fn the_system_identifies_its_boot() {
        assert_eq!(Boot::current() == Boot::current(), cfg!(target_os = "linux"));
    }
}
