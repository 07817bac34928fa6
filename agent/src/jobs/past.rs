//! The records of runs that have ended, and how the next agent reads them.
//!
//! A holder keeps an ended run until its agent has recorded it, however often that fails. A record
//! is removed when its job is forgotten, and for no other reason: one that cannot be read stays for
//! the next agent, and a damaged one is put aside.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farwire_protocol::id::Nonce;
use tokio::time::{Instant, timeout_at};

use super::holders::ToWrite;
use super::job::Job;
use super::{Jobs, ended};
use crate::holder::message::HolderOrder;

/// How long to wait before retrying a record that could not be written.
const RETRY: Duration = Duration::from_secs(3);

/// A damaged record is put aside under its name with this suffix, until the next start.
const DAMAGED: &str = ".damaged";

/// What was found in the place of a record.
#[derive(Debug)]
pub(crate) enum Recorded<T> {
    /// The record.
    Whole(T),
    /// It is certainly not what was written there.
    Damaged,
    /// It cannot be read now, for this reason, and may be whole. It stays where it is.
    Unreadable(String),
}

impl Jobs {
    /// Recorded runs of earlier agents that no holder has, the oldest first; and whether those are
    /// all.
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

    /// Records runs that have ended, and removes the records of those that are forgotten, for as
    /// long as the agent lives. It works on a blocking thread. A holder keeps a run until it is
    /// recorded.
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
            // The thread dies only with the agent.
            let Ok((written, failed, error)) = written.await else { continue };
            if first && let Some(error) = error {
                tracing::warn!(%error, "runs cannot be stored yet; their holders keep them");
            }
            waiting.extend(failed);
            // Now they are ours, not the holder's.
            for (holder, job) in written {
                if let Some(kept_by) = &holder
                    && kept_by.order(&HolderOrder::Forget(job.id)).is_err()
                {
                    waiting.push((holder, job));
                }
            }
        }
    }

    /// Records what has ended. Returns what was recorded or need not be, what was not, and one
    /// error of the latter.
    fn write_down(
        &self,
        finished: Vec<ToWrite>,
    ) -> (Vec<ToWrite>, Vec<ToWrite>, Option<std::io::Error>) {
        let mut failure = None;
        let (written, failed): (Vec<_>, Vec<_>) = finished.into_iter().partition(|(_, job)| {
            let written = match &job.terminal {
                _ if job.spool.is_discarded() => Ok(true),
                // The keeper of sessions records those.
                Some(terminal) => Ok(terminal.is_archived()),
                None => ended::write(&self.runs, job).map(|()| true),
            };
            if job.terminal.is_none() && job.spool.is_discarded() {
                // It was forgotten, perhaps meanwhile.
                self.remove_runs(std::slice::from_ref(job));
            }
            written.unwrap_or_else(|error| {
                failure = Some(error);
                false
            })
        });
        (written, failed, failure)
    }

    /// Removes the records of runs that were forgotten. One that cannot be removed is tried again
    /// at the next start.
    pub(crate) fn remove_runs(&self, forgotten: &[Arc<Job>]) {
        for job in forgotten.iter().filter(|job| job.terminal.is_none()) {
            let _ = std::fs::remove_file(self.runs.join(job.id.to_string()));
        }
    }
}

/// Reads the records in a directory, of jobs that are not held. Puts damaged ones aside, and
/// removes those that were put aside before. Returns whether all were read.
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
            // Remove it, whatever it is; if that fails, the next start tries again.
            let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
        let Some(id) = id_of(&name) else { continue };
        if held.iter().any(|job| job.id == id) {
            continue;
        }
        match read(id) {
            Recorded::Whole(()) => {}
            Recorded::Damaged => {
                tracing::warn!(job = %id, "its record is damaged, and was moved aside");
                let _ = std::fs::rename(&path, directory.join(format!("{id}{DAMAGED}")));
            }
            Recorded::Unreadable(why) => {
                tracing::warn!(job = %id, why, "its record cannot be read, and was left in place");
                all = false;
            }
        }
    }
    all
}

/// The id of the job that a file or a directory belongs to, by its name.
fn id_of(name: &std::ffi::OsStr) -> Option<Nonce> {
    name.to_str()?.parse().ok()
}
