//! One holder process, as this agent sees it: its channel, its jobs, and its reports on them.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;

use super::finished::Finished;
use crate::holder::message::{ABLE, Held, HolderOrder, HolderReport, Start, VERSION};
use crate::jobs::job::{Adopted, Conversations, Job, JobPlan};
use crate::os::packets::{Channel, PACKET, Packet};
use crate::os::wait::Leader;
use crate::program::holding::Orders;
use crate::spool::Memory;

/// One holder has at most this many jobs.
const JOBS: usize = 64;

/// One holder.
#[derive(Debug)]
pub(crate) struct Holder {
    name: String,
    channel: Channel,
    /// The id of the user whose programs it holds, once it holds any.
    user: Mutex<Option<u32>>,
    jobs: Mutex<HashMap<Nonce, Arc<Job>>>,
    gone: AtomicBool,
    /// It is an older build, and gets no new jobs.
    old: AtomicBool,
    /// Reaps the process when it has ended; holders of earlier agents are reaped by others.
    _leader: Option<Leader>,
    finished: Arc<Finished>,
}

/// A job that a holder had before we came.
#[derive(Debug)]
pub(crate) struct HeldJob {
    pub(crate) held: Held,
    pub(crate) memory: Arc<Memory>,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) holder: Arc<Holder>,
}

/// The failure of an order that has not reached its holder, and never will.
fn not_sent(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::WouldBlock {
        let text = "the process that holds the programs accepts no orders; this one was not sent";
        return Failure::new(Kind::Busy, text).with_hint("try again later");
    }
    let text = "the command is too long, with its environment and input";
    Failure::caused(Kind::TooLarge, text, error)
}

impl Holder {
    pub(super) fn new(
        name: String,
        channel: Channel,
        leader: Option<Leader>,
        finished: Arc<Finished>,
    ) -> Self {
        let (user, jobs) = (Mutex::default(), Mutex::default());
        let (gone, old) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { name, channel, user, jobs, gone, old, _leader: leader, finished }
    }

    /// Whether it takes one more program of this user; or of any, if that is `None`.
    pub(super) fn takes(&self, user: Option<u32>) -> bool {
        *lock(&self.user) == user
            && lock(&self.jobs).len() < JOBS
            && !self.gone.load(Ordering::Relaxed)
            && !self.old.load(Ordering::Relaxed)
    }

    /// Has it start a job with this plan.
    pub(super) fn start(self: &Arc<Self>, job: &Arc<Job>, plan: &JobPlan) -> Result<(), Failure> {
        let memory = job.spool.memory().ok_or_else(|| {
            Failure::new(Kind::Internal, "the log of a job that has not begun is finished")
        })?;
        let path = Blob(job.spool.path().as_os_str().as_bytes().to_vec());
        let start = Start { path, note: job.note(plan.start.user.uid)?, ..plan.start.clone() };
        let order = HolderOrder::Start(Box::new(start));
        let orders: Weak<dyn Orders> = Arc::downgrade(&(self.clone() as Arc<dyn Orders>));
        job.program.assign(orders)?;
        lock(&self.jobs).insert(job.id, job.clone());
        let file = memory.file();
        let descriptors: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
        let sent = self.channel.send(cbor::encode(&order), &descriptors);
        memory.let_go_of_file();
        sent.map_err(|error| {
            lock(&self.jobs).remove(&job.id);
            job.program.unassign();
            not_sent(&error)
        })
    }

    /// Adds a job that this holder had before.
    fn keep(self: &Arc<Self>, job: &Arc<Job>, user: u32) {
        *lock(&self.user) = Some(user);
        lock(&self.jobs).insert(job.id, job.clone());
    }

    /// Reads its first messages: who it is, and what it holds.
    pub(super) async fn introduction(self: &Arc<Self>) -> io::Result<Vec<HeldJob>> {
        let mut buffer = vec![0; PACKET];
        let mut found = Vec::new();
        let mut greeted = false;
        loop {
            let packet = self.channel.receive(&mut buffer).await?;
            let packet = packet.ok_or_else(|| io::Error::other("it has ended"))?;
            let report =
                cbor::decode::<HolderReport>(&packet.bytes, PACKET).map_err(io::Error::other)?;
            match report {
                HolderReport::Hello { version: VERSION, able, .. } => {
                    greeted = true;
                    self.old.store(able.unwrap_or(0) < ABLE, Ordering::Relaxed);
                }
                HolderReport::Hello { version, build, .. } => {
                    let text = format!("incompatible_version: it is {build} and speaks {version}");
                    return Err(io::Error::other(text));
                }
                HolderReport::Held(held) if greeted => {
                    let mut descriptors = packet.descriptors.into_iter();
                    let memory = descriptors.next().map(Memory::open).transpose()?;
                    let memory = memory.ok_or_else(|| io::Error::other("a log without memory"))?;
                    memory.let_go_of_file();
                    let (stdin, holder) = (descriptors.next(), self.clone());
                    found.push(HeldJob { held, memory, stdin, holder });
                }
                HolderReport::Ready if greeted => return Ok(found),
                _ => return Err(io::Error::other("it sent an unexpected message")),
            }
        }
    }

