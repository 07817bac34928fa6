//! A holder: a small process that owns programs, and outlives the agent that requested them.
//!
//! ```text
//!     agent -- orders --> holder -- starts, waits for --> programs
//!           <- reports --        -- reads output of ----> and puts it into memory that the agent reads
//! ```
//!
//! It has no network and no keys, and parses no output of programs. It holds the programs of one
//! user; if it dies, those are all that is lost. The agent may die, or be replaced: programs and
//! their output go on, and the next agent finds the holder by its socket and learns all that it
//! holds.
//!
//! The socket is in a directory that only the agent's user can enter, and has a random name; on
//! each side the kernel says whose process is at the other end.
//!
//! A holder ends when nobody is connected and nothing is held.

mod held;
pub(crate) mod message;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use rustix::fs::{Mode, OFlags};
use tokio::net::UnixListener;
use tokio::sync::mpsc::channel;

use self::held::{Held, Told, Work};
use self::message::{ABLE, HolderOrder, HolderReport, Start, VERSION};
use crate::build::BUILD;
use crate::os::packets::{Channel, PACKET, Packet};
use crate::os::pty::Size;
use crate::os::spawn::{SpawnCommand, Stdin};
use crate::os::user::User;
use crate::os::wait;
use crate::spool::{Memory, SpoolLimits, SpoolWriter};

/// How long ended programs are kept while no agent connects.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// How long to wait for the last orders of an agent after the next one has connected. A dead agent
/// sends no more.
const REST: Duration = Duration::from_millis(100);

/// At most this many orders for one job are queued.
const ORDERS: usize = 64;

/// A time since boot, as messages have it.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The agent that is connected, if one is.
#[derive(Debug, Default)]
struct Agent {
    channel: Mutex<Option<Channel>>,
}

impl Agent {
    fn channel(&self) -> MutexGuard<'_, Option<Channel>> {
        self.channel.lock().expect("nothing panics while it is held")
    }

    /// Sends a report to the agent. If that fails, the next agent learns everything anyway.
    fn report(&self, report: &HolderReport, descriptors: &[BorrowedFd<'_>]) {
        if let Some(channel) = &*self.channel() {
            // All that is in a report has its own limit, far below that of a packet, and so have
            // their numbers.
            let _ = channel.report(cbor::encode(report), descriptors);
        }
    }
}

type Jobs = HashMap<Nonce, Arc<Held>>;

/// Holds programs for the agents that connect to this socket, until none is connected and nothing
/// is held.
pub(crate) async fn hold(listener: OwnedFd) -> io::Result<()> {
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let agent = Arc::new(Agent::default());
    let mut jobs = Jobs::new();
    loop {
        // Ended programs are kept for the next agent, but not forever.
        let Ok(channel) = tokio::time::timeout(KEEP, accept(&listener)).await else {
            match jobs.values().all(|job| job.told.is_closed()) {
                true => return Ok(()),
                false => continue,
            }
        };
        let mut channel = channel?;
        loop {
            *agent.channel() = Some(channel.clone());
            agent.report(
                &HolderReport::Hello {
                    version: VERSION,
                    build: BUILD.to_owned(),
                    able: Some(ABLE),
                },
                &[],
            );
            jobs.values().for_each(|job| job.show(&agent));
            agent.report(&HolderReport::Ready, &[]);
            tokio::select! {
                () = obey(&agent, &channel, &mut jobs) => break,
                () = channel.flush() => break,
                // A newer agent has replaced the previous one, whose orders still count.
                newer = accept(&listener) => {
                    let newer = newer?;
                    let _ = tokio::time::timeout(REST, obey(&agent, &channel, &mut jobs)).await;
                    channel = newer;
                }
            }
        }
        *agent.channel() = None;
        if jobs.is_empty() {
            return Ok(());
        }
    }
}

/// Waits for an agent.
async fn accept(listener: &UnixListener) -> io::Result<Channel> {
    loop {
        let (socket, _) = listener.accept().await?;
        let socket = socket.into_std()?;
        if let Ok(channel) = Channel::new(socket.into()) {
            return Ok(channel);
        }
    }
}

