//! Which job a number means: a file of lines that is only appended to.
//!
//! ```text
//! farwire ids-log 1 GENERATION CHECKSUM LF LF
//! CHECKSUM entry LF LF                             entry: CBOR in base64
//! ```
//!
//! A damaged line is lost, and no other, also where the damage is to its end: that is why there is an
//! empty line between two. Appending needs the lock, reading does not: a line that has
//! no end yet is not looked at. When the file has grown long, the newest lines are written to a new
//! one, with another GENERATION, by which every process sees that it must read from the beginning.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use farwire_protocol::cbor;
use farwire_protocol::id::{Id, Nonce};
use minicbor::{Decode, Encode};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::{Asked, Class, Job, ShortId};
use crate::dir::Dir;
use crate::fault::{Damage, FileError};
use crate::lock::Guard;
use crate::steps::{self, Step};

/// The file of the log.
pub(super) const NAME: &str = "ids.log";

/// A longer log is written anew, with the newest lines up to half of this: about 8,000. Sessions live for
/// longer than runs, and come first: so many of them are kept that they fill three quarters.
const LONG: u64 = 2 << 20;

/// A log so long is none of ours.
const LIMIT: u64 = 16 * LONG;

/// No line is longer.
const LINE: usize = 1024;

/// How long the first line is, without the empty one.
const HEAD: usize = 52;

/// The version that we write, and the highest that we read.
const VERSION: u32 = 1;

/// What of the log has been read so far.
#[derive(Debug, Default)]
pub(super) struct Log {
    generation: Option<Generation>,
    read: u64,
    /// By number: the job, and where its last line begins.
    jobs: HashMap<u64, (u64, Job)>,
    ids: HashMap<(Id, Nonce), ShortId>,
    damaged: usize,
}

/// Tells one log from the one that took its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Generation([u8; 8]);

impl Log {
    pub(super) fn job(&self, number: u64) -> Option<&Job> {
        self.jobs.get(&number).map(|(_, job)| job)
    }

    pub(super) fn id(&self, agent: &Id, job: &Nonce) -> Option<ShortId> {
        self.ids.get(&(*agent, *job)).copied()
    }

    /// Whether a number's line is among those that will go when the log is written anew. Whoever
    /// still uses it then appends it again.
    pub(super) fn is_fading(&self, number: u64) -> bool {
        let old = |(at, _): &(u64, Job)| self.read > LONG / 2 && *at < self.read - LONG / 2;
        self.jobs.get(&number).is_some_and(old)
    }

    pub(super) const fn damaged(&self) -> usize {
        self.damaged
    }

    /// Reads what has been appended since.
    pub(super) fn refresh(&mut self, dir: &Dir) -> Result<(), FileError> {
        let Some(file) = dir.open_file(NAME, OFlags::RDONLY)? else {
            *self = Self::default();
            return Ok(());
        };
        let path = dir.file_path(NAME);
        let io = |error| FileError::io("read", &path, error);
        let length = file.metadata().map_err(io)?.len();
        if length > LIMIT {
            return Err(FileError::damaged(path, Damage::TooLong));
        }
        let generation = match first_line(&file) {
            Ok(generation) => Some(generation),
            Err(Damage::Newer(version)) => return Err(FileError::Newer { path, version }),
            Err(_) => None,
        };
        if generation.is_none() || generation != self.generation || length < self.read {
            *self = Self { generation, ..Self::default() };
        }
        let bytes = read_from(&file, self.read, length).map_err(io)?;
        self.take(&bytes);
        Ok(())
    }

    /// Appends a line. `guard` is the lock of the ids.
    pub(super) fn append(
        &mut self,
        dir: &Dir,
        guard: &Guard,
        number: u64,
        job: Job,
    ) -> Result<(), FileError> {
        let io = |error| FileError::io("write", &dir.file_path(NAME), error);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND;
        let file = dir.open_file(NAME, flags)?;
        let mut file = file.ok_or_else(|| io(io::ErrorKind::NotFound.into()))?;
        let length = file.metadata().map_err(io)?.len();
        let mut line = line(number, job);
        if length > LONG {
            return self.compact(dir, guard, &line);
        }
        if length == 0 {
            line.splice(..0, head().map_err(io)?);
        } else if !ends_with_a_line(&file, length).map_err(io)? {
            line.insert(0, b'\n'); // somebody was cut off in the middle of one
        }
        steps::before(dir.path(), Step::Write(NAME)).map_err(io)?;
        file.write_all(&line).map_err(io)
    }

    fn compact(&mut self, dir: &Dir, guard: &Guard, newest: &[u8]) -> Result<(), FileError> {
        self.refresh(dir)?;
        let mut lines = Vec::new();
        let mut length = newest.len() as u64;
        let mut jobs: Vec<_> = self.jobs.iter().collect();
        jobs.sort_unstable_by_key(|(_, (at, job))| {
            core::cmp::Reverse((job.class == Class::Session, *at))
        });
        for (number, (_, job)) in jobs {
            let line = line(*number, job.clone());
            length += line.len() as u64;
            let most = if job.class == Class::Session { LONG / 4 * 3 } else { LONG / 2 };
            if length > most {
                break;
            }
            lines.push(line);
        }
        let mut bytes =
            head().map_err(|error| FileError::io("write", &dir.file_path(NAME), error))?;
        bytes.extend(lines.into_iter().rev().flatten());
        bytes.extend_from_slice(newest);
        dir.write(guard, NAME, &bytes)
    }

