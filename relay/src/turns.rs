//! Turns at a limited resource, such as the store: each workspace waits in a line of its own.
//!
//! A workspace has at most a few turns at a time. So a workspace that floods the relay with calls
//! waits for itself, and other workspaces wait for a few of its calls only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::workspace::WorkspaceId;

/// How long a call waits for its turn: less than programs wait for an answer.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The lines, one for each workspace that has or wants a turn.
#[derive(Debug)]
pub(crate) struct Turns {
    /// Most turns of one line at a time.
    most: usize,
    lines: Mutex<HashMap<Option<WorkspaceId>, Arc<Semaphore>>>,
}

/// A turn. Dropping it gives it to the next in line.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    workspace: Option<WorkspaceId>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, lines: Mutex::default() })
    }

    /// Waits for a turn, behind earlier calls of the same workspace. `None` is the line of the
    /// relay itself and of peers that have no workspace yet.
    pub(crate) async fn take(self: &Arc<Self>, workspace: Option<WorkspaceId>) -> Turn {
        let line = self.lock().entry(workspace).or_insert_with(|| self.line()).clone();
        // It fails only for a closed semaphore, and nobody closes one.
        let permit = line.acquire_owned().await.ok();
        Turn { turns: self.clone(), workspace, permit }
    }

    /// Waits for a turn as [`Self::take`] does, for at most [`LONGEST_WAIT`].
    pub(crate) async fn take_in_time(
        self: &Arc<Self>,
        workspace: Option<WorkspaceId>,
    ) -> Result<Turn, Failure> {
        timeout(LONGEST_WAIT, self.take(workspace)).await.map_err(|_| overload())
    }

    fn line(&self) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(self.most))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<WorkspaceId>, Arc<Semaphore>>> {
        self.lines.lock().expect("nothing panics while it is held")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut lines = self.turns.lock();
        // A waiting call and a turn each hold a reference to their line.
        if lines.get(&self.workspace).is_some_and(|line| Arc::strong_count(line) == 1) {
            lines.remove(&self.workspace);
        }
    }
}

/// Returns the failure of a call whose turn did not come in time. Nothing has been done for it.
pub(crate) fn overload() -> Failure {
    metrics::counter!("farwire_relay_busy_total").increment(1);
    let seconds = LONGEST_WAIT.as_secs();
    let text = format!(
        "the relay is busy: the request waited more than {seconds} s and was not carried out"
    );
    Failure::new(Kind::Overloaded, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOODING: Option<WorkspaceId> = Some(WorkspaceId(1));
    const OTHER: Option<WorkspaceId> = Some(WorkspaceId(2));

    #[tokio::test]
    async fn a_flood_waits_for_itself_and_nothing_is_kept_of_it() {
        let turns = Turns::new(2);
        let (first, second) = (turns.take(FLOODING).await, turns.take(FLOODING).await);
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let turns = turns.clone();
                tokio::spawn(async move { turns.take(FLOODING).await })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(turns.take(OTHER).await);
        drop(turns.take(None).await);
        assert!(waiting.iter().all(|one| !one.is_finished()));
        drop(first);
        for one in waiting {
            drop(one.await.unwrap());
        }
        drop(second);
        assert!(turns.lock().is_empty());
    }

    #[tokio::test]
    async fn a_call_that_gives_up_waiting_leaves_its_line() {
        let turns = Turns::new(1);
        let first = turns.take(FLOODING).await;
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take(FLOODING).await }
        });
        tokio::task::yield_now().await;
        waiting.abort();
        assert!(waiting.await.is_err());
        drop(first);
        drop(turns.take(FLOODING).await);
        assert!(turns.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_in_time_is_refused_as_overloaded() {
        let turns = Turns::new(1);
        let held = turns.take_in_time(FLOODING).await.unwrap();
        let failure = turns.take_in_time(FLOODING).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Overloaded);
        turns.take_in_time(OTHER).await.unwrap();
        drop(held);
        turns.take_in_time(FLOODING).await.unwrap();
    }
}
