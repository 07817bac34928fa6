//! Who may ask the books now: each workspace waits in a line of its own.
//!
//! A few connections read the books and one writes, for everybody, the first to come first. Of each workspace only so
//! many get as far as that, so that whoever floods the relay with calls waits for itself, and everybody else for a
//! few calls of each of the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::db::identities::Workspace;

/// For whom something is done; `None` is the relay itself, and whoever has no workspace yet.
pub(crate) type Whose = Option<Workspace>;

/// The lines.
#[derive(Debug)]
pub(crate) struct Turns {
    /// How many of each line have a turn at a time.
    most: usize,
    lines: Mutex<HashMap<Whose, Arc<Semaphore>>>,
}

/// A turn. Dropping it gives it to the next in line.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    whose: Whose,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, lines: Mutex::default() })
    }

    /// Waits for a turn, behind those of the same workspace.
    pub(crate) async fn take(self: &Arc<Self>, whose: Whose) -> Turn {
        let line = self.lock().entry(whose).or_insert_with(|| self.line()).clone();
        // A line is never closed.
        let permit = line.acquire_owned().await.ok();
        Turn { turns: self.clone(), whose, permit }
    }

    fn line(&self) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(self.most))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Whose, Arc<Semaphore>>> {
        self.lines.lock().expect("nothing panics while it is held")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut lines = self.turns.lock();
        // Whoever waits or has a turn holds the line as well.
        if lines.get(&self.whose).is_some_and(|line| Arc::strong_count(line) == 1) {
            lines.remove(&self.whose);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_waits_for_itself_and_nothing_is_kept_of_it() {
        let turns = Turns::new(2);
        let (first, _second) = (turns.take(Some(1)).await, turns.take(Some(1)).await);
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let turns = turns.clone();
                tokio::spawn(async move { turns.take(Some(1)).await })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(turns.take(Some(2)).await);
        drop(turns.take(None).await);
        assert!(waiting.iter().all(|one| !one.is_finished()));
        drop(first);
        for one in waiting {
            drop(one.await.unwrap());
        }
        drop(_second);
        assert!(turns.lock().is_empty());
    }
}