    /// Takes the whole lines at the beginning of `bytes`.
    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let Some(line) = piece.strip_suffix(b"\n") else { break };
            let at = self.read;
            self.read += piece.len() as u64;
            if line.is_empty() || (at == 0 && self.generation.is_some()) {
                continue;
            }
            match entry(line) {
                Some((number, job)) => {
                    let id = ShortId { class: job.class, number };
                    self.ids.insert((job.agent, job.job), id);
                    self.jobs.insert(number, (at, job));
                }
                None => self.damaged += 1,
            }
        }
    }
}

fn ends_with_a_line(file: &File, length: u64) -> io::Result<bool> {
    let mut last = [0];
    file.read_exact_at(&mut last, length - 1)?;
    Ok(last == *b"\n")
}

fn read_from(file: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

fn head() -> io::Result<Vec<u8>> {
    let mut generation = [0; 8];
    getrandom::fill(&mut generation).map_err(io::Error::other)?;
    let head = format!("farwire ids-log {VERSION} {}", HEXLOWER.encode(&generation));
    Ok(format!("{head} {}\n\n", checksum(head.as_bytes())).into_bytes())
}

fn first_line(file: &File) -> Result<Generation, Damage> {
    let mut bytes = [0; HEAD];
    // A file that is too short has no first line.
    file.read_exact_at(&mut bytes, 0).map_err(|_| Damage::Checksum)?;
    read_head(&bytes)
}

fn read_head(bytes: &[u8]) -> Result<Generation, Damage> {
    let text = core::str::from_utf8(bytes).map_err(|_| Damage::Checksum)?;
    let (head, sum) =
        text.strip_suffix('\n').and_then(|line| line.rsplit_once(' ')).ok_or(Damage::Checksum)?;
    if checksum(head.as_bytes()) != sum {
        return Err(Damage::Checksum);
    }
    let rest = head.strip_prefix("farwire ids-log ").ok_or(Damage::Kind)?;
    let (version, generation) = rest.split_once(' ').ok_or(Damage::Kind)?;
    match version.parse() {
        Ok(VERSION) => {}
        Ok(version) if version > VERSION => return Err(Damage::Newer(version)),
        _ => return Err(Damage::Kind),
    }
    let bytes = HEXLOWER.decode(generation.as_bytes()).map_err(|_| Damage::Kind)?;
    bytes.try_into().map(Generation).map_err(|_| Damage::Kind)
}

/// An entry as its line holds it.
#[derive(Decode, Encode)]
#[cbor(map)]
struct Entry {
    #[n(0)]
    number: u64,
    #[n(1)]
    class: Class,
    #[n(2)]
    agent: Id,
    #[n(3)]
    server: String,
    #[n(4)]
    job: Nonce,
    /// [`ELSEWHERE`] or, for what was asked for here, anything else.
    #[n(5)]
    asked: String,
    #[n(6)]
    started: u64,
}

/// How an entry says that others have asked for a job.
const ELSEWHERE: &str = "others";

fn line(number: u64, job: Job) -> Vec<u8> {
    let Job { class, agent, server, job, asked, started } = job;
    let asked = match asked {
        Asked::Here => String::new(),
        Asked::Elsewhere => ELSEWHERE.to_owned(),
    };
    let entry = Entry { number, class, agent, server, job, asked, started };
    let text = BASE64URL_NOPAD.encode(&cbor::encode(&entry));
    format!("{} {text}\n\n", checksum(text.as_bytes())).into_bytes()
}

fn entry(line: &[u8]) -> Option<(u64, Job)> {
    if line.len() > LINE {
        return None;
    }
    let (sum, text) = line.split_at_checked(16)?;
    let text = text.strip_prefix(b" ")?;
    if checksum(text).as_bytes() != sum {
        return None;
    }
    let bytes = BASE64URL_NOPAD.decode(text).ok()?;
    let Entry { number, class, agent, server, job, asked, started } =
        cbor::decode(&bytes, LINE).ok()?;
    let asked = if asked == ELSEWHERE { Asked::Elsewhere } else { Asked::Here };
    let job = Job { class, agent, server, job, asked, started };
    super::check(&job).ok()?;
    Some((number, job))
}

fn checksum(text: &[u8]) -> String {
    let hash = Sha256::new_with_prefix(b"farwire/ids-log\n").chain_update(text).finalize();
    HEXLOWER.encode(&hash[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_has_its_length_and_two_differ() {
        let (one, other) = (head().unwrap(), head().unwrap());
        assert_eq!(&one[HEAD - 1..], b"\n\n");
        assert_ne!(read_head(&one[..HEAD]).unwrap(), read_head(&other[..HEAD]).unwrap());
        let newer = "farwire ids-log 2 0011223344556677";
        let newer = format!("{newer} {}\n", checksum(newer.as_bytes()));
        assert!(matches!(read_head(newer.as_bytes()), Err(Damage::Newer(2))));
    }

    #[test]
    fn any_log_is_read_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let mut log = Log::default();
            log.take(bytes);
            let text = BASE64URL_NOPAD.encode(bytes);
            log.take(format!("{} {text}\n", checksum(text.as_bytes())).as_bytes());
            let _ = read_head(bytes);
        });
    }
}
