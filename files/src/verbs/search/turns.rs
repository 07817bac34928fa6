//! Puts the findings of several threads in the order of the files.
//!
//! Files are handed out in numbered handfuls. The thread with the next handful sends its findings
//! at once. Those of the others wait, up to a bound, beyond which the threads wait themselves.
//! Handfuls are taken in order, so the next one is always with a thread that does not wait.

use std::collections::BTreeMap;
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use farwire_protocol::streams::files::Match;

/// About how many bytes wait for their turn, besides one piece of each thread.
const WAITING: usize = 2 << 20;

/// Whose turn it is.
#[derive(Debug, Default)]
struct TurnState {
    next: u64,
    waiting: BTreeMap<u64, (Vec<Match>, usize)>,
    bytes: usize,
}

/// The turns of one search.
#[derive(Debug, Default)]
pub(super) struct OutputTurns {
    state: Mutex<TurnState>,
    changed: Condvar,
}

impl OutputTurns {
    fn lock(&self) -> MutexGuard<'_, TurnState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of this handful. With `to_add`, waits only while too much is waiting
    /// already.
    fn wait(&self, handful: u64, to_add: bool) -> MutexGuard<'_, TurnState> {
        let waits =
            |state: &mut TurnState| state.next != handful && (!to_add || state.bytes > WAITING);
        let state = self.changed.wait_while(self.lock(), waits);
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a part of the findings of an unfinished handful, when it is its turn.
    pub(super) fn send_part(&self, handful: u64, found: Vec<Match>, to: &SyncSender<Vec<Match>>) {
        let state = self.wait(handful, false);
        drop(state);
        // The turn stays with this handful. The receiver takes everything that comes.
        let _ = to.send(found);
    }

    /// Sends the remaining findings of a handful, or stores them until its turn.
    pub(super) fn finish(
        &self,
        handful: u64,
        found: Vec<Match>,
        bytes: usize,
        to: &SyncSender<Vec<Match>>,
    ) {
        let mut state = self.wait(handful, true);
        if state.next != handful {
            state.bytes += bytes;
            state.waiting.insert(handful, (found, bytes));
            return;
        }
        let mut found = Some((found, 0));
        while let Some((lines, bytes)) = found {
            state.bytes -= bytes;
            if !lines.is_empty() {
                let _ = to.send(lines);
            }
            state.next += 1;
            let next = state.next;
            found = state.waiting.remove(&next);
        }
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn what_threads_find_comes_in_the_order_of_the_files() {
        let (turns, next) = (OutputTurns::default(), AtomicU64::new(0));
        let (to, from) = sync_channel(2);
        let lines = std::thread::scope(|scope| {
            for _ in 0..4 {
                let (turns, next, to) = (&turns, &next, to.clone());
                scope.spawn(move || {
                    loop {
                        let handful = next.fetch_add(1, Ordering::Relaxed);
                        if handful >= 200 {
                            break;
                        }
                        let line = |line| Match { line, ..Match::default() };
                        if handful % 3 == 0 {
                            turns.send_part(handful, vec![line(2 * handful)], &to);
                        }
                        turns.finish(handful, vec![line(2 * handful + 1)], 64 << 10, &to);
                    }
                });
            }
            drop(to);
            from.iter().flatten().map(|found| found.line).collect::<Vec<_>>()
        });
        assert!(lines.is_sorted(), "{lines:?}");
        assert_eq!(lines.len(), 200 + 67);
    }
}
