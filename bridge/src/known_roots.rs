//! The roots of servers, as their agents told of them, remembered for as long as that is certain to
//! be right.
//!
//! An agent process has the same roots from its start to its end, and a link leads to one process.
//! Roots that a process told of are right whenever a stream is had on a link to that process:
//! whoever uses them compares the process of the stream with [`Known::instance`] first. Roots do
//! not expire.
//!
//! Beside them is the *lifeline* of a process: a stream on which everything was answered stays open
//! for [`FRESH`], and ends when the process does. So it is known that a process is gone before
//! something is sent to it that acts.
//!
//! Who asks for the roots, and what is held as a lifeline, is in `files/roots.rs`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Nonce, Target};
use farwire_protocol::streams::files::{Root, is_root_name};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::text::neutral::neutral_within;

/// How long a process is taken to live after it was heard last. Each client holds one stream of an
/// agent for as long.
pub(crate) const FRESH: Duration = Duration::from_secs(30);

/// The same where no stream shows that it has ended.
const INSTANT: Duration = Duration::from_secs(1);

/// At most this many servers are remembered: each costs some kilobytes.
const SERVERS: usize = 256;

/// Checks that a root has a name that roots can have: here it becomes a directory, and a part of a
/// URL.
///
/// # Errors
///
/// `protocol_violation` where it has not.
pub(crate) fn check_name(root: &Root) -> Result<(), Failure> {
    if is_root_name(&root.name) {
        return Ok(());
    }
    let text = format!("the server calls a root `{}`", neutral_within(&root.name, 40));
    Err(Failure::new(Kind::ProtocolViolation, text))
}

/// At most this many processes have a lifeline: each holds a stream of the few that a relay allows.
const LIFELINES: usize = 32;

/// The roots of one agent process.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The process.
    pub(crate) instance: Nonce,
    /// Its roots.
    pub(crate) roots: Arc<[Root]>,
}

/// What is known of one server.
#[derive(Debug)]
struct Entry {
    known: Known,
    lifeline: Option<Lifeline>,
}

/// A stream that shows when a process ends.
#[derive(Debug)]
struct Lifeline {
    /// Whoever holds the stream holds this, too.
    beating: Weak<()>,
    holder: AbortHandle,
    since: Instant,
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.holder.abort();
    }
}

/// What is known of all servers.
#[derive(Debug, Default)]
pub(crate) struct KnownRoots(Mutex<HashMap<Target, Entry>>);

impl KnownRoots {
    fn lock(&self) -> MutexGuard<'_, HashMap<Target, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The roots of a server, as they were told last.
    pub(crate) fn of(&self, target: Target) -> Option<Known> {
        self.lock().get(&target).map(|entry| entry.known.clone())
    }

    pub(crate) fn remember(&self, target: Target, known: Known) {
        let mut all = self.lock();
        if let Some(entry) = all.get_mut(&target) {
            if entry.known.instance != known.instance {
                entry.lifeline = None;
            }
            entry.known = known;
            return;
        }
        if all.len() >= SERVERS {
            // Whichever goes is asked for again.
            let other = all.keys().next().copied();
            other.and_then(|other| all.remove(&other));
        }
        all.insert(target, Entry { known, lifeline: None });
    }

    /// Takes as the lifeline of a process a future that ends when the process does, and at the
    /// latest [`FRESH`] from now.
    pub(crate) fn watch(
        &self,
        target: Target,
        instance: Nonce,
        lifeline: impl Future<Output = ()> + Send + 'static,
    ) {
        // Without a runtime everything ends.
        let Ok(runtime) = Handle::try_current() else { return };
        let mut all = self.lock();
        let entry = all.get_mut(&target).filter(|entry| entry.known.instance == instance);
        let Some(entry) = entry else { return };
        let token = Arc::new(());
        let beating = Arc::downgrade(&token);
        let holder = runtime.spawn(async move {
            lifeline.await;
            drop(token);
        });
        let (holder, since) = (holder.abort_handle(), Instant::now());
        entry.lifeline = Some(Lifeline { beating, holder, since });
        let lifelines = all.values_mut().filter(|entry| entry.lifeline.is_some());
        let lifelines: Vec<_> = lifelines.collect();
        if lifelines.len() > LIFELINES {
            let since = |entry: &&mut Entry| entry.lifeline.as_ref().map(|lifeline| lifeline.since);
            let oldest = lifelines.into_iter().min_by_key(since);
            oldest.and_then(|entry| entry.lifeline.take());
        }
    }

    /// Whether a process that was `silent` for so long is still there, as far as that can be known.
    pub(crate) fn lives(&self, target: Target, instance: Nonce, silent: Duration) -> bool {
        let all = self.lock();
        let entry = all.get(&target);
        match entry.filter(|entry| entry.known.instance == instance).map(|entry| &entry.lifeline) {
            Some(Some(lifeline)) => lifeline.beating.strong_count() > 0 && silent < FRESH,
            _ => silent < INSTANT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_servers_are_remembered_than_fit() {
        let known = KnownRoots::default();
        let of = |byte: u8| Known { instance: Nonce([byte; 16]), roots: Arc::default() };
        let target = |number: u16| {
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            Target(bytes)
        };
        for number in 0..600 {
            known.remember(target(number), of(1));
        }
        assert_eq!(known.lock().len(), SERVERS);
        known.remember(target(599), of(2));
        assert_eq!(known.lock().len(), SERVERS);
        assert_eq!(known.lock()[&target(599)].known.instance, Nonce([2; 16]));
    }
}
