//! What was there before a change: kept by its hash, so that the change can be undone and done again.
//!
//! ```text
//!     store/journal           records, one after the other: a length of four bytes and CBOR
//!     store/<sha-256 in hex>  what a file held
//! ```
//!
//! A record is written before its change is made, with what the file will hold: if the process dies in
//! between, the change is one that cannot be undone any more, and nothing is lost. When the store is full the
//! oldest changes are forgotten. The store is the agent's, and no path beneath a root leads to it.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind};
use minicbor::{Decode, Encode};
use rustix::fs::{AtFlags, Mode, OFlags};
use sha2::{Digest as _, Sha256};

/// No larger file is kept.
pub const LARGEST: u64 = 64 << 20;

/// So many bytes are kept of one root.
pub const QUOTA: u64 = 512 << 20;

/// So many changes are kept.
const CHANGES: usize = 10_000;

/// No record is longer.
const RECORD: usize = 4 << 20;

const JOURNAL: &str = "journal";
const JOURNAL_NEW: &str = "journal.new";

/// How something was at one time.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) enum Was {
    /// Not there.
    #[n(0)]
    Absent,
    /// A file.
    #[n(1)]
    File {
        /// SHA-256 of what it held.
        #[n(0)]
        hash: Blob,
        /// How many bytes that were.
        #[n(1)]
        size: u64,
        /// Its rights.
        #[n(2)]
        mode: u32,
    },
    /// A directory.
    #[n(2)]
    Directory,
}

/// What became of one path.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(crate) struct Step {
    /// The path, from the root.
    #[n(0)]
    pub(crate) path: Blob,
    /// How it was.
    #[n(1)]
    pub(crate) before: Was,
    /// How it is then.
    #[n(2)]
    pub(crate) after: Was,
    /// It was moved here from this path, with all that is in it.
    #[n(3)]
    pub(crate) moved_from: Option<Blob>,
}

/// One change.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(crate) struct Record {
    /// Its number.
    #[n(0)]
    pub(crate) change: u64,
    /// What was done.
    #[n(1)]
    pub(crate) verb: String,
    /// By whom.
    #[n(2)]
    pub(crate) who: String,
    /// When, in milliseconds since 1970.
    #[n(3)]
    pub(crate) time: u64,
    /// To what.
    #[n(4)]
    pub(crate) steps: Vec<Step>,
    /// It has been undone.
    #[n(5)]
    pub(crate) undone: bool,
}

impl Record {
    /// What must be kept for it.
    fn hashes(&self) -> impl Iterator<Item = (&Blob, u64)> {
        self.steps.iter().flat_map(|step| [&step.before, &step.after]).filter_map(|was| match was {
            Was::File { hash, size, .. } => Some((hash, *size)),
            Was::Absent | Was::Directory => None,
        })
    }

    /// So many bytes were there before.
    pub(crate) fn kept(&self) -> u64 {
        let before = self.steps.iter().map(|step| match step.before {
            Was::File { size, .. } => size,
            Was::Absent | Was::Directory => 0,
        });
        before.sum()
    }
}

