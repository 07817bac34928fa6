//! One job as its holder has it: starts its program, reads its output, stops it, waits for its end.
//!
//! # Invariants
//!
//! - The exit is what the kernel reported, or there is none.
//! - The leader is reaped after the last signal to its group, so that no signal can hit an
//!   unrelated process with the same number.
//! - The end is reported when the leader has ended and what was in the pipes then has been read.
//!   What background children write later goes into the log, and delays nothing.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::Instant;

use super::message::{Held as Shown, HolderReport, ProgramEnd};
use super::{Agent, micros};
use crate::os::clock;
use crate::os::pty::Size;
use crate::os::spawn::{Child, SpawnCommand, spawn, spawn_on_terminal};
use crate::os::thread::{Fault, on_thread};
use crate::os::wait::Leader;
use crate::pace::Pace;
use crate::spool::{Memory, SpoolWriter};

mod pipes;
mod running;

use self::pipes::{Ends, Ours};
use self::running::Running;

/// A program that ends at once costs one wake-up of the agent: its start is reported this much
/// later, unless it wants input.
const COMPANY: Duration = Duration::from_millis(2);

/// An order to the task of a job.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    Stop(Option<i32>),
    CloseInput,
    /// How much of its output is kept, and how much it may write per second.
    Bound {
        kept: Option<u64>,
        rate: Option<u64>,
    },
    /// There may be room in the log again.
    Unblock,
}

/// What a job is to do.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) command: SpawnCommand,
    /// The size of its terminal, if it has one.
    pub(super) size: Option<Size>,
    /// All of its standard input, if that came with the request.
    pub(super) input: Option<Vec<u8>>,
    pub(super) timeout: Option<Duration>,
    /// What every process of the job has in its environment.
    pub(super) mark: String,
    pub(super) writer: SpoolWriter,
    /// How many bytes it may write per second.
    pub(super) rate: Option<u64>,
    pub(super) told: Receiver<Told>,
}

/// A job that is held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: Nonce,
    pub(super) memory: Arc<Memory>,
    pub(super) told: Sender<Told>,
    status: Mutex<HeldStatus>,
}

#[derive(Debug)]
struct HeldStatus {
    shown: Shown,
    /// Our copy of its standard input, for the next agent: without it the end of the agent would
    /// look like the end of the input.
    stdin: Option<OwnedFd>,
}

impl Held {
    pub(super) fn new(
        id: Nonce,
        note: farwire_protocol::cbor::Blob,
        memory: Arc<Memory>,
        told: Sender<Told>,
    ) -> Self {
        let (pid, at, end, failure, finished) = (0, 0, None, None, false);
        let shown = Shown { job: id, note, pid, at, end, failure, finished };
        Self { id, memory, told, status: Mutex::new(HeldStatus { shown, stdin: None }) }
    }

