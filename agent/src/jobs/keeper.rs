//! Looks after sessions once a second: what only time changes, what is written down, and screens that nobody looks at.
//!
//! Nobody who types or reads waits for it. What is written is written by a thread that may wait for a disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::jobs::files::Files;
use crate::jobs::job::Job;
use crate::jobs::record::Record;
use crate::jobs::{Jobs, lines};
use crate::os::clock::boottime;
use crate::terminal::Terminal;
use crate::terminal::events::What;

/// How often.
const EVERY: Duration = Duration::from_secs(1);

/// Whether the files of a session are written.
#[derive(Debug, Default)]
pub(crate) enum Kept {
    /// They will be.
    #[default]
    Not,
    /// They will be, and could not be when that was tried last.
    Failed,
    /// They are; this is what has been said of the session, so that it is said again when it changes.
    Now(Files, String),
    /// All that there is to write is written.
    Over,
}

/// Looks after all sessions, for as long as the agent lives.
pub(crate) async fn keep(jobs: Arc<Jobs>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = boottime();
        let sessions = jobs.kept_sessions();
        for (job, terminal) in &sessions {
            tick(job, terminal, now);
        }
        let forgotten = jobs.forget_ended();
        let jobs = jobs.clone();
        let written = tokio::task::spawn_blocking(move || {
            for (job, terminal) in &sessions {
                terminal.put_away();
                write(&jobs, job, terminal);
            }
            jobs.remove_files(&forgotten);
        });
        // It dies only with the agent.
        let _ = written.await;
    }
}

fn tick(job: &Arc<Job>, terminal: &Terminal, now: Duration) {
    if job.ended() {
        return;
    }
    let changed = terminal.hands().tick(now);
    terminal.settle(job, None);
    if changed {
        terminal.tell_hands();
    }
    terminal.events.tick(now);
    terminal.count_events(job);
    let idle = terminal.idle(job, now);
    let limit = terminal.filed().limits.idle_ms.map(Duration::from_millis);
    if limit.is_some_and(|limit| idle >= limit) && terminal.close_once() {
        terminal.note(job, None, What::Closed);
        // The warning is all that can be done.
        let _ = job.stop(None);
    }
}

/// Writes down what there is to write of a session.
fn write(jobs: &Jobs, job: &Arc<Job>, terminal: &Terminal) {
    let mut kept = terminal.kept();
    // What was said last, and that it has ended, comes a moment after the end.
    let ended = job.ended_for().is_some_and(|ago| ago > EVERY / 2);
    if ended && job.state().exit.is_none() && terminal.filed().lost.is_none() {
        // It never was. What cannot be removed is removed by the next agent.
        let _ = std::fs::remove_dir_all(jobs.files_of(job.id));
        *kept = Kept::Over;
    }
    let failed = matches!(*kept, Kept::Failed);
    let written = match &mut *kept {
        Kept::Over => return,
        Kept::Not | Kept::Failed => Files::open(jobs.files_of(job.id)).map(|files| {
            *kept = Kept::Now(files, String::new());
        }),
        Kept::Now(..) => Ok(()),
    };
    let written = written.and_then(|()| match &mut *kept {
        Kept::Now(files, said) => put(files, said, job, terminal, ended),
        _ => Ok(()),
    });
    match written {
        Ok(()) if ended => *kept = Kept::Over,
        Ok(()) => {}
        Err(error) => {
            if !failed {
                tracing::warn!(job = %job.id, %error, "a session cannot be written down yet");
            }
            *kept = Kept::Failed;
        }
    }
}

fn put(
    files: &mut Files,
    said: &mut String,
    job: &Job,
    terminal: &Terminal,
    ended: bool,
) -> std::io::Result<()> {
    let events = terminal.events.unwritten(ended);
    if !events.is_empty() {
        files.add_events(&lines::write(&events))?;
    }
    files.follow(&job.spool)?;
    if let Some(record) = Record::of(job) {
        let now = record.kept();
        if *said != now {
            files.describe(&record)?;
            *said = now;
        }
    }
    Ok(())
}
