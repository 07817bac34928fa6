//! Who is attached to a session.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_protocol::streams::session::Participant as Shown;

use crate::gate::principal::Principal;

/// At most this many are reported.
const SHOWN: usize = 16;

/// Numbers of streams that are attached: each is used once.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// All who are attached to one session.
#[derive(Debug, Default)]
pub(crate) struct Participants {
    all: Mutex<Vec<Arc<Participant>>>,
}

/// A client that is attached.
#[derive(Debug)]
pub(crate) struct Participant {
    /// The number of the stream.
    pub(crate) stream: u64,
    pub(crate) actor: Principal,
    pub(crate) read_only: bool,
    since: Duration,
    /// When they typed last, in milliseconds since boot; 0 if never.
    typed: AtomicU64,
}

impl Participant {
    /// Records that they have typed.
    pub(crate) fn note_typing(&self, now: Duration) {
        self.typed.store(millis(now), Ordering::Relaxed);
    }
}

impl Participants {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Participant>>> {
        self.all.lock().expect("nothing panics while it is held")
    }

    /// Adds a client that attaches.
    pub(crate) fn join(
        &self,
        actor: Principal,
        read_only: bool,
        now: Duration,
    ) -> Arc<Participant> {
        let stream = NEXT.fetch_add(1, Ordering::Relaxed);
        let typed = AtomicU64::new(0);
        let one = Arc::new(Participant { stream, actor, read_only, since: now, typed });
        self.lock().push(one.clone());
        one
    }

    /// Removes a client that leaves.
    pub(crate) fn leave(&self, stream: u64) {
        self.lock().retain(|one| one.stream != stream);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// The wire form, as seen by `to`; those that attached first come first.
    pub(crate) fn show(&self, to: &Principal, now: Duration) -> Vec<Shown> {
        let show = |one: &Arc<Participant>| Shown {
            actor: one.actor.show(Some(to)),
            read_only: one.read_only,
            age_ms: millis(now.saturating_sub(one.since)),
            typed_ms: match one.typed.load(Ordering::Relaxed) {
                0 => None,
                then => Some(millis(now).saturating_sub(then)),
            },
        };
        self.lock().iter().take(SHOWN).map(show).collect()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