/// Carries out the orders of an agent until it is gone.
async fn obey(agent: &Arc<Agent>, channel: &Channel, jobs: &mut Jobs) {
    let mut buffer = vec![0; PACKET];
    while let Ok(Some(packet)) = channel.receive(&mut buffer).await {
        // A newer agent knows our version, and sends no order that we do not know.
        let Ok(order) = cbor::decode::<HolderOrder>(&packet.bytes, PACKET) else { continue };
        match order {
            HolderOrder::Start(start) => begin(agent, jobs, *start, packet),
            HolderOrder::Stop { job, signal } => tell(jobs, job, Told::Stop(signal)).await,
            HolderOrder::Bound { job, kept, rate } => {
                tell(jobs, job, Told::Bound { kept, rate }).await;
            }
            HolderOrder::CloseInput(job) => tell(jobs, job, Told::CloseInput).await,
            HolderOrder::Unblock(job) => {
                if let Some(held) = jobs.get(&job) {
                    // A job with orders in its queue checks for room after each of them anyway.
                    let _ = held.told.try_send(Told::Unblock);
                }
            }
            HolderOrder::Note { job, note } => {
                if let Some(held) = jobs.get(&job) {
                    held.note(note);
                }
            }
            HolderOrder::Forget(job) => drop(jobs.remove(&job)),
        }
        wait::collect_abandoned();
    }
}

/// Passes an order on to the task of a job. Waits while its queue is full.
async fn tell(jobs: &Jobs, job: Nonce, told: Told) {
    if let Some(held) = jobs.get(&job) {
        // When it has ended there is nobody to tell, nor anything to do.
        let _ = held.told.send(told).await;
    }
}

fn begin(agent: &Arc<Agent>, jobs: &mut Jobs, start: Start, packet: Packet) {
    let job = start.job;
    let memory = packet.descriptors.into_iter().next().map(Memory::open);
    let memory = match memory {
        Some(Ok(memory)) if !jobs.contains_key(&job) => memory,
        Some(Err(error)) => return refuse(agent, job, &format!("no memory: {error}")),
        _ => return refuse(agent, job, "no memory came with it, or it is already held"),
    };
    let path = PathBuf::from(text(&start.path));
    let limits =
        if start.terminal.is_some() { SpoolLimits::terminal() } else { SpoolLimits::default() };
    let limits = limits.with_total(start.kept);
    let rate = start.rate;
    let writer = SpoolWriter::new(memory.clone(), limits, path);
    let (told, orders) = channel(ORDERS);
    let held = Arc::new(Held::new(job, start.note.clone(), memory, told));
    jobs.insert(job, held.clone());
    let timeout = start.timeout_ms.map(Duration::from_millis);
    let mark = start.mark.clone();
    let size = start.terminal.map(|size| Size::new(size.cols, size.rows));
    let input = start.input.clone().map(|input| input.0);
    let command = command(start);
    let work = Work { command, size, input, timeout, mark, writer, rate, told: orders };
    tokio::spawn(held.run(agent.clone(), work));
}

fn refuse(agent: &Agent, job: Nonce, why: &str) {
    let failure = Failure::new(Kind::Internal, format!("the holder cannot take the job: {why}"));
    agent.report(&HolderReport::Failed { job, failure }, &[]);
    agent.report(&HolderReport::Finished(job), &[]);
}

fn text(bytes: &Blob) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn command(start: Start) -> SpawnCommand {
    let user = User {
        name: text(&start.user.name),
        uid: start.user.uid,
        gid: start.user.gid,
        home: text(&start.user.home).into(),
        shell: text(&start.user.shell).into(),
        groups: start.user.groups,
    };
    SpawnCommand {
        argv: start.argv.iter().map(text).collect(),
        cwd: start.cwd.as_ref().map(|cwd| text(cwd).into()),
        env: start.env.iter().map(|one| (text(&one.name), text(&one.value))).collect(),
        user: Some(user),
        stdin: if start.piped { Stdin::Pipe } else { Stdin::Null },
        terminal: start.terminal.is_some(),
        extra: start.extra.as_ref().and_then(directory),
    }
}

/// Opens a directory to give to a program. Without it the program has only its own start-up files.
fn directory(path: &Blob) -> Option<Arc<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(text(path), flags, Mode::empty()).ok().map(Arc::new)
}

/// The holder process: its socket is its standard input.
pub(crate) fn main() -> Result<(), Failure> {
    let listener = io::stdin().as_fd().try_clone_to_owned();
    let failed = |error: io::Error| Failure::new(Kind::Io, format!("the holder: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(failed)?.block_on(hold(listener.map_err(failed)?)).map_err(failed)
}
