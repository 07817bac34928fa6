//! Numbers that nobody else of this home gets, now or later.
//!
//! ```text
//! farwire ids 1 NEXT RESERVED BOOT CHECKSUM LF        twice, 4096 bytes apart
//! ```
//!
//! The place with the higher RESERVED counts. Sixteen numbers are reserved in the other place, with a
//! sync; each of them is then taken by writing NEXT over, without one. After the system was started
//! anew NEXT may be an old one, and the rest of the sixteen is skipped; BOOT tells. When one of the
//! places is damaged, it may have reserved sixteen more than the other: these are skipped as well.

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

/// So many are reserved for each sync.
const BLOCK: u64 = 16;

/// The version that we write, and the highest that we read.
const VERSION: u32 = 1;

/// How long a place is.
const PLACE: usize = 106;

/// The two places lie in different blocks of the disk, so that one write damages one of them.
const STRIDE: usize = 4096;

/// Which start of the system this is. Unknown, it is like no other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Boot(pub(super) [u8; 16]);

impl Boot {
    pub(super) fn current() -> Self {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits = text.trim().replace('-', "");
        let known = HEXLOWER.decode(digits.as_bytes()).ok().and_then(|id| id.try_into().ok());
        Self(known.unwrap_or_else(|| {
            let mut random = [0; 16];
            // Without random numbers either it is all zeroes, which `Slot::goes_on` never takes.
            let _ = getrandom::fill(&mut random);
            random
        }))
    }
}

/// One of the two places.
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
            return Err(FileError::damaged(path, Damage::Missing)); // to begin at 1 would repeat ids
        }
        return anew(dir, guard, 0, boot);
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
            if slot.goes_on(boot) {
                return slot.take(&file, at).map_err(io);
            }
            let mut slot = Slot::spent(slot.reserved, boot).map_err(io)?;
            slot.store(&file, other).and_then(|()| sync(dir, &file)).map_err(io)?;
            slot.open_up();
            slot.take(&file, other).map_err(io)
        }
        [Err(Damage::Newer(version)), _] | [_, Err(Damage::Newer(version))] => {
            Err(FileError::Newer { path, version })
        }
        [Ok(slot), Err(_)] | [Err(_), Ok(slot)] => {
            let used = slot.reserved.saturating_add(BLOCK);
            anew(dir, guard, used, boot)
        }
        [Err(damage), Err(_)] => Err(FileError::damaged(path, damage)),
    }
}

/// Whether [`next`] would find what it needs. Takes nothing.
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

/// Writes the whole file: nothing up to `used` is given again. The second place is as it would be if
/// the sixteen before had been reserved there.
fn anew(dir: &Dir, guard: &Guard, used: u64, boot: &Boot) -> Result<u64, FileError> {
    let io = |error| FileError::io("write", &dir.file_path(NAME), error);
    let mut slot = Slot::spent(used, boot).map_err(io)?;
    let mut bytes = vec![b'\n'; STRIDE];
    bytes.splice(..PLACE, slot.bytes());
    bytes.extend(Slot { next: used + 1, reserved: used, boot: boot.clone() }.bytes());
    dir.write(guard, NAME, &bytes)?;
    let file = dir.open_file(NAME, OFlags::RDWR)?;
    let file = file.ok_or_else(|| io(io::ErrorKind::NotFound.into()))?;
    slot.open_up();
    slot.take(&file, 0).map_err(io)
}

fn sync(dir: &Dir, file: &File) -> io::Result<()> {
    steps::before(dir.path(), Step::SyncFile(NAME))?;
    file.sync_data()
}

fn read(file: &File, at: usize) -> Result<Slot, Damage> {
    let mut bytes = [0; PLACE];
    // Whatever keeps us from reading, this place is of no use; the caller looks at the other.
    file.read_exact_at(&mut bytes, at as u64).map_err(|_| Damage::Checksum)?;
    Slot::read(&bytes)
}

impl Slot {
    /// The sixteen numbers after `used`, marked as if all were taken. Written so, a reservation whose
    /// sync fails gives no number away.
    fn spent(used: u64, boot: &Boot) -> io::Result<Self> {
        // Nobody gets to the end of 64 bits; a file that says so is not one to go on from.
        let reserved = used.checked_add(BLOCK).filter(|reserved| *reserved < u64::MAX);
        let reserved = reserved.ok_or(io::ErrorKind::QuotaExceeded)?;
        Ok(Self { next: reserved + 1, reserved, boot: boot.clone() })
    }

    /// Marks none of its sixteen numbers as taken.
    fn open_up(&mut self) {
        self.next = self.reserved + 1 - BLOCK;
    }

    /// Whether it has a number left that nobody can have had.
    fn goes_on(&self, boot: &Boot) -> bool {
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
        let odd = || Damage::Content("its numbers make no sense");
        match version.parse::<u32>() {
            Ok(version) if version > VERSION => return Err(Damage::Newer(version)),
            Ok(VERSION) => {}
            _ => return Err(odd()),
        }
        let boot = HEXLOWER.decode(boot.as_bytes()).ok().and_then(|boot| boot.try_into().ok());
        let boot = Boot(boot.ok_or_else(odd)?);
        let next: u64 = next.parse().map_err(|_| odd())?;
        let reserved: u64 = reserved.parse().map_err(|_| odd())?;
        // A place whose numbers are outside its sixteen was not written by us.
        let end = reserved.checked_add(1).ok_or_else(odd)?;
        if !(end.saturating_sub(BLOCK).max(1)..=end).contains(&next) {
            return Err(odd());
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
    fn a_place_comes_back_and_has_its_length() {
        for used in [0, 16, u64::MAX - 40] {
            let boot = Boot([7; 16]);
            let mut slot = Slot::spent(used, &boot).unwrap();
            assert!(!slot.goes_on(&boot), "not synced yet: there is nothing to give");
            slot.open_up();
            assert!(slot.goes_on(&boot) && slot.next == used + 1);
            let bytes = slot.bytes();
            assert_eq!((bytes.len(), Slot::read(&bytes).unwrap()), (PLACE, slot));
        }
    }

    #[test]
    fn a_place_with_any_bit_changed_is_none() {
        let bytes = Slot::spent(16, &Boot([7; 16])).unwrap().bytes();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Slot::read(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn any_place_is_read_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let _ = Slot::read(bytes);
            let text = String::from_utf8_lossy(bytes);
            let line = format!("{text}{}\n", checksum(&text));
            let _ = Slot::read(line.as_bytes());
        });
    }

    #[test]
    fn the_system_says_which_start_it_is() {
        assert_eq!(Boot::current() == Boot::current(), cfg!(target_os = "linux"));
    }
}
