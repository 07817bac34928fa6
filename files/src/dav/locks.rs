//! The locks of a root, shared by all its streams.
//!
//! Locks are held in memory and end with the worker. A lock is on a path, as in RFC 4918, and not
//! on a file. The clock is read only in [`Locks::now`].

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use xmltree::Element;

use super::fields::LONGEST;
use crate::path::Rel;

/// The most locks.
const COUNT: usize = 1_024;

/// How long a lock lasts if the client does not say.
const USUAL: Duration = Duration::from_secs(600);

/// Returns the time since some fixed moment.
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
    /// The locked path.
    pub path: Rel,
    /// Whether everything beneath it is locked too.
    pub deep: bool,
    /// Whether others may have a lock on the same path.
    pub shared: bool,
    /// The secret of its owner.
    pub token: String,
    /// The owner, in the words of the client.
    pub owner: Option<Box<Element>>,
    /// The time when it ends.
    until: Duration,
}

/// What is about to be changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Touch {
    /// The name is created or removed, which also changes the directory.
    pub name: bool,
    /// Everything beneath it changes too.
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
    /// How long it still lasts, in whole seconds and at least one, since no client refreshes a lock
    /// of zero.
    pub(super) fn time_left(&self, now: Duration) -> Duration {
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
    /// Locks with this clock.
    pub(super) fn with_clock(clock: Clock) -> Self {
        Self { clock, table: Mutex::default(), properties: Mutex::default() }
    }

    /// The current time.
    pub(super) fn now(&self) -> Duration {
        (self.clock)()
    }

    /// Serializes updates of properties, which are read, changed and written back.
    pub(super) fn properties(&self) -> MutexGuard<'_, ()> {
        self.properties.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The locks that have not ended.
    fn table(&self) -> MutexGuard<'_, Vec<Lock>> {
        let now = self.now();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|lock| lock.until > now);
        table
    }

    /// Whether there are as many locks as may be.
    pub(super) fn are_full(&self) -> bool {
        self.table().len() >= COUNT
    }

    /// Creates a lock with a new token.
    ///
    /// # Errors
    ///
    /// The lock that is in the way: the new one itself if there are too many, or no token can be
    /// created.
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

    /// Extends a lock, counted from now.
    pub(super) fn refresh(&self, path: &Rel, token: &str, lasts: Option<Duration>) -> Option<Lock> {
        let until = self.until(lasts);
        let mut table = self.table();
        let lock = table.iter_mut().find(|lock| lock.token == token && lock.covers(path))?;
        lock.until = until;
        Some(lock.clone())
    }

    /// Removes a lock. Returns whether it existed.
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

    /// Whether a lock with this token covers the path.
    pub(super) fn has_token(&self, path: &Rel, token: &str) -> bool {
        self.table().iter().any(|lock| lock.token == token && lock.covers(path))
    }

    /// The locked path that forbids a change, unless the submitted tokens allow it. Everybody who
    /// shares a lock may change what it covers.
    pub(super) fn hinder(&self, path: &Rel, touch: Touch, tokens: &[String]) -> Option<Rel> {
        let table = self.table();
        let hindering = || table.iter().filter(|lock| lock.hinders(path, touch));
        let allowed = |lock: &Lock| {
            hindering().any(|other| other.path == lock.path && tokens.contains(&other.token))
        };
        hindering().find(|lock| !allowed(lock)).map(|lock| lock.path.clone())
    }

    /// Removes the locks of what no longer exists.
    pub(super) fn forget(&self, path: &Rel) {
        self.table().retain(|lock| lock.path.beneath(path).is_none());
    }
}

/// A lock that a client asks for.
#[derive(Clone, Debug)]
pub(super) struct LockRequest {
    /// The path.
    pub path: Rel,
    /// Whether to lock everything beneath it too.
    pub deep: bool,
    /// Whether others may have a lock on the same path.
    pub shared: bool,
    /// The owner, in the words of the client.
    pub owner: Option<Box<Element>>,
    /// How long it is to last.
    pub lasts: Option<Duration>,
}

/// A URI that nobody can guess.
fn new_token() -> Option<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).ok()?;
    // Version and variant of a random UUID (RFC 9562).
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&random);
    let groups = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    let groups = groups.map(|(from, to)| hex.get(from..to).unwrap_or_default());
    Some(format!("urn:uuid:{}", groups.join("-")))
}

#[cfg(test)]
mod tests;
