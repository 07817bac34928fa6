//! The locks of a root, shared by all who look at it.
//!
//! They are kept in memory: a worker that is started anew has none. A lock is about a path, as RFC 4918 has
//! it, and not about what is there. Nothing in here looks at a clock but through [`Locks::now`].

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use xmltree::Element;

use super::fields::LONGEST;
use crate::path::Rel;

/// There are at most so many.
const COUNT: usize = 1_024;

/// A lock lasts so long where nobody says how long.
const USUAL: Duration = Duration::from_secs(600);

/// Says what time it is, from some beginning.
type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The locks of a root.
pub struct Locks {
    clock: Clock,
    table: Mutex<Vec<Lock>>,
    properties: Mutex<()>,
}

/// One lock.
#[derive(Clone, Debug)]
pub(super) struct Lock {
    /// What it is about.
    pub path: Rel,
    /// It is about all that is beneath it, too.
    pub deep: bool,
    /// Others may have one besides.
    pub shared: bool,
    /// What shows that it is one's own.
    pub token: String,
    /// Who has it, in their own words.
    pub owner: Option<Box<Element>>,
    /// When it ends.
    until: Duration,
}

/// What is about to be changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Touch {
    /// The name comes or goes: that is a change of the directory, too.
    pub name: bool,
    /// All that is beneath it.
    pub deep: bool,
}

impl Default for Locks {
    fn default() -> Self {
        let begin = Instant::now();
        Self::with_clock(Arc::new(move || begin.elapsed()))
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks").field("count", &self.table().len()).finish_non_exhaustive()
    }
}

impl Lock {
    /// How long it will last, in whole seconds: what is left of one is one, as nobody refreshes a lock of
    /// none.
    pub(super) fn left(&self, now: Duration) -> Duration {
        let left = self.until.saturating_sub(now);
        Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0))
    }

    fn covers(&self, path: &Rel) -> bool {
        match path.beneath(&self.path) {
            Some([]) => true,
            Some(_) => self.deep,
            None => false,
        }
    }

    fn hinders(&self, path: &Rel, touch: Touch) -> bool {
        self.covers(path)
            || touch.name && path.split().is_some_and(|(above, _)| above == self.path)
            || touch.deep && self.path.beneath(path).is_some()
    }
}

impl Locks {
    /// Locks that take the time from here.
    pub(super) fn with_clock(clock: Clock) -> Self {
        Self { clock, table: Mutex::default(), properties: Mutex::default() }
    }

    /// What time it is.
    pub(super) fn now(&self) -> Duration {
        (self.clock)()
    }

    /// Properties are read and written back by one at a time.
    pub(super) fn properties(&self) -> MutexGuard<'_, ()> {
        self.properties.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The locks that are still there.
    fn table(&self) -> MutexGuard<'_, Vec<Lock>> {
        let now = self.now();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|lock| lock.until > now);
        table
    }

    /// Whether there is no room for another.
    pub(super) fn are_full(&self) -> bool {
        self.table().len() >= COUNT
    }

    /// Makes a lock. Its token is made here.
    ///
    /// # Errors
    ///
    /// The lock that is in the way: the new one itself where there are too many, or no token can be made.
    pub(super) fn lock(&self, wanted: LockRequest) -> Result<Lock, Box<Lock>> {
        let mut lock = Lock {
            path: wanted.path,
            deep: wanted.deep,
            shared: wanted.shared,
            token: String::new(),
            owner: wanted.owner,
            until: self.until(wanted.lasts),
        };
        let Some(token) = new_token() else { return Err(Box::new(lock)) };
        lock.token = token;
        let mut table = self.table();
        let touch = Touch { deep: lock.deep, name: false };
        let in_the_way =
            |other: &&Lock| other.hinders(&lock.path, touch) && !(lock.shared && other.shared);
        if let Some(other) = table.iter().find(in_the_way) {
            return Err(Box::new(other.clone()));
        }
        if table.len() >= COUNT {
            return Err(Box::new(lock));
        }
        table.push(lock.clone());
        Ok(lock)
    }

    fn until(&self, lasts: Option<Duration>) -> Duration {
        self.now().saturating_add(lasts.unwrap_or(USUAL).min(LONGEST))
    }

    /// Lets a lock last from now on.
    pub(super) fn refresh(&self, path: &Rel, token: &str, lasts: Option<Duration>) -> Option<Lock> {
        let until = self.until(lasts);
        let mut table = self.table();
        let lock = table.iter_mut().find(|lock| lock.token == token && lock.covers(path))?;
        lock.until = until;
        Some(lock.clone())
    }

    /// Ends a lock. Says whether there was one.
    pub(super) fn unlock(&self, path: &Rel, token: &str) -> bool {
        let mut table = self.table();
        let before = table.len();
        table.retain(|lock| lock.token != token || !lock.covers(path));
        table.len() != before
    }

    /// The locks that cover a path.
    pub(super) fn covering(&self, path: &Rel) -> Vec<Lock> {
        self.table().iter().filter(|lock| lock.covers(path)).cloned().collect()
    }

    /// Whether one with this token covers the path.
    pub(super) fn has_token(&self, path: &Rel, token: &str) -> bool {
        self.table().iter().any(|lock| lock.token == token && lock.covers(path))
    }

    /// What is locked and would be changed, if the tokens that were submitted do not allow it. Of several
    /// who share a lock, each may.
    pub(super) fn hinder(&self, path: &Rel, touch: Touch, tokens: &[String]) -> Option<Rel> {
        let table = self.table();
        let hindering = || table.iter().filter(|lock| lock.hinders(path, touch));
        let allowed = |lock: &Lock| {
            hindering().any(|other| other.path == lock.path && tokens.contains(&other.token))
        };
        hindering().find(|lock| !allowed(lock)).map(|lock| lock.path.clone())
    }

    /// Ends the locks of what is no longer there.
    pub(super) fn forget(&self, path: &Rel) {
        self.table().retain(|lock| lock.path.beneath(path).is_none());
    }
}

/// A lock that somebody would like to have.
#[derive(Clone, Debug)]
pub(super) struct LockRequest {
    /// About what.
    pub path: Rel,
    /// About all that is beneath it, too.
    pub deep: bool,
    /// Others may have one besides.
    pub shared: bool,
    /// Who.
    pub owner: Option<Box<Element>>,
    /// For how long.
    pub lasts: Option<Duration>,
}

/// A URI that nobody guesses.
fn new_token() -> Option<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).ok()?;
    // The version and the variant that RFC 9562 has for random ones.
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&random);
    let groups = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    let groups = groups.map(|(from, to)| hex.get(from..to).unwrap_or_default());
    Some(format!("urn:uuid:{}", groups.join("-")))
}

#[cfg(test)]
mod tests;
