//! Looks after sessions once a second: what changes with time alone, their files, and the screens
//! that nobody looks at.
//!
//! Nobody who types or reads waits for it. A blocking thread writes the files.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::files::Files;
use super::record::SessionRecord;
use super::{Session, Sessions, lines};
use crate::os::clock::boottime;
use crate::terminal::events::What;

/// How often.
const EVERY: Duration = Duration::from_secs(1);

/// Whether the files of a session are written.
#[derive(Debug, Default)]
enum Archive {
    /// They will be.
    #[default]
    Unopened,
    /// They will be, and the last attempt failed.
    Failed,
    /// Being written.
    Open {
        files: Files,
        /// The last description, to rewrite it only when it changes.
        described: String,
    },
}

/// Looks after all sessions, for as long as the agent lives.
pub(super) async fn keep(sessions: Arc<Sessions>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut archives = HashMap::new();
    loop {
        ticks.tick().await;
        let now = boottime();
        let all = sessions.all();
        for session in &all {
            tick(session, now);
        }
        let forgotten = sessions.jobs.forget_ended();
        let (kept, mut open) = (sessions.clone(), std::mem::take(&mut archives));
        let written = tokio::task::spawn_blocking(move || {
            // What is not put back belongs to a session that is forgotten or completely written.
            let mut still_open = HashMap::with_capacity(open.len());
            for session in &all {
                session.terminal.put_away();
                if session.terminal.is_archived() {
                    continue;
                }
                let archive = open.remove(&session.job.id).unwrap_or_default();
                if let Some(archive) = write(&kept, session, archive) {
                    still_open.insert(session.job.id, archive);
                }
            }
            kept.jobs.remove_runs(&forgotten);
            kept.remove_files(&forgotten);
            still_open
        });
        // The thread dies only with the agent.
        archives = written.await.unwrap_or_default();
    }
}

fn tick(Session { job, terminal }: &Session, now: Duration) {
    if job.has_ended() {
        return;
    }
    let changed = terminal.typing().arbiter.tick(now);
    terminal.settle(None);
    if changed {
        terminal.tell_rights();
    }
    terminal.events.tick(now);
    terminal.count_events();
    let idle = terminal.idle(now);
    let limit = terminal.filing().limits.idle_ms.map(Duration::from_millis);
    if limit.is_some_and(|limit| idle >= limit) && terminal.close_once() {
        terminal.note(None, What::Closed);
        // The warning is all that can be done.
        let _ = job.stop(None);
    }
}

/// Writes what is new of a session. Returns its files, unless all is written.
fn write(sessions: &Sessions, session: &Session, archive: Archive) -> Option<Archive> {
    let Session { job, terminal } = session;
    // The last output and event come a moment after the end.
    let ended = job.ended_for().is_some_and(|ago| ago > EVERY / 2);
    if ended && job.state().exit.is_none() && terminal.filing().lost.is_none() {
        // It never started: delete its directory. If that fails, the next agent does.
        let _ = std::fs::remove_dir_all(sessions.files_of(job.id));
        terminal.set_archived();
        return None;
    }
    let failed = matches!(archive, Archive::Failed);
    let written = match archive {
        Archive::Open { files, described } => Ok((files, described)),
        Archive::Unopened | Archive::Failed => {
            Files::open(sessions.files_of(job.id)).map(|files| (files, String::new()))
        }
    };
    let written = written.and_then(|(mut files, mut described)| {
        write_changes(&mut files, &mut described, session, ended)?;
        Ok(Archive::Open { files, described })
    });
    match written {
        Ok(_) if ended => {
            terminal.set_archived();
            None
        }
        Ok(open) => Some(open),
        Err(error) => {
            if !failed {
                tracing::warn!(job = %job.id, %error, "a session cannot be stored yet");
            }
            Some(Archive::Failed)
        }
    }
}

fn write_changes(
    files: &mut Files,
    described: &mut String,
    session: &Session,
    ended: bool,
) -> std::io::Result<()> {
    let events = session.terminal.events.unwritten(ended);
    if !events.is_empty() {
        files.add_events(&lines::write(&events))?;
    }
    files.follow(&session.job.spool)?;
    let record = SessionRecord::of(session);
    let now = record.change_key();
    if *described != now {
        files.describe(&record)?;
        *described = now;
    }
    Ok(())
}