    /// Passes on its reports until it is gone.
    pub(super) async fn listen(self: &Arc<Self>) {
        let mut buffer = vec![0; PACKET];
        while let Ok(Some(packet)) = self.channel.receive(&mut buffer).await {
            match cbor::decode::<HolderReport>(&packet.bytes, PACKET) {
                Ok(report) => self.hear(report, packet),
                Err(error) => tracing::warn!(%error, "a message of a holder is malformed"),
            }
        }
    }

    fn hear(self: &Arc<Self>, report: HolderReport, packet: Packet) {
        let find = |id: Nonce| lock(&self.jobs).get(&id).cloned();
        match report {
            HolderReport::Hello { .. } | HolderReport::Held(_) | HolderReport::Ready => {}
            HolderReport::Started { job, pid, at } => {
                if let Some(job) = find(job) {
                    job.program.set_started(pid, at, packet.descriptors.into_iter().next());
                }
            }
            HolderReport::Grown(job) => {
                if let Some(job) = find(job) {
                    job.spool.poke();
                }
            }
            HolderReport::Failed { job, failure } => {
                if let Some(job) = find(job) {
                    job.program.set_failed(failure);
                }
            }
            HolderReport::Ended { job, end } => {
                if let Some(job) = find(job) {
                    job.program.set_ended(&end);
                }
            }
            HolderReport::Finished(id) => self.finish(id),
        }
    }

    /// Nobody writes to a job's log any more: we keep it from now on, once it is recorded.
    fn finish(self: &Arc<Self>, id: Nonce) {
        let job = lock(&self.jobs).remove(&id);
        // A job that we could not take over stays with its holder: the next agent may be able to.
        let Some(job) = job else { return };
        job.spool.finish();
        job.forget_conversations();
        self.finished.add(Some(self.clone()), job);
    }

    /// Sends what waits for room. Never ends.
    pub(super) async fn flush(&self) {
        self.channel.flush().await;
    }

    /// Records that its process is gone: it gets no new jobs.
    pub(super) fn set_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Takes all jobs that it holds from it.
    pub(super) fn take_jobs(&self) -> Vec<Arc<Job>> {
        std::mem::take(&mut *lock(&self.jobs)).into_values().collect()
    }

    /// The name of its socket.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Records that it holds programs of this user from now on. Returns the user before.
    pub(super) fn set_user(&self, user: u32) -> Option<u32> {
        lock(&self.user).replace(user)
    }
}

impl Orders for Holder {
    fn order(&self, order: &HolderOrder) -> Result<(), Failure> {
        let bytes = cbor::encode(order);
        let sent = match order {
            // One for each job is enough, and each must arrive.
            HolderOrder::CloseInput(_) | HolderOrder::Unblock(_) | HolderOrder::Forget(_) => {
                self.channel.send_once(bytes)
            }
            _ => self.channel.send(bytes, &[]),
        };
        sent.map_err(|error| {
            tracing::warn!(%error, "an order could not be sent");
            not_sent(&error)
        })
    }

    fn user(&self) -> Option<u32> {
        *lock(&self.user)
    }
}

impl HeldJob {
    /// Takes over the job. Output that does not fit its memory is in a file at `path`. Also returns
    /// the conversations about it.
    pub(crate) fn adopt(self, path: PathBuf) -> Result<(Arc<Job>, Conversations), Failure> {
        let Self { held, memory, stdin, holder } = self;
        let orders: Weak<dyn Orders> = Arc::downgrade(&(holder.clone() as Arc<dyn Orders>));
        let input = stdin.as_ref().map(AsFd::as_fd);
        let Adopted { job, user, conversations } =
            Job::adopted(&held, orders, memory, input, path)?;
        holder.keep(&job, user);
        if held.pid > 0 {
            job.program.set_started(held.pid, held.at, stdin);
        }
        if let Some(failure) = held.failure {
            job.program.set_failed(failure);
        }
        if let Some(end) = &held.end {
            job.program.set_ended(end);
        }
        if held.finished {
            holder.finish(job.id);
        }
        Ok((job, conversations))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}
