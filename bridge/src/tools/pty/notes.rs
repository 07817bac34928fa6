//! What one process remembers about its clients' sessions: how far each client has read, the limits
//! for new sessions, and counters.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use farwire_protocol::id::Nonce;

use super::session::Who;
use crate::sessions::pipes::Side;

/// The most entries of a kind: clients choose their names.
const MOST: usize = 10_000;

type Cursor = (Nonce, bool, Option<String>, Option<String>);

/// Limits for all new sessions.
#[derive(Clone, Debug, Default)]
pub struct SpawnLimits {
    /// At most this many sessions of this process at once.
    pub max_sessions: Option<u64>,
    /// See `pty_spawn`.
    pub max_output_bytes: Option<u64>,
    /// Closed after this many seconds of silence.
    pub idle_timeout_sec: Option<u64>,
    /// See `pty_spawn`.
    pub spawn_timeout_sec: Option<u64>,
    /// See `pty_spawn`.
    pub read_timeout_ms: Option<u64>,
}

/// The memory of a process.
#[derive(Debug, Default)]
pub struct Notes {
    cursors: Mutex<HashMap<Cursor, u64>>,
    timeouts: Mutex<HashMap<Nonce, Duration>>,
    recovered: Mutex<HashMap<Nonce, u64>>,
    opened: Mutex<Vec<(String, Nonce)>>,
    cwd: Mutex<Option<String>>,
    limits: Mutex<SpawnLimits>,
    /// Sessions opened.
    pub spawned: AtomicU64,
    /// Bytes that were read.
    pub read: AtomicU64,
    /// Bytes that were typed.
    pub written: AtomicU64,
}

impl Notes {
    /// How far a client has read.
    pub(super) fn cursor(&self, job: Nonce, side: Side, who: Who<'_>) -> u64 {
        locked(&self.cursors).get(&cursor(job, side, who)).copied().unwrap_or(0)
    }

    /// Records how far a client has read.
    pub(super) fn read_to(&self, job: Nonce, side: Side, who: Who<'_>, offset: u64) {
        let mut cursors = locked(&self.cursors);
        let key = cursor(job, side, who);
        let before = cursors.insert(key.clone(), offset);
        // This count is for information only.
        self.read.fetch_add(offset.saturating_sub(before.unwrap_or(0)), Ordering::Relaxed);
        bound(&mut cursors, &key);
    }

    /// Makes everybody read a session from its beginning.
    pub(super) fn rewind(&self, job: Nonce) {
        locked(&self.cursors).retain(|(other, ..), _| *other != job);
    }

    /// How long a read of a session waits.
    pub(super) fn read_timeout(&self, job: Nonce) -> Option<Duration> {
        locked(&self.timeouts).get(&job).copied()
    }

    pub(super) fn set_read_timeout(&self, job: Nonce, timeout: Duration) {
        let mut timeouts = locked(&self.timeouts);
        timeouts.insert(job, timeout);
        bound(&mut timeouts, &job);
    }

    /// When a session was recovered here, in seconds since 1970.
    pub(super) fn recovery_time(&self, job: Nonce) -> Option<u64> {
        locked(&self.recovered).get(&job).copied()
    }

    pub(super) fn set_recovered(&self, job: Nonce, at: u64) {
        let mut recovered = locked(&self.recovered);
        recovered.insert(job, at);
        bound(&mut recovered, &job);
    }

    /// Records that a session was opened here.
    pub(super) fn add_open(&self, id: String, job: Nonce) {
        self.spawned.fetch_add(1, Ordering::Relaxed);
        let mut opened = locked(&self.opened);
        opened.push((id, job));
        let over = opened.len().saturating_sub(MOST);
        opened.drain(..over);
    }

    /// The sessions that were opened here and are not known to have ended.
    pub(super) fn open_sessions(&self) -> Vec<(String, Nonce)> {
        locked(&self.opened).clone()
    }

    /// Records that a session has ended.
    pub(super) fn remove_open(&self, job: Nonce) {
        locked(&self.opened).retain(|(_, other)| *other != job);
    }

    pub(super) fn cwd(&self) -> Option<String> {
        locked(&self.cwd).clone()
    }

    pub(super) fn set_cwd(&self, cwd: Option<String>) {
        *locked(&self.cwd) = cwd;
    }

    pub(super) fn limits(&self) -> SpawnLimits {
        locked(&self.limits).clone()
    }

    pub(super) fn set_limits(&self, change: impl FnOnce(&mut SpawnLimits)) {
        change(&mut locked(&self.limits));
    }
}

fn cursor(job: Nonce, side: Side, who: Who<'_>) -> Cursor {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    (job, side == Side::Err, owned(who.owner), owned(who.client))
}

/// Evicts another entry if there are too many: its owner then reads from the beginning again.
fn bound<K: Clone + Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, keep: &K) {
    if map.len() > MOST
        && let Some(other) = map.keys().find(|key| *key != keep).cloned()
    {
        map.remove(&other);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_of_each_owner_reads_for_itself() {
        let notes = Notes::default();
        let who = |owner, client| Who { owner: Some(owner), client };
        let job = Nonce([1; 16]);
        notes.read_to(job, Side::Out, who("a", None), 10);
        notes.read_to(job, Side::Out, who("a", Some("x")), 20);
        assert_eq!(notes.cursor(job, Side::Out, who("a", None)), 10);
        assert_eq!(notes.cursor(job, Side::Out, who("a", Some("x"))), 20);
        assert_eq!(notes.cursor(job, Side::Err, who("a", None)), 0);
        assert_eq!(notes.cursor(job, Side::Out, who("b", None)), 0);
        assert_eq!(notes.read.load(Ordering::Relaxed), 30);
        notes.rewind(job);
        assert_eq!(notes.cursor(job, Side::Out, who("a", Some("x"))), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let notes = Notes::default();
        for at in 0..=MOST {
            let client = at.to_string();
            let who = Who { owner: None, client: Some(&client) };
            notes.read_to(Nonce([1; 16]), Side::Out, who, 1);
        }
        assert_eq!(locked(&notes.cursors).len(), MOST);
    }
}
