//! Short ids for people and models: `r12` is a run, `s3` a session, `f2` a forward.
//!
//! All processes of a home share one sequence of numbers; no number is reused, and gaps are fine.
//! [`reserve`] allocates numbers, sixteen for each sync. [`log`] records which job a number means:
//! a line is appended before the job is started, without waiting for the disk. Losing the log loses
//! the meaning of old ids; it never gives an id another meaning.
//!
//! Not here: cursors into output, which live in the process that reads it.

use core::fmt;
use core::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::outer::valid_name;
use minicbor::{Decode, Encode};

use crate::dir::Dir;
use crate::lock::{self, Guard};

mod log;
mod reserve;

use log::Log;

/// The lock of numbers and log. The lock of the home is held for longer, and every command waits
/// for this one.
const LOCK: &str = "ids.lock";

/// The kind of job that an id stands for.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, PartialEq)]
#[cbor(index_only)]
pub enum Class {
    /// `r`: a run.
    #[n(1)]
    Run,
    /// `s`: a session.
    #[n(2)]
    Session,
    /// `f`: a forward.
    #[n(3)]
    Forward,
}

impl Class {
    const fn letter(self) -> char {
        match self {
            Self::Run => 'r',
            Self::Session => 's',
            Self::Forward => 'f',
        }
    }

    const fn from_letter(letter: char) -> Option<Self> {
        Some(match letter {
            'r' => Self::Run,
            's' => Self::Session,
            'f' => Self::Forward,
            _ => return None,
        })
    }
}

/// An id as people and models see it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ShortId {
    /// The class, shown as a letter.
    pub class: Class,
    /// The number, unique in this home.
    pub number: u64,
}

impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.class.letter(), self.number)
    }
}

/// The text is not a letter and a number.
#[derive(Debug, thiserror::Error)]
#[error("an id is r, s or f and a number, such as r12")]
pub struct InvalidShortId;

impl FromStr for ShortId {
    type Err = InvalidShortId;

    fn from_str(text: &str) -> Result<Self, InvalidShortId> {
        let mut chars = text.chars();
        let class = chars.next().and_then(Class::from_letter).ok_or(InvalidShortId)?;
        let digits = chars.as_str();
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidShortId); // `parse` would allow a sign
        }
        Ok(Self { class, number: digits.parse().map_err(|_| InvalidShortId)? })
    }
}

/// Who requested a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JobOrigin {
    /// This home, with the request id that is the job's id.
    Here,
    /// Another requester, or an unknown one: the job was seen on its server.
    Elsewhere,
}

/// The job that an id means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownJob {
    /// Its kind.
    pub class: Class,
    /// The agent that runs it.
    pub agent: Id,
    /// The name of the server when the id was assigned. Names change; `agent` does not.
    pub server: String,
    /// The job's own id, which the agent knows.
    pub job: Nonce,
    /// Who requested it.
    pub asked: JobOrigin,
    /// When it was started, or first seen, in seconds since 1970.
    pub started: u64,
}

/// The ids of a home. Each process needs one; several threads may share it.
#[derive(Debug)]
pub struct Ids {
    home: Dir,
    boot: reserve::Boot,
    log: Mutex<Log>,
}

impl Ids {
    pub(crate) fn new(home: Dir) -> Self {
        Self::with_boot(home, reserve::Boot::current())
    }

    fn with_boot(home: Dir, boot: reserve::Boot) -> Self {
        Self { home, boot, log: Mutex::default() }
    }

    /// Assigns an id to a job that we are about to start. When this returns, every process of this
    /// home can find the job by its id.
    pub fn assign(&self, job: KnownJob) -> Result<ShortId, Failure> {
        check(&job)?;
        let mut log = self.log();
        let guard = lock::acquire(&self.home, LOCK)?;
        self.allocate(&guard, &mut log, job)
    }

    /// Returns the id of a job that somebody else may have started, assigning one if it has none. A
    /// job that is looked up now and then keeps its id, however many newer ids there are.
    pub fn id_of(&self, job: KnownJob) -> Result<ShortId, Failure> {
        check(&job)?;
        let mut log = self.log();
        log.refresh(&self.home)?;
        if let Some(id) = log.id(&job.agent, &job.job).filter(|id| !log.is_fading(id.number)) {
            return Ok(id);
        }
        let guard = lock::acquire(&self.home, LOCK)?;
        // Another process may have seen the job since.
        log.refresh(&self.home)?;
        let Some(id) = log.id(&job.agent, &job.job) else {
            return self.allocate(&guard, &mut log, job);
        };
        if log.is_fading(id.number) {
            let asked = log.job(id.number).map_or(job.asked, |known| known.asked);
            let job = KnownJob { class: id.class, asked, ..job };
            log.append(&self.home, &guard, id.number, job)?;
        }
        Ok(id)
    }

    /// Returns the job that an id means, if it is still on record.
    pub fn find(&self, id: ShortId) -> Result<Option<KnownJob>, Failure> {
        let mut log = self.log();
        log.refresh(&self.home)?;
        Ok(log.job(id.number).filter(|job| job.class == id.class).cloned())
    }

    /// Returns the number of damaged lines in the log, which is about the number of lost ids. Fails
    /// if no new id could be assigned.
    pub fn damaged(&self) -> Result<usize, Failure> {
        let mut log = self.log();
        reserve::check(&self.home)?;
        log.refresh(&self.home)?;
        Ok(log.damaged())
    }

    fn allocate(&self, guard: &Guard, log: &mut Log, job: KnownJob) -> Result<ShortId, Failure> {
        let class = job.class;
        let number = reserve::next(&self.home, guard, &self.boot)?;
        log.append(&self.home, guard, number, job)?;
        Ok(ShortId { class, number })
    }

    // Always the mutex first and the lock between processes second: threads then wait for each
    // other without polling the operating system.
    fn log(&self) -> MutexGuard<'_, Log> {
        // Whatever a panicking thread left behind, the next refresh repairs.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(job: &KnownJob) -> Result<(), Failure> {
    match valid_name(&job.server) {
        true => Ok(()),
        false => {
            Err(Failure::new(Kind::InvalidArgument, "the name of the job's server is invalid"))
        }
    }
}

#[cfg(test)]
mod tests;