/// The store of one root.
#[derive(Debug)]
pub struct Undo {
    store: OwnedFd,
    quota: u64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    records: VecDeque<Record>,
    next: u64,
    /// What is in the store, with its size.
    held: HashMap<Vec<u8>, u64>,
    bytes: u64,
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn name(hash: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(hash)
}

fn failed(error: impl Into<io::Error>) -> Failure {
    Failure::new(Kind::Io, format!("the store of what was changed: {}", error.into()))
}

impl Undo {
    /// Opens a store. A journal that breaks off, or makes no sense from somewhere on, counts up to there.
    pub fn open(store: OwnedFd, quota: u64) -> Result<Self, Failure> {
        let mut kept = Kept { next: 1, ..Kept::default() };
        for entry in rustix::fs::Dir::read_from(&store).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_bytes().ends_with(b".new") {
                // It was never whole.
                let _ = rustix::fs::unlinkat(&store, entry.file_name(), AtFlags::empty());
            }
            let Ok(hash) = data_encoding::HEXLOWER.decode(entry.file_name().to_bytes()) else {
                continue;
            };
            let stat = rustix::fs::statat(&store, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
            if let Ok(stat) = stat {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                kept.bytes += size;
                kept.held.insert(hash, size);
            }
        }
        let undo = Self { store, quota, kept: Mutex::default() };
        for record in undo.read_journal()? {
            kept.next = kept.next.max(record.change + 1);
            // A record that is there again says how it is now.
            match kept.records.iter_mut().find(|other| other.change == record.change) {
                Some(other) => *other = record,
                None => kept.records.push_back(record),
            }
        }
        // What has no steps was not made.
        kept.records.retain(|record| !record.steps.is_empty());
        *undo.kept() = kept;
        let mut kept = undo.kept();
        undo.forget(&mut kept);
        undo.rewrite(&kept)?;
        drop(kept);
        Ok(undo)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_journal(&self) -> Result<Vec<Record>, Failure> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut journal: File = match rustix::fs::openat(&self.store, JOURNAL, flags, Mode::empty())
        {
            Ok(journal) => journal.into(),
            Err(rustix::io::Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut records = Vec::new();
        let mut length = [0; 4];
        while journal.read_exact(&mut length).is_ok() {
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > RECORD {
                break;
            }
            let mut bytes = vec![0; length];
            let Ok(()) = journal.read_exact(&mut bytes) else { break };
            let Ok(record) = cbor::decode(&bytes, RECORD) else { break };
            records.push(record);
        }
        Ok(records)
    }

    fn append(&self, record: &Record) -> Result<(), Failure> {
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let journal = rustix::fs::openat(&self.store, JOURNAL, flags, Mode::from_raw_mode(0o600));
        File::from(journal.map_err(failed)?).write_all(&framed(record)?).map_err(failed)
    }

    /// Writes the journal anew, without what is forgotten.
    fn rewrite(&self, kept: &Kept) -> Result<(), Failure> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let journal =
            rustix::fs::openat(&self.store, JOURNAL_NEW, flags, Mode::from_raw_mode(0o600));
        let mut journal = File::from(journal.map_err(failed)?);
        for record in &kept.records {
            journal.write_all(&framed(record)?).map_err(failed)?;
        }
        journal.sync_data().map_err(failed)?;
        rustix::fs::renameat(&self.store, JOURNAL_NEW, &self.store, JOURNAL).map_err(failed)
    }

    /// Keeps what a file holds. Gives its hash and size: `None` if it is too large to be kept.
    pub(crate) fn keep(&self, mut file: &File) -> Result<Option<(Blob, u64)>, Failure> {
        io::Seek::rewind(&mut file).map_err(failed)?;
        let largest = LARGEST.min(self.quota);
        if file.metadata().map_err(failed)?.len() > largest {
            return Ok(None);
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| failed(io::Error::other(error)))?;
        let beside = format!("{}.new", data_encoding::HEXLOWER.encode(&random));
        let kept = self.write(file, &beside, largest);
        if !matches!(kept, Ok(Some(_))) {
            // What is not kept leaves nothing.
            let _ = rustix::fs::unlinkat(&self.store, &beside, AtFlags::empty());
        }
        kept
    }

    /// Copies what a file holds, and gives the copy its name.
    fn write(
        &self,
        mut file: &File,
        beside: &str,
        largest: u64,
    ) -> Result<Option<(Blob, u64)>, Failure> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let object = rustix::fs::openat(&self.store, beside, flags, Mode::from_raw_mode(0o600));
        let mut object = File::from(object.map_err(failed)?);
        let (mut hash, mut size) = (Sha256::new(), 0);
        let mut piece = vec![0; 128 << 10];
        loop {
            let length = file.read(&mut piece).map_err(failed)?;
            let Some(bytes) = piece.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            size += length as u64;
            if size > largest {
                return Ok(None);
            }
            hash.update(bytes);
            object.write_all(bytes).map_err(failed)?;
        }
        let hash = hash.finalize().to_vec();
        let mut kept = self.kept();
        rustix::fs::renameat(&self.store, beside, &self.store, name(&hash)).map_err(failed)?;
        if kept.held.insert(hash.clone(), size).is_none() {
            kept.bytes += size;
        }
        Ok(Some((Blob(hash), size)))
    }

    /// What was kept under a hash.
    pub(crate) fn content(&self, hash: &[u8]) -> Result<File, Failure> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let object = rustix::fs::openat(&self.store, name(hash), flags, Mode::empty());
        object.map(File::from).map_err(|_| {
            Failure::new(Kind::NothingToUndo, "what was there before is no longer kept")
        })
    }

    /// Writes a change down that is about to be made, and gives its number.
    pub(crate) fn record(&self, verb: &str, who: &str, steps: Vec<Step>) -> Result<u64, Failure> {
        let mut kept = self.kept();
        let (verb, who) = (verb.to_owned(), who.to_owned());
        let record = Record { change: kept.next, verb, who, time: now(), steps, undone: false };
        self.append(&record)?;
        kept.next += 1;
        let change = record.change;
        kept.records.push_back(record);
        self.forget(&mut kept);
        Ok(change)
    }

    /// Writes down that a change was undone, or done again.
    pub(crate) fn turn(&self, change: u64, undone: bool, steps: &[Step]) -> Result<(), Failure> {
        let mut kept = self.kept();
        let record = kept.records.iter_mut().find(|record| record.change == change);
        let Some(record) = record else { return Ok(()) };
        record.undone = undone;
        record.steps = steps.to_vec();
        let record = record.clone();
        self.append(&record)
    }

