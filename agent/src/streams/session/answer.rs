//! The answer to a question about a session: its current state, and the requested lists.

use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::session::{Command, Ended};
use tokio::time::timeout;

use crate::gate::principal::Principal;
use crate::jobs::job::Job;
use crate::sessions::Session;
use crate::terminal::marks;

/// A terminal that waits, and has been silent for this long, is done.
pub(super) const QUIET: Duration = Duration::from_millis(120);
/// A list in an answer has at most this many bytes: with the state of the session it fits one
/// frame.
pub(super) const LARGEST: usize = 8 << 10;

/// The longest wait for an up-to-date screen in answers that do not ask for it.
pub(crate) const DRAWN: Duration = Duration::from_millis(250);

/// The current state of a session.
pub(super) async fn state_of(session: &Session, who: &Principal) -> Result<Ended, Failure> {
    let Session { job, terminal } = session;
    // A screen that takes long to draw is reported as last seen.
    let _ = timeout(DRAWN, terminal.draw()).await;
    Ok(Ended {
        state: job.state(),
        status: terminal.status(who, true),
        because: None,
        command: None,
        commands: None,
        offset: job.spool.stats().end,
        omitted: None,
        events: None,
        typed: None,
        left: None,
        more: None,
        interrupted: None,
    })
}

/// Where the log of a session ends, if the session has ended.
pub(super) fn over_at(job: &Job) -> Option<u64> {
    job.has_ended().then(|| job.spool.stats().end)
}

/// The wire form of a command. `over` is where the log ends, if the terminal has ended: what ran
/// there ended with it.
pub(super) fn show(command: &marks::ShellCommand, over: Option<u64>) -> Command {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Command {
        number: command.number,
        text: command.text.clone(),
        duration_ms: command.duration().map(millis),
        age_ms: command.age().map(millis),
        exit: command.exit,
        start: command.start,
        end: command.end.or(over),
        cwd: command.cwd.as_ref().map(|cwd| Blob(cwd.as_os_str().as_bytes().to_vec())),
    }
}