    fn status(&self) -> MutexGuard<'_, HeldStatus> {
        self.status.lock().expect("nothing panics while it is held")
    }

    pub(super) fn note(&self, note: farwire_protocol::cbor::Blob) {
        self.status().shown.note = note;
    }

    /// Reports its state to an agent that has just connected.
    pub(super) fn show(&self, agent: &Agent) {
        let status = self.status();
        let memory = self.memory.file();
        let mut descriptors: Vec<_> = memory.iter().map(|memory| memory.as_fd()).collect();
        descriptors.extend(status.stdin.as_ref().map(OwnedFd::as_fd));
        agent.report(&HolderReport::Held(status.shown.clone()), &descriptors);
    }

    /// Runs the job, from its start to the last byte of its output.
    pub(super) async fn run(self: Arc<Self>, agent: Arc<Agent>, work: Work) {
        let mark = work.mark.clone();
        let mut running = match self.start(&agent, work).await {
            Ok(running) => running,
            Err(failure) => return self.report_failed(&agent, failure),
        };
        let exit = running.until_exit().await;
        // The rest is no flood.
        running.rate = None;
        running.announce();
        let escaped = running.settle(&mark).await;
        running.drain().await;
        let exit = match exit {
            Ok(exit) => exit,
            Err(failure) => return self.report_failed(&agent, failure),
        };
        let output_end = running.writer.end();
        let at = micros(clock::boottime());
        let end = ProgramEnd { exit, reason: running.reason, output_end, escaped, at };
        {
            let mut status = self.status();
            status.stdin = None;
            status.shown.end = Some(end.clone());
        }
        agent.report(&HolderReport::Ended { job: self.id, end }, &[]);
        running.until_silent().await;
        running.writer.finish();
        self.report_finished(&agent);
    }

    fn report_finished(&self, agent: &Agent) {
        self.status().shown.finished = true;
        agent.report(&HolderReport::Finished(self.id), &[]);
    }

    fn report_failed(&self, agent: &Agent, failure: Failure) {
        {
            let mut status = self.status();
            status.stdin = None;
            status.shown.failure = Some(failure.clone());
        }
        agent.report(&HolderReport::Failed { job: self.id, failure }, &[]);
        self.report_finished(agent);
    }

    async fn start<'a>(&'a self, agent: &'a Agent, work: Work) -> Result<Running<'a>, Failure> {
        let Work { command, size, input, timeout, writer, rate, told, .. } = work;
        // Its directory or its file may be on a file system that does not respond; other programs
        // go on meanwhile.
        let spawned = on_thread(move || match size {
            Some(size) => {
                let (leader, master) = spawn_on_terminal(&command, size)?;
                Ok((leader, Ours { stdin: None, stdout: master, stderr: None }))
            }
            None => {
                let child = spawn(&command)?;
                let Child { leader, stdin, stdout, stderr } = child;
                Ok::<_, Failure>((leader, Ours { stdin, stdout, stderr: Some(stderr) }))
            }
        });
        let (leader, ends) = spawned.await.map_err(not_spawned)??;
        // From here on it runs.
        let ends = Ends::attend(ends, input).map_err(|error| abandoned(&leader, &error))?;
        let Ends { stdin, feed, stdout, stderr } = ends;
        let mut running = Running {
            held: self,
            agent,
            writer,
            rate,
            pace: Pace::default(),
            told,
            leader: Arc::new(leader),
            terminal: size.is_some(),
            feed,
            stdout: Some(stdout),
            stderr,
            deadline: timeout.map(|timeout| Instant::now() + timeout),
            ladder: None,
            all: false,
            reason: None,
            announce: Some(Instant::now() + COMPANY),
        };
        let (pid, at) = (running.leader.pid(), micros(clock::boottime()));
        let mut status = self.status();
        (status.shown.pid, status.shown.at) = (pid, at);
        status.stdin = stdin;
        let waited_for = status.stdin.is_some();
        drop(status);
        if waited_for {
            running.announce();
        }
        running.feed();
        Ok(running)
    }
}

/// The failure of a program for which there is no thread.
fn not_spawned(fault: Fault) -> Failure {
    match fault {
        Fault::NoThread(error) => {
            let text = format!("cannot start another process: no thread can be started: {error}");
            Failure::new(Kind::ResourceExhausted, text)
        }
        Fault::Died => Failure::new(Kind::OutcomeUnknown, "the thread that starts it has failed"),
    }
}

/// Kills a program that was started and cannot be looked after. It may have done something, so the
/// failure never says that it was not started.
fn abandoned(leader: &Leader, error: &io::Error) -> Failure {
    let killed = match leader.signal_group(libc::SIGKILL) {
        Ok(()) => "it was killed",
        Err(failure) if failure.kind == Kind::AlreadyEnded => "it had ended",
        Err(_) => "it may go on",
    };
    let text =
        format!("the program was started, but its output could not be read ({error}); {killed}");
    Failure::new(Kind::OutcomeUnknown, text)
        .with_hint("check whether it has done something before you run it again")
}

#[cfg(test)]
mod tests {
    use farwire_protocol::streams::run::Exit;

    use super::*;
    use crate::os::spawn::Stdin;

    #[tokio::test]
    async fn a_program_that_cannot_be_attended_to_is_killed_and_said_to_have_been_started() {
        let command = SpawnCommand {
            argv: ["/bin/sleep", "600"].map(Into::into).into(),
            cwd: Some("/".into()),
            env: Vec::new(),
            user: None,
            stdin: Stdin::Null,
            terminal: false,
            extra: None,
        };
        let child = spawn(&command).unwrap();
        // A file, which no runtime can wait for.
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        let ends =
            Ends::attend(Ours { stdin: None, stdout: file, stderr: Some(child.stderr) }, None);
        let failure = ends.map(drop).map_err(|error| abandoned(&child.leader, &error)).unwrap_err();
        assert_eq!(failure.kind, Kind::OutcomeUnknown, "{failure}");
        assert!(failure.message.contains("was started") && failure.message.contains("killed"));
        assert_eq!(child.leader.exited().await.unwrap(), Exit::Signal(9));
    }
}
