//! Values that take time to make, one for each key, and each made once for everyone who needs it.
//!
//! ```text
//!     get(key) ──> Ready(value)     a value that is usable: returned at once
//!              ──> Making(attempt)  somebody began to make it: everyone waits for that attempt
//!              ──> nothing          begins an attempt, on a task of its own
//! ```
//!
//! # Invariants
//!
//! - The lock of the map is never held across an await: a key whose attempt is stuck delays nobody
//!   who needs another key.
//! - An attempt belongs to no caller. A caller that is cancelled takes nothing away from the
//!   others, and what it began is there for whoever comes next.
//! - An attempt ends at its deadline. Everyone who waits gets its outcome, and the next caller
//!   begins anew.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// The values by their keys. Clones share them.
#[derive(Debug)]
pub struct Slots<K, V>(Arc<Mutex<Map<K, V>>>);

#[derive(Debug)]
struct Map<K, V> {
    slots: HashMap<K, Slot<V>>,
    /// The number of the next attempt.
    next: u64,
}

#[derive(Debug)]
enum Slot<V> {
    Ready(V),
    Making { number: u64, outcome: Outcome<V>, task: AbortHandle },
}

/// The outcome of an attempt, once there is one.
type Outcome<V> = watch::Receiver<Option<Result<V, Failure>>>;

/// What [`Slots::begin`] found or began.
#[derive(Debug)]
pub enum Begun<V> {
    /// The value was there.
    Ready(V),
    /// It is being made.
    Making(Attempt<V>),
}

/// An attempt that is under way.
#[derive(Debug)]
pub struct Attempt<V>(Outcome<V>);

impl<K, V> Clone for Slots<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> Default for Slots<K, V> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Map { slots: HashMap::new(), next: 0 })))
    }
}

impl<V: Clone> Attempt<V> {
    /// Waits for its outcome. Dropping this future does not end the attempt.
    pub async fn wait(mut self) -> Result<V, Failure> {
        let outcome = self.0.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        outcome.unwrap_or_else(|| {
            Err(Failure::new(Kind::Internal, "an attempt ended without an outcome"))
        })
    }
}

impl<V: Clone> Begun<V> {
    /// The value, waiting for it if need be.
    pub async fn wait(self) -> Result<V, Failure> {
        match self {
            Self::Ready(value) => Ok(value),
            Self::Making(attempt) => attempt.wait().await,
        }
    }
}

impl<K, V> Slots<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The value of a key if it is `usable`, the attempt that is under way, or a new one with
    /// `make`, which fails with [`Kind::TimedOut`] after `deadline`.
    pub fn begin<F>(
        &self,
        key: &K,
        usable: impl FnOnce(&V) -> bool,
        deadline: Duration,
        make: impl FnOnce() -> F,
    ) -> Begun<V>
    where
        F: Future<Output = Result<V, Failure>> + Send + 'static,
    {
        let mut map = self.map();
        match map.slots.get(key) {
            Some(Slot::Ready(value)) if usable(value) => return Begun::Ready(value.clone()),
            // An attempt whose task is gone without an outcome is none.
            Some(Slot::Making { outcome, .. }) if outcome.has_changed().is_ok() => {
                return Begun::Making(Attempt(outcome.clone()));
            }
            _ => {}
        }
        let number = map.next;
        map.next += 1;
        let (sender, outcome) = watch::channel(None);
        let (slots, made, own) = (self.clone(), make(), key.clone());
        // It cannot end before its slot is filled: it needs the lock that is held here.
        let task = tokio::spawn(async move {
            let made = timeout(deadline, made).await.unwrap_or_else(|_| Err(too_late(deadline)));
            slots.end(&own, number, made.as_ref().ok());
            // Nobody may be waiting any more.
            let _ = sender.send(Some(made));
        });
        let making = Slot::Making { number, outcome: outcome.clone(), task: task.abort_handle() };
        map.slots.insert(key.clone(), making);
        Begun::Making(Attempt(outcome))
    }

    /// Puts the outcome of an attempt in its place, unless another has taken it.
    fn end(&self, key: &K, number: u64, value: Option<&V>) {
        let mut map = self.map();
        let is_ours =
            |slot: &Slot<V>| matches!(slot, Slot::Making { number: other, .. } if *other == number);
        if !map.slots.get(key).is_some_and(is_ours) {
            return;
        }
        match value {
            Some(value) => map.slots.insert(key.clone(), Slot::Ready(value.clone())),
            None => map.slots.remove(key),
        };
    }

    /// The value of a key, if it is there.
    pub fn ready(&self, key: &K) -> Option<V> {
        match self.map().slots.get(key) {
            Some(Slot::Ready(value)) => Some(value.clone()),
            _ => None,
        }
    }

    /// The attempt at a key that is under way.
    pub fn attempt(&self, key: &K) -> Option<Attempt<V>> {
        match self.map().slots.get(key) {
            Some(Slot::Making { outcome, .. }) => Some(Attempt(outcome.clone())),
            _ => None,
        }
    }

    /// Removes the value of a key if it is `unusable`. An attempt that is under way goes on.
    pub fn remove(&self, key: &K, unusable: impl FnOnce(&V) -> bool) {
        let mut map = self.map();
        if let Some(Slot::Ready(value)) = map.slots.get(key)
            && unusable(value)
        {
            map.slots.remove(key);
        }
    }

    /// Removes everything, ends the attempts, and returns the values.
    pub fn clear(&self) -> Vec<V> {
        let slots: Vec<_> = self.map().slots.drain().collect();
        let value = |(_, slot)| match slot {
            Slot::Ready(value) => Some(value),
            Slot::Making { task, .. } => {
                task.abort();
                None
            }
        };
        slots.into_iter().filter_map(value).collect()
    }
}

