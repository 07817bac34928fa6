//! Short ids for people and models: `r12` is a run, `s3` a session, `f2` a forward.
//!
//! One row of numbers for a home, counted by all its processes and never used twice; gaps are fine.
//! [`reserve`] takes numbers, sixteen for each sync. [`log`] remembers which job a number means: a
//! line is appended before the job is started, and nothing waits for the disk. Losing the log loses
//! what old ids meant; it never makes an id mean something else.
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

/// The lock of numbers and log. The state's own lock is held for longer, and a command waits here.
const LOCK: &str = "ids.lock";

/// What an id stands for.
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
    /// Its letter.
    pub class: Class,
    /// Its number, which no other id of this home has.
    pub number: u64,
}

impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.class.letter(), self.number)
    }
}

/// The text is not a letter and a number.
#[derive(Debug, thiserror::Error)]
#[error("an id is `r`, `s` or `f` and a number")]
pub struct NotAnId;

impl FromStr for ShortId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let mut chars = text.chars();
        let class = chars.next().and_then(Class::from_letter).ok_or(NotAnId)?;
        let digits = chars.as_str();
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotAnId); // `parse` would allow a sign
        }
        Ok(Self { class, number: digits.parse().map_err(|_| NotAnId)? })
    }
}

/// Where a job was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// With these keys, by the request that is its id.
    Here,
    /// By somebody else, or not known: it was seen on its server.
    Elsewhere,
}

/// What an id means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Job {
    /// What it is.
    pub class: Class,
    /// The agent that has it.
    pub agent: Id,
    /// What the server was called when the id was given. Names change; `agent` does not.
    pub server: String,
    /// The job's own id, which the agent knows.
    pub job: Nonce,
    /// Where it was asked for.
    pub asked: Asked,
    /// When it was started, or first seen, in seconds since 1970.
    pub started: u64,
}

/// The ids of a home. One for each process is enough; it may be used by several threads.
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

    /// Gives a job that we are about to start its id. When this returns, every process of this home
    /// finds the job by it.
    pub fn assign(&self, job: Job) -> Result<ShortId, Failure> {
        check(&job)?;
        let mut log = self.log();
        let guard = lock::acquire(&self.home, LOCK)?;
        self.give(&guard, &mut log, job)
    }

    /// The id of a job that somebody else may have started: the one that it has, or a new one. A job
    /// that is asked for now and then keeps its id, however many come after it.
    pub fn id_of(&self, job: Job) -> Result<ShortId, Failure> {
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
            return self.give(&guard, &mut log, job);
        };
        if log.is_fading(id.number) {
            let asked = log.job(id.number).map_or(job.asked, |known| known.asked);
            let job = Job { class: id.class, asked, ..job };
            log.append(&self.home, &guard, id.number, job)?;
        }
        Ok(id)
    }

    /// What an id means, if we still know.
    pub fn find(&self, id: ShortId) -> Result<Option<Job>, Failure> {
        let mut log = self.log();
        log.refresh(&self.home)?;
        Ok(log.job(id.number).filter(|job| job.class == id.class).cloned())
    }

    /// How many lines of the log are damaged: about so many ids are not known any more. An error
    /// where no id could be given.
    pub fn damaged(&self) -> Result<usize, Failure> {
        let mut log = self.log();
        reserve::check(&self.home)?;
        log.refresh(&self.home)?;
        Ok(log.damaged())
    }

    fn give(&self, guard: &Guard, log: &mut Log, job: Job) -> Result<ShortId, Failure> {
        let class = job.class;
        let number = reserve::next(&self.home, guard, &self.boot)?;
        log.append(&self.home, guard, number, job)?;
        Ok(ShortId { class, number })
    }

    // The mutex first and the lock of the processes second, always: threads then wait for each other
    // without asking the system again and again.
    fn log(&self) -> MutexGuard<'_, Log> {
        // A thread that panicked left nothing that the next refresh does not put right.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(job: &Job) -> Result<(), Failure> {
    match valid_name(&job.server) {
        true => Ok(()),
        false => Err(Failure::new(Kind::InvalidArgument, "the job's server is no name")),
    }
}

#[cfg(test)]
mod tests;
