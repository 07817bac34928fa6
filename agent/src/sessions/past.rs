//! Sessions of earlier agents, as read from their records.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use farwire_protocol::id::Nonce;

use super::files::{self, Files};
use super::record::SessionRecord;
use super::{Session, Sessions, lines};
use crate::jobs::job::{Job, Origin};
use crate::jobs::past::{Recorded, read_all};
use crate::program::Phase;
use crate::spool::Spool;
use crate::terminal::events::What;

impl Sessions {
    /// The recorded sessions that no holder has, and whether those are all. Sessions that are held
    /// go on counting their events.
    pub(super) fn past(&self, held: &[Arc<Job>]) -> (Vec<Arc<Job>>, bool) {
        let mut past = Vec::new();
        let read = |id| match self.recall(id) {
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
        let all = read_all(&self.directory, held, read);
        past.sort_by_key(|(started, _)| *started);
        (past.into_iter().map(|(_, job)| job).collect(), all)
    }

    /// A recorded session, with the time of its request; `None` if it never began.
    fn recall(&self, id: Nonce) -> Recorded<Option<(u64, Arc<Job>)>> {
        let directory = self.files_of(id);
        match files::description::<SessionRecord>(&directory) {
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
        record: SessionRecord,
        directory: PathBuf,
    ) -> std::io::Result<Option<(u64, Arc<Job>)>> {
        let Some((record, mut past, beginning)) = record.past() else { return Ok(None) };
        let Some(owner) = record.owner() else { return Ok(None) };
        let files = Files::open(directory)?;
        // Record that it is lost.
        let _ = files.describe(&record);
        let started = record.started_ms();
        let files::Said { start, lines, bytes } = files.read_transcript();
        if let Phase::Ended { output_end, .. } = &mut past.phase {
            *output_end = start + bytes.len() as u64;
        }
        let path = self.jobs.spool_of(id);
        let spool = Spool::from_tail(start, lines, bytes, path)?;
        let (command, user) = record.program();
        let (body, asked) = (None, Duration::ZERO);
        let origin = Origin { id, owner, body, command, user, asked };
        let job = Job::from_record(origin, past, Some(beginning), spool);
        if let Some(terminal) = &job.terminal {
            terminal.events.recall(lines::read(&files.events()), 0);
            terminal.set_archived();
        }
        Ok(Some((started, job)))
    }

    /// A session goes on under this agent: its events continue to be counted.
    pub(super) fn recall_events(&self, session: &Session) {
        let Session { job, terminal } = session;
        if let Ok(files) = Files::open(self.files_of(job.id)) {
            let last = job.spool.memory().map_or(0, |memory| memory.events());
            terminal.events.recall(lines::read(&files.events()), last);
        }
        terminal.note(None, What::Recovered);
    }

    /// Removes the files of sessions that were forgotten. If that fails, the next start tries
    /// again.
    pub(super) fn remove_files(&self, forgotten: &[Arc<Job>]) {
        for job in forgotten.iter().filter(|job| job.terminal.is_some()) {
            let _ = std::fs::remove_dir_all(self.files_of(job.id));
        }
    }
}