impl<K, V> Slots<K, V> {
    /// Every change is a single operation: what a panic left is whole.
    fn map(&self) -> MutexGuard<'_, Map<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_late(deadline: Duration) -> Failure {
    Failure::new(Kind::TimedOut, format!("no outcome within {} s", deadline.as_secs()))
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn slots() -> Slots<&'static str, u32> {
        Slots::default()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_stuck_delays_no_other() {
        let slots = slots();
        let stuck = slots.begin(&"a", |_| true, LONG, pending);
        let other = slots.begin(&"b", |_| true, LONG, || async { Ok(7) });
        assert_eq!(other.wait().await.unwrap(), 7);
        let failure = stuck.wait().await.unwrap_err();
        assert_eq!(failure.kind, Kind::TimedOut);
        let again = slots.begin(&"a", |_| true, LONG, || async { Ok(1) });
        assert_eq!(again.wait().await.unwrap(), 1, "a stuck attempt does not block the next");
    }

    #[tokio::test(start_paused = true)]
    async fn everyone_gets_the_outcome_of_one_attempt_and_a_cancelled_caller_takes_none_away() {
        let slots = slots();
        let made = Arc::new(AtomicU32::new(0));
        let begin = |fails: bool| {
            let made = made.clone();
            slots.begin(
                &"a",
                |_| true,
                LONG,
                move || async move {
                    made.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if fails { Err(Failure::new(Kind::LinkLost, "no")) } else { Ok(5) }
                },
            )
        };
        let (first, second) = (begin(true), begin(true));
        let (first, second) = tokio::join!(first.wait(), second.wait());
        assert_eq!(first.unwrap_err().kind, Kind::LinkLost);
        assert_eq!(second.unwrap_err().kind, Kind::LinkLost);
        assert_eq!(made.load(Ordering::Relaxed), 1);
        drop(begin(false).wait());
        let waiting = begin(false);
        assert!(timeout(Duration::from_millis(1), begin(false).wait()).await.is_err());
        assert_eq!(waiting.wait().await.unwrap(), 5);
        assert_eq!(made.load(Ordering::Relaxed), 2, "one attempt for all three");
        assert!(matches!(begin(true), Begun::Ready(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unusable_value_is_made_again_and_a_panic_is_a_failure() {
        let slots = slots();
        slots.begin(&"a", |_| true, LONG, || async { Ok(1) }).wait().await.unwrap();
        let anew = slots.begin(&"a", |value| *value != 1, LONG, || async { Ok(2) });
        assert_eq!(anew.wait().await.unwrap(), 2);
        slots.remove(&"a", |value| *value == 1);
        assert_eq!(slots.ready(&"a"), Some(2));
        slots.remove(&"a", |value| *value == 2);
        assert_eq!(slots.ready(&"a"), None);
        let dies = slots.begin(&"a", |_| true, LONG, || async { panic!("inside") });
        assert_eq!(dies.wait().await.unwrap_err().kind, Kind::Internal);
        let after = slots.begin(&"a", |_| true, LONG, || async { Ok(3) });
        assert_eq!(after.wait().await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn clearing_ends_attempts_and_nothing_is_kept_afterwards() {
        let slots = slots();
        slots.begin(&"a", |_| true, LONG, || async { Ok(1) }).wait().await.unwrap();
        let stuck = slots.begin(&"b", |_| true, LONG, pending);
        assert_eq!(slots.clear(), [1]);
        assert_eq!(stuck.wait().await.unwrap_err().kind, Kind::Internal);
        assert!(slots.ready(&"a").is_none() && slots.clear().is_empty());
    }
}