    /// A change that was written down was not made after all.
    pub(crate) fn void(&self, change: u64) {
        let mut kept = self.kept();
        kept.records.retain(|record| record.change != change);
        let (verb, who) = (String::new(), String::new());
        let record = Record { change, verb, who, time: now(), steps: Vec::new(), undone: false };
        // If this is not written, the change is one that does not fit what is there.
        let _ = self.append(&record);
        self.collect(&mut kept);
    }

    /// The changes, the latest first.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.kept().records.iter().rev().cloned().collect()
    }

    /// Forgets the oldest changes until what is kept fits, and what belongs to none.
    fn forget(&self, kept: &mut Kept) {
        while kept.bytes > self.quota || kept.records.len() > CHANGES {
            let before = kept.bytes;
            let forgot = kept.records.pop_front().is_some();
            self.collect(kept);
            if !forgot && kept.bytes == before {
                return;
            }
        }
    }

    /// Removes what belongs to no change.
    fn collect(&self, kept: &mut Kept) {
        let mut needed = std::collections::HashSet::new();
        for record in &kept.records {
            needed.extend(record.hashes().map(|(hash, _)| hash.0.clone()));
        }
        let unneeded: Vec<_> =
            kept.held.keys().filter(|hash| !needed.contains(*hash)).cloned().collect();
        for hash in unneeded {
            // What cannot be removed is found again at the next start.
            let _ = rustix::fs::unlinkat(&self.store, name(&hash), AtFlags::empty());
            let size = kept.held.remove(&hash).unwrap_or(0);
            kept.bytes = kept.bytes.saturating_sub(size);
        }
    }

    /// How old a record is, in milliseconds.
    pub(crate) fn age(record: &Record) -> u64 {
        now().saturating_sub(record.time)
    }
}

fn framed(record: &Record) -> Result<Vec<u8>, Failure> {
    let bytes = cbor::encode(record);
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= RECORD);
    let length = length.ok_or_else(|| {
        Failure::new(Kind::TooLarge, "the change touches more files than can be written down")
    })?;
    Ok([&length.to_be_bytes()[..], &bytes].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(place: &std::path::Path, quota: u64) -> Undo {
        Undo::open(File::open(place).unwrap().into(), quota).unwrap()
    }

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn change(undo: &Undo, content: &[u8]) -> u64 {
        let (hash, size) = undo.keep(&file(content)).unwrap().unwrap();
        let before = Was::File { hash, size, mode: 0o644 };
        let step = Step { path: Blob(b"f".to_vec()), before, after: Was::Absent, moved_from: None };
        undo.record("remove", "me", vec![step]).unwrap()
    }

    #[test]
    fn changes_are_there_after_a_restart_and_a_torn_end_is_cut_off() {
        let place = tempfile::tempdir().unwrap();
        let undo = open(place.path(), QUOTA);
        assert_eq!((change(&undo, b"one"), change(&undo, b"two")), (1, 2));
        undo.turn(1, true, &undo.records()[1].steps).unwrap();
        let journal = place.path().join(JOURNAL);
        let mut bytes = std::fs::read(&journal).unwrap();
        bytes.extend_from_slice(&[0, 0, 0, 99, 1]);
        std::fs::write(&journal, bytes).unwrap();
        let undo = open(place.path(), QUOTA);
        let records = undo.records();
        assert_eq!(
            records.iter().map(|one| (one.change, one.undone)).collect::<Vec<_>>(),
            [(2, false), (1, true)]
        );
        assert_eq!(change(&undo, b"three"), 3);
        let mut text = String::new();
        undo.content(&Sha256::digest(b"two")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "two");
    }

    #[test]
    fn the_oldest_are_forgotten_when_there_is_no_room() {
        let place = tempfile::tempdir().unwrap();
        let undo = open(place.path(), 10);
        change(&undo, b"aaaa");
        change(&undo, b"bbbb");
        change(&undo, b"aaaa");
        change(&undo, b"cccc");
        assert!(undo.content(&Sha256::digest(b"bbbb")).is_err());
        assert!(undo.content(&Sha256::digest(b"aaaa")).is_ok(), "a later change needs it");
        assert_eq!(undo.records().len(), 2);
        assert_eq!(undo.keep(&file(&[0; 11])).unwrap(), None, "too large");
    }

    #[test]
    fn any_journal_is_read_without_a_panic() {
        let place = tempfile::tempdir().unwrap();
        bolero::check!().with_iterations(300).for_each(|bytes: &[u8]| {
            std::fs::write(place.path().join(JOURNAL), bytes).unwrap();
            drop(open(place.path(), QUOTA));
        });
    }
}
