//! What is written down of jobs that have ended, and what of it the next agent finds.
//!
//! A holder keeps what has ended until its agent has written it down, however often that fails. What is written
//! is removed when its job is forgotten, and for no other reason: what cannot be read stays for the next agent, and
//! what is damaged is put aside.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use farwire_protocol::id::Nonce;
use tokio::time::{Instant, timeout_at};

use super::files::{self, Files};
use super::holders::ToWrite;
use super::job::{Job, Phase};
use super::keeper::Kept;
use super::record::{self, Record, Recorded};
use super::{Jobs, ended, lines};
use crate::holder::message::Order;
use crate::spool::Spool;
use crate::terminal::Terminal;
use crate::terminal::events::What;

/// What could not be written down is tried again after so long.
const RETRY: Duration = Duration::from_secs(3);

/// What was damaged is put aside under its name with this behind it, until the next start.
const DAMAGED: &str = ".damaged";

impl Jobs {
    /// Sessions that were written down and that nobody holds; those that are held go on counting events. Says
    /// whether those are all.
    pub(super) fn past(&self, held: &[Arc<Job>]) -> (Vec<Arc<Job>>, bool) {
        let mut past = Vec::new();
        let read = |id| match self.recorded(id) {
            Recorded::Whole(Some((started, job)))
                if job.ended_for().is_some_and(|ago| ago <= job.keep()) =>
            {
                past.push((started, job));
                Recorded::Whole(())
            }
            // Too old, or it never began.
            Recorded::Whole(_) => {
                let _ = std::fs::remove_dir_all(self.files_of(id));
                Recorded::Whole(())
            }
            Recorded::Damaged => Recorded::Damaged,
            Recorded::Unreadable(why) => Recorded::Unreadable(why),
        };
        let all = read_all(&self.files, held, read);
        past.sort_by_key(|(started, _)| *started);
        (past.into_iter().map(|(_, job)| job).collect(), all)
    }

    /// Runs that ended under an earlier agent and that nobody holds, the oldest first. Says whether those are all.
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
        past.sort_by_key(|job| job.asked());
        (past, all)
    }

    /// Writes down runs that have ended, and removes what is written of those that are forgotten, for as long
    /// as the agent lives. On a thread that may wait for a disk. A holder keeps what it has until that is done.
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
                    && kept_by.order(&Order::Forget(job.id)).is_err()
                {
                    waiting.push((holder, job));
                }
            }
        }
    }

    /// Writes down what has ended. Returns what is written, or need not be; what is not; and one error of those.
    fn write_down(
        &self,
        finished: Vec<ToWrite>,
    ) -> (Vec<ToWrite>, Vec<ToWrite>, Option<std::io::Error>) {
        let mut failure = None;
        let (written, failed): (Vec<_>, Vec<_>) = finished.into_iter().partition(|(_, job)| {
            let written = match &job.terminal {
                _ if job.spool.is_discarded() => Ok(true),
                // The keeper writes those down.
                Some(terminal) => Ok(matches!(*terminal.kept(), Kept::Over)),
                None => ended::write(&self.runs, job).map(|()| true),
            };
            if job.terminal.is_none() && job.spool.is_discarded() {
                // Forgotten, perhaps meanwhile.
                self.remove_files(std::slice::from_ref(job));
            }
            written.unwrap_or_else(|error| {
                failure = Some(error);
                false
            })
        });
        (written, failed, failure)
    }

    /// A session that was written down, with when it was asked for; none if it never began.
    fn recorded(&self, id: Nonce) -> Recorded<Option<(u64, Arc<Job>)>> {
        let directory = self.files_of(id);
        match files::description::<Record>(&directory) {
            Ok(Some(record)) => match self.session_of(id, record, directory) {
                Ok(session) => Recorded::Whole(session),
                Err(error) => Recorded::Unreadable(error.to_string()),
            },
            Ok(None) => Recorded::Damaged,
            Err(error) => Recorded::Unreadable(error.to_string()),
        }
    }

    fn session_of(
        &self,
        id: Nonce,
        record: Record,
        directory: PathBuf,
    ) -> std::io::Result<Option<(u64, Arc<Job>)>> {
        let Some((record, mut past, beginning)) = record.past() else { return Ok(None) };
        let Some(owner) = record.owner() else { return Ok(None) };
        let files = Files::open(directory)?;
        // That it is lost is known from now on.
        let _ = files.describe(&record);
        let started = record.started_ms();
        let files::Said { start, lines, bytes } = files.said();
        if let Phase::Ended { output_end, .. } = &mut past.phase {
            *output_end = start + bytes.len() as u64;
        }
        let path = self.directory.join(id.to_string());
        let spool = Spool::recorded((start, lines), bytes, path)?;
        let terminal = Terminal::new(beginning);
        terminal.events.recall(lines::read(&files.events()), 0);
        *terminal.kept() = Kept::Over;
        let job = Job::recorded((id, owner), record.program(), past, Some(terminal), spool);
        Ok(Some((started, job)))
    }

    /// A session goes on under this agent: its events are counted on.
    pub(super) fn recall_events(&self, job: &Arc<Job>) {
        let Some(terminal) = &job.terminal else { return };
        if let Ok(files) = Files::open(self.files_of(job.id)) {
            let last = job.spool.memory().map_or(0, |memory| memory.events());
            terminal.events.recall(lines::read(&files.events()), last);
        }
        terminal.note(job, None, What::Recovered);
    }

    /// Removes the files of jobs that were forgotten. What cannot be removed is tried again at the next start.
    pub(super) fn remove_files(&self, forgotten: &[Arc<Job>]) {
        for job in forgotten {
            let _ = match job.terminal {
                Some(_) => std::fs::remove_dir_all(self.files_of(job.id)),
                None => std::fs::remove_file(self.runs.join(job.id.to_string())),
            };
        }
    }
}

/// Reads what is written down below a directory of jobs that are not held. What is damaged is put aside, and what
/// was put aside before is removed. Returns whether all was read.
fn read_all(
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
        let Some(id) = record::id_of(&name) else { continue };
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
