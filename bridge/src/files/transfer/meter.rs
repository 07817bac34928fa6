//! How far a transfer is, what it left out, and what of it could not be done.
//!
//! What cannot be read or written does not keep the rest from being transferred: it is noted here
//! by its path, and [`Meter::outcome`] says at the end that it is missing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quote;
use farwire_protocol::streams::files::Done;

/// At most this many names are kept of each sort. Of the others only the number is known.
const NAMED: usize = 10_000;

/// At most this many names stand in a failure.
const SHOWN: usize = 5;

/// How far a transfer is.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: AtomicU64,
    files: AtomicU64,
    /// How many bytes there are, as far as that is known.
    all: AtomicU64,
    /// So many of the bytes had come before.
    had: AtomicU64,
    notes: Mutex<Notes>,
}

/// What a transfer says of single files.
#[derive(Debug, Default)]
struct Notes {
    left_out: Named<Vec<u8>>,
    missed: Named<Missed>,
    remarks: Named<String>,
}

/// Some things by name, and the number of all.
#[derive(Debug)]
struct Named<T> {
    first: VecDeque<T>,
    count: u64,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { first: VecDeque::new(), count: 0 }
    }
}

impl<T> Named<T> {
    fn push(&mut self, one: T) {
        if self.first.len() < NAMED {
            self.first.push_back(one);
        }
        self.count += 1;
    }
}

/// Something that could not be transferred.
#[derive(Clone, Debug)]
pub struct Missed {
    /// Its path, from where the transfer began.
    pub path: Vec<u8>,
    /// Why.
    pub why: Failure,
}

impl Missed {
    /// What a server has left out of a copy because it could not be read, as far as it names it.
    pub fn from_copy(done: &Done) -> Vec<Self> {
        let text = "it could not be read, or changed while it was being read";
        let one = |path: &Blob| Self { path: path.0.clone(), why: Failure::new(Kind::Io, text) };
        let unread = done.unread.is_some_and(|unread| unread > 0);
        done.names.iter().flatten().filter(|_| unread).map(one).collect()
    }

    /// Its path and why, in one line.
    pub fn to_text(&self) -> String {
        match &self.path[..] {
            [] => self.why.message.clone(),
            path => format!("{}: {}", quote(path), self.why.message),
        }
    }
}

impl Meter {
    /// Bytes that are there, bytes that are known of, and files that are whole.
    pub fn read(&self) -> (u64, u64, u64) {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (read(&self.bytes), read(&self.all), read(&self.files))
    }

    /// So many bytes were there before: they have not been moved now.
    pub fn had(&self) -> u64 {
        self.had.load(Ordering::Relaxed)
    }

    /// The number of links and special files that were left out.
    pub fn skipped(&self) -> u64 {
        self.notes().left_out.count
    }

    /// The paths of links and special files that were left out, where they are known.
    pub fn left_out(&self) -> Vec<Vec<u8>> {
        self.notes().left_out.first.iter().cloned().collect()
    }

    /// What could not be transferred, and the number of all of it.
    pub fn missed(&self) -> (Vec<Missed>, u64) {
        let notes = self.notes();
        (notes.missed.first.iter().cloned().collect(), notes.missed.count)
    }

    /// What else is to be said of single files.
    pub fn remarks(&self) -> Vec<String> {
        self.notes().remarks.first.iter().cloned().collect()
    }

