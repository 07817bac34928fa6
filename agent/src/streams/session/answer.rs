//! How the question about a session is answered: with how the session is now, and the lists that
//! were asked for.

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

/// A terminal that has said nothing for so long, and waits, is done.
pub(super) const QUIET: Duration = Duration::from_millis(120);
/// A list in an answer has at most this many bytes: with how the session is, it is one frame.
pub(super) const LARGEST: usize = 8 << 10;

/// Nobody waits longer for how a screen is now, who does not ask for it.
pub(crate) const DRAWN: Duration = Duration::from_millis(250);

/// How a session is now.
pub(super) async fn state_of(session: &Session, who: &Principal) -> Result<Ended, Failure> {
    let Session { job, terminal } = session;
    // What takes long to draw is told as it was seen last.
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

/// Where the log of a session that has ended ends.
pub(super) fn over_at(job: &Job) -> Option<u64> {
    job.ended().then(|| job.spool.stats().end)
}

/// A command as it is told. `over` is where the log ends, if the terminal has ended: what ran there
/// ended with it.
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
