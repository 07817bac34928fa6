//! What is written down of runs that have ended, and what of it the next agent finds.
//!
//! A holder keeps what has ended until its agent has written it down, however often that fails.
//! What is written is removed when its job is forgotten, and for no other reason: what cannot be
//! read stays for the next agent, and what is damaged is put aside.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farwire_protocol::id::Nonce;
use tokio::time::{Instant, timeout_at};

use super::holders::ToWrite;
use super::job::Job;
use super::{Jobs, ended};
use crate::holder::message::HolderOrder;

/// What could not be written down is tried again after so long.
const RETRY: Duration = Duration::from_secs(3);

/// What was damaged is put aside under its name with this behind it, until the next start.
const DAMAGED: &str = ".damaged";

/// What is found where something was written down for a later agent.
#[derive(Debug)]
pub(crate) enum Recorded<T> {
    /// What was written.
    Whole(T),
    /// It is certainly not what was written.
    Damaged,
    /// It cannot be read now, for this reason, and may be whole. It stays where it is.
    Unreadable(String),
}

impl Jobs {
    /// Runs that ended under an earlier agent and that nobody holds, the oldest first. Says whether
    /// those are all.
    pub(super) fn past_runs(&self, held: &[Arc<Job>]) -> (Vec<Arc<Job>>, bool) {
        let mut past = Vec::new();
        let read = |id| match ended::read(&self.runs, id, &self.directory) {
            Recorded::Whole(job) => {
                past.push(job);
                Recorded::Whole(())
            }
            Recorded::Damaged => Recorded::Damaged,
            Recorded::Unreadable(why) => Recorded::Unreadable(why),
        };
        let all = read_all(&self.runs, held, read);
        past.sort_by_key(|job| job.requested_at());
        (past, all)
    }

    /// Writes down runs that have ended, and removes what is written of those that are forgotten,
    /// for as long as the agent lives. On a thread that may wait for a disk. A holder keeps what it
    /// has until that is done.
    pub(super) async fn write_down_runs(self: Arc<Self>) {
        let (mut waiting, mut again) = (Vec::new(), Instant::now());
        loop {
            let fresh = self.holders.finished.take();
            let mut finished = match waiting.is_empty() {
                true => fresh.await,
                false => timeout_at(again, fresh).await.unwrap_or_default(),
            };
            let first = waiting.is_empty();
            if Instant::now() >= again {
                finished.append(&mut waiting);
                again = Instant::now() + RETRY;
            }
            let jobs = self.clone();
            let written = tokio::task::spawn_blocking(move || jobs.write_down(finished));
            // It dies only with the agent.
            let Ok((written, failed, error)) = written.await else { continue };
            if first && let Some(error) = error {
                tracing::warn!(%error, "runs cannot be written down yet; their holders keep them");
            }
            waiting.extend(failed);
            // Now they are ours to keep.
            for (holder, job) in written {
                if let Some(kept_by) = &holder
                    && kept_by.order(&HolderOrder::Forget(job.id)).is_err()
                {
                    waiting.push((holder, job));
                }
            }
        }
    }

    /// Writes down what has ended. Returns what is written, or need not be; what is not; and one
    /// error of those.
    fn write_down(
        &self,
        finished: Vec<ToWrite>,
    ) -> (Vec<ToWrite>, Vec<ToWrite>, Option<std::io::Error>) {
        let mut failure = None;
        let (written, failed): (Vec<_>, Vec<_>) = finished.into_iter().partition(|(_, job)| {
            let written = match &job.terminal {
                _ if job.spool.is_discarded() => Ok(true),
                // The keeper of sessions writes those down.
                Some(terminal) => Ok(terminal.is_archived()),
                None => ended::write(&self.runs, job).map(|()| true),
            };
            if job.terminal.is_none() && job.spool.is_discarded() {
                // Forgotten, perhaps meanwhile.
                self.remove_runs(std::slice::from_ref(job));
            }
            written.unwrap_or_else(|error| {
                failure = Some(error);
                false
            })
        });
        (written, failed, failure)
    }

    /// Removes what is written of runs that were forgotten. What cannot be removed is tried again
    /// at the next start.
    pub(crate) fn remove_runs(&self, forgotten: &[Arc<Job>]) {
        for job in forgotten.iter().filter(|job| job.terminal.is_none()) {
            let _ = std::fs::remove_file(self.runs.join(job.id.to_string()));
        }
    }
}

/// Reads what is written down below a directory of jobs that are not held. What is damaged is put
/// aside, and what was put aside before is removed. Returns whether all was read.
pub(crate) fn read_all(
    directory: &Path,
    held: &[Arc<Job>],
    mut read: impl FnMut(Nonce) -> Recorded<()>,
) -> bool {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return error.kind() == std::io::ErrorKind::NotFound,
    };
    let Ok(entries) = entries.collect::<Result<Vec<_>, _>>() else { return false };
    let mut all = true;
    for entry in entries {
        let (name, path) = (entry.file_name(), entry.path());
        if name.to_str().is_some_and(|name| name.ends_with(DAMAGED)) {
            // Whatever it is; what cannot be removed is tried again at the next start.
            let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
        let Some(id) = id_of(&name) else { continue };
        if held.iter().any(|job| job.id == id) {
            continue;
        }
        match read(id) {
            Recorded::Whole(()) => {}
            Recorded::Damaged => {
                tracing::warn!(job = %id, "what was written of it is damaged, and is put aside");
                let _ = std::fs::rename(&path, directory.join(format!("{id}{DAMAGED}")));
            }
            Recorded::Unreadable(why) => {
                tracing::warn!(job = %id, why, "what was written of it cannot be read, and is left alone");
                all = false;
            }
        }
    }
    all
}

/// The job that a file or a directory is of, by its name.
fn id_of(name: &std::ffi::OsStr) -> Option<Nonce> {
    name.to_str()?.parse().ok()
}