    /// Whether all of it was transferred.
    ///
    /// # Errors
    ///
    /// `incomplete` if something was not, or the kind of failure that all of it has.
    pub fn outcome(&self) -> Result<(), Failure> {
        let (missed, count) = self.missed();
        let Some(first) = missed.first() else {
            let text = format!("{count} not transferred");
            return if count == 0 { Ok(()) } else { Err(Failure::new(Kind::Incomplete, text)) };
        };
        let same = missed.iter().all(|one| one.why.kind == first.why.kind);
        let kind = if same { first.why.kind } else { Kind::Incomplete };
        let mut text: Vec<_> = missed.iter().take(SHOWN).map(Missed::to_text).collect();
        let rest = count.saturating_sub(text.len() as u64);
        if rest > 0 {
            text.push(format!("and {rest} more"));
        }
        let (_, _, files) = self.read();
        let text = format!("{count} not transferred, {files} files were: {}", text.join("; "));
        let failure = Failure::new(kind, text);
        Err(match (&first.why.hint, same) {
            (Some(hint), true) => failure.with_hint(hint.clone()),
            _ => failure,
        })
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::files) fn came(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(in crate::files) fn came_before(&self, bytes: u64) {
        self.came(bytes);
        self.had.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(in crate::files) fn whole(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::files) fn expect(&self, bytes: u64) {
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Links and special files were left out, of which nobody says the names.
    pub(crate) fn skip(&self, count: u64) {
        self.notes().left_out.count += count;
    }

    /// This link or special file is left out.
    pub(in crate::files) fn leave_out(&self, path: &[u8]) {
        self.notes().left_out.push(path.to_vec());
    }

    /// This could not be transferred.
    pub(in crate::files) fn miss(&self, path: &[u8], why: Failure) {
        self.notes().missed.push(Missed { path: path.to_vec(), why });
    }

    /// A server has copied by itself, and says what came of it.
    pub fn copied(&self, done: &Done) {
        let unread = done.unread.unwrap_or(0);
        self.files.fetch_add(done.count.unwrap_or(0), Ordering::Relaxed);
        self.came(done.bytes.unwrap_or(0));
        self.skip(done.skipped.unwrap_or(0).saturating_sub(unread));
        let missed = Missed::from_copy(done);
        let unnamed = unread.saturating_sub(missed.len() as u64);
        missed.into_iter().for_each(|one| self.miss(&one.path, one.why));
        self.notes().missed.count += unnamed;
    }

    /// This is to be said of a file.
    pub(in crate::files) fn remark(&self, path: &[u8], text: &str) {
        self.notes().remarks.push(format!("{}: {text}", quote(path)));
    }

    /// Notes why one of many files was not transferred.
    ///
    /// # Errors
    ///
    /// The failure, if the others will not be transferred either.
    pub(in crate::files) fn or_miss(
        &self,
        path: &[u8],
        done: Result<(), Failure>,
    ) -> Result<(), Failure> {
        match done {
            Err(failure) if is_of_one(failure.kind) => self.miss(path, failure),
            done => done?,
        }
        Ok(())
    }
}

/// Whether a failure is about one file and not about the way to it, so that others can be
/// transferred.
pub(in crate::files) fn is_of_one(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NoSuchFile
            | Kind::FileExists
            | Kind::ReadOnly
            | Kind::NotAFile
            | Kind::NotADirectory
            | Kind::DirectoryNotEmpty
            | Kind::OutsideRoot
            | Kind::PermissionDenied
            | Kind::ChangedMeanwhile
            | Kind::TooLarge
            | Kind::InvalidArgument
            | Kind::Unsupported
            | Kind::Busy
            | Kind::Io
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_has_one_kind_if_all_of_it_has() {
        let meter = Meter::default();
        assert!(meter.outcome().is_ok());
        let there = || Failure::new(Kind::FileExists, "it is there already");
        meter.or_miss(b"caf\xe9", Err(there())).unwrap();
        let failure = meter.outcome().unwrap_err();
        assert_eq!(failure.kind, Kind::FileExists);
        assert!(failure.message.contains(r"$'caf\xe9': it is there already"), "{failure}");
        for n in 0..9 {
            meter.or_miss(format!("f{n}").as_bytes(), Err(there())).unwrap();
        }
        meter.or_miss(b"x", Err(Failure::new(Kind::PermissionDenied, "no"))).unwrap();
        let failure = meter.outcome().unwrap_err();
        assert_eq!(failure.kind, Kind::Incomplete);
        assert!(failure.message.starts_with("11 not transferred"), "{failure}");
        assert!(failure.message.ends_with("and 6 more"), "{failure}");
        let lost = Failure::new(Kind::LinkLost, "gone");
        assert_eq!(meter.or_miss(b"y", Err(lost)).unwrap_err().kind, Kind::LinkLost);
        assert_eq!(meter.missed().1, 11);
    }
}
