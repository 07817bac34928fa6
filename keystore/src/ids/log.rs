//! The log of which job a number means: an append-only file of lines.
//!
//! ```text
//! farwire ids-log 1 GENERATION CHECKSUM LF LF
//! CHECKSUM entry LF LF                             entry: CBOR in base64
//! ```
//!
//! Damage to a line loses that line only, even if its end is damaged: therefore an empty line
//! separates two entries. Appending needs the lock, reading does not: a line without an end is not
//! read yet. When the file has grown long, the newest lines are written to a new file with another
//! GENERATION, which tells every process to read from the beginning.

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

use super::{Class, JobOrigin, KnownJob, ShortId};
use crate::dir::Dir;
use crate::fault::{Damage, FileError};
use crate::lock::Guard;
use crate::steps::{self, Step};

/// The file of the log.
pub(super) const NAME: &str = "ids.log";

/// A longer log is compacted to its newest lines, up to half of this length: about 8,000 lines.
/// Sessions outlive runs and come first: they may fill up to three quarters of this length.
const LONG: u64 = 2 << 20;

/// A log of more than this length was not written by us.
const LIMIT: u64 = 16 * LONG;

/// The maximum length of a line.
const LINE: usize = 1024;

/// The length of the first line, without the empty one.
const HEAD: usize = 52;

/// The version that we write, and the highest that we read.
const VERSION: u32 = 1;

/// The part of the log that has been read so far.
#[derive(Debug, Default)]
pub(super) struct Log {
    generation: Option<Generation>,
    read: u64,
    /// By number.
    jobs: HashMap<u64, LoggedJob>,
    ids: HashMap<(Id, Nonce), ShortId>,
    damaged: usize,
}

/// A job in the log.
#[derive(Debug)]
struct LoggedJob {
    /// Where its last line begins.
    at: u64,
    job: KnownJob,
}

/// Distinguishes a log from the one that replaced it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Generation([u8; 8]);

impl Log {
    pub(super) fn job(&self, number: u64) -> Option<&KnownJob> {
        self.jobs.get(&number).map(|logged| &logged.job)
    }

    pub(super) fn id(&self, agent: &Id, job: &Nonce) -> Option<ShortId> {
        self.ids.get(&(*agent, *job)).copied()
    }

    /// Whether the next compaction will drop a number's line. A caller that still uses the number
    /// appends the line again.
    pub(super) fn is_fading(&self, number: u64) -> bool {
        let old = |logged: &LoggedJob| self.read > LONG / 2 && logged.at < self.read - LONG / 2;
        self.jobs.get(&number).is_some_and(old)
    }

    pub(super) const fn damaged(&self) -> usize {
        self.damaged
    }

    /// Reads the lines that have been appended since the last call.
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
        self.process(&bytes);
        Ok(())
    }

    /// Appends a line. `guard` is the lock of the ids.
    pub(super) fn append(
        &mut self,
        dir: &Dir,
        guard: &Guard,
        number: u64,
        job: KnownJob,
    ) -> Result<(), FileError> {
        let io = |error| FileError::io("write", &dir.file_path(NAME), error);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND;
        let file = dir.open_file(NAME, flags)?;
        let mut file = file.ok_or_else(|| io(io::ErrorKind::NotFound.into()))?;
        let length = file.metadata().map_err(io)?.len();
        let mut line = format_line(number, job);
        if length > LONG {
            return self.compact(dir, guard, &line);
        }
        if length == 0 {
            line.splice(..0, head().map_err(io)?);
        } else if !ends_with_a_line(&file, length).map_err(io)? {
            line.insert(0, b'\n'); // a process died in the middle of a line
        }
        steps::before(dir.path(), Step::Write(NAME)).map_err(io)?;
        file.write_all(&line).map_err(io)
    }

    fn compact(&mut self, dir: &Dir, guard: &Guard, newest: &[u8]) -> Result<(), FileError> {
        self.refresh(dir)?;
        let mut lines = Vec::new();
        let mut length = newest.len() as u64;
        let mut jobs: Vec<_> = self.jobs.iter().collect();
        jobs.sort_unstable_by_key(|(_, logged)| {
            core::cmp::Reverse((logged.job.class == Class::Session, logged.at))
        });
        for (number, LoggedJob { job, .. }) in jobs {
            let line = format_line(*number, job.clone());
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

    /// Processes the complete lines at the beginning of `bytes`.
    fn process(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let Some(line) = piece.strip_suffix(b"\n") else { break };
            let at = self.read;
            self.read += piece.len() as u64;
            if line.is_empty() || (at == 0 && self.generation.is_some()) {
                continue;
            }
            match parse_line(line) {
                Some((number, job)) => {
                    let id = ShortId { class: job.class, number };
                    self.ids.insert((job.agent, job.job), id);
                    self.jobs.insert(number, LoggedJob { at, job });
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

/// The encoding of an entry in its line.
#[derive(Decode, Encode)]
#[cbor(map)]
struct LogEntry {
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
    /// [`ELSEWHERE`]; any other value means that this home requested the job.
    #[n(5)]
    asked: String,
    #[n(6)]
    started: u64,
}

/// The value of `asked` for a job that this home did not request.
const ELSEWHERE: &str = "others";

fn format_line(number: u64, job: KnownJob) -> Vec<u8> {
    let KnownJob { class, agent, server, job, asked, started } = job;
    let asked = match asked {
        JobOrigin::Here => String::new(),
        JobOrigin::Elsewhere => ELSEWHERE.to_owned(),
    };
    let entry = LogEntry { number, class, agent, server, job, asked, started };
    let text = BASE64URL_NOPAD.encode(&cbor::encode(&entry));
    format!("{} {text}\n\n", checksum(text.as_bytes())).into_bytes()
}

fn parse_line(line: &[u8]) -> Option<(u64, KnownJob)> {
    if line.len() > LINE {
        return None;
    }
    let (sum, text) = line.split_at_checked(16)?;
    let text = text.strip_prefix(b" ")?;
    if checksum(text).as_bytes() != sum {
        return None;
    }
    let bytes = BASE64URL_NOPAD.decode(text).ok()?;
    let LogEntry { number, class, agent, server, job, asked, started } =
        cbor::decode(&bytes, LINE).ok()?;
    let asked = if asked == ELSEWHERE { JobOrigin::Elsewhere } else { JobOrigin::Here };
    let job = KnownJob { class, agent, server, job, asked, started };
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
            log.process(bytes);
            let text = BASE64URL_NOPAD.encode(bytes);
            log.process(format!("{} {text}\n", checksum(text.as_bytes())).as_bytes());
            let _ = read_head(bytes);
        });
    }
}
