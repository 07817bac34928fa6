//! The holder processes of this agent: which there are, and what they hold.
//!
//! A job is placed with a holder of its user that has room. One holder without a user is kept ready,
//! so that starting a program costs its start and nothing more. Holders of an earlier agent are taken
//! over by [`Holders::adopt`].

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::holder::message::{ABLE, Held, Order, Report, Start, VERSION};
use crate::jobs::job::{Job, Plan};
use crate::os::ourselves;
use crate::os::packets::{Channel, PACKET, Packet};
use crate::os::wait::Leader;
use crate::spool::Memory;

/// So many jobs one holder has at most.
const JOBS: usize = 64;

/// How long a holder of an earlier agent may take to say what it holds.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a holder is tried again to which too many are connected.
const LOOK: Duration = Duration::from_millis(50);

/// The next holder is made ready when the one before has been busy for so long with its first job.
const SPARE: Duration = Duration::from_millis(100);

/// How a holder is started that listens on a socket.
pub(crate) type Launch = fn(&Path, OwnedFd) -> Result<Option<Leader>, Failure>;

/// All holders.
#[derive(Debug)]
pub(crate) struct Holders {
    state: PathBuf,
    directory: OwnedFd,
    launch: Launch,
    all: Mutex<Vec<Arc<Holder>>>,
    /// Holders of the agent before, which nobody listens to yet.
    taken: Mutex<Vec<Arc<Holder>>>,
    /// Jobs that are to be written down.
    pub(crate) finished: Arc<Finished>,
}

/// Jobs of which all is known, and that are not written down yet. As many as run can be among them, and those
/// that ended while the last ones were written.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    all: Mutex<Vec<ToWrite>>,
    more: Notify,
}

/// So long a job that has ended is left with its holder.
const GATHERED: Duration = Duration::from_millis(50);

/// A job that is to be written down, with the holder that keeps it until then.
pub(crate) type ToWrite = (Option<Arc<Holder>>, Arc<Job>);

impl Finished {
    /// Adds a job, with the holder that keeps it until it is written down.
    pub(crate) fn add(&self, holder: Option<Arc<Holder>>, job: Arc<Job>) {
        lock(&self.all).push((holder, job));
        self.more.notify_one();
    }

    /// Waits for some, and takes them. They are answered first, and what ends soon after is taken with them.
    pub(crate) async fn take(&self) -> Vec<ToWrite> {
        loop {
            // Whoever has dropped this before has left some.
            if lock(&self.all).is_empty() {
                self.more.notified().await;
            }
            sleep(GATHERED).await;
            let all = std::mem::take(&mut *lock(&self.all));
            if !all.is_empty() {
                return all;
            }
        }
    }
}

/// One holder.
#[derive(Debug)]
pub(crate) struct Holder {
    name: String,
    channel: Channel,
    /// Whose programs it holds, once it holds any.
    user: Mutex<Option<u32>>,
    jobs: Mutex<HashMap<Nonce, Arc<Job>>>,
    gone: AtomicBool,
    /// It is of an older build, and gets nothing new.
    old: AtomicBool,
    /// Collects the process when it has ended; holders of earlier agents are collected by others.
    _leader: Option<Leader>,
    finished: Arc<Finished>,
}

/// A job that a holder had before we came.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) held: Held,
    pub(crate) memory: Arc<Memory>,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) holder: Arc<Holder>,
}

/// What was taken over from an earlier agent.
#[derive(Debug, Default)]
pub(crate) struct Adopted {
    pub(crate) jobs: Vec<Found>,
    /// There are holders with whom we cannot speak. What they hold goes on without us.
    pub(crate) left_alone: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}

/// Starts a holder as a process of its own.
pub(crate) fn process(state: &Path, socket: OwnedFd) -> Result<Option<Leader>, Failure> {
    let arguments = ["holder".into(), "--state".into(), state.as_os_str().to_owned()];
    let failed = |error: io::Error| Failure::new(Kind::ResourceExhausted, error.to_string());
    ourselves::start(arguments, socket.as_fd(), failed).map(Some)
}

impl Holders {
    /// Those below this state directory. Starts and asks none.
    pub(crate) fn open(state: &Path, launch: Launch) -> Result<Self, Failure> {
        let path = state.join("holders");
        let failed =
            |error: io::Error| Failure::new(Kind::Io, format!("{}: {error}", path.display()));
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&path).map_err(failed)?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let directory = rustix::fs::open(&path, flags, Mode::empty());
        let directory = directory.map_err(|error| failed(error.into()))?;
        let (state, all) = (state.to_path_buf(), Mutex::default());
        let taken = Mutex::default();
        Ok(Self { state, directory, launch, all, taken, finished: Arc::default() })
    }

    /// The address of a socket here. By way of the open directory: the path itself may be longer than
    /// an address can be.
    fn address(&self, name: &str) -> io::Result<SocketAddrUnix> {
        use std::os::fd::AsRawFd as _;
        if cfg!(target_os = "linux") {
            let number = self.directory.as_raw_fd();
            return Ok(SocketAddrUnix::new(format!("/proc/self/fd/{number}/{name}"))?);
        }
        Ok(SocketAddrUnix::new(self.state.join("holders").join(name))?)
    }

    fn socket() -> io::Result<OwnedFd> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        Ok(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
    }

    /// Connects, without waiting: [`io::ErrorKind::WouldBlock`] if so many wait for the holder already.
    fn connect(&self, name: &str) -> io::Result<Channel> {
        let socket = Self::socket()?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        rustix::net::connect(&socket, &self.address(name)?)?;
        Channel::new(socket)
    }

    /// Takes over the holders of an earlier agent, and gives what they hold. All are asked at once: those that do
    /// not answer cost one [`PATIENCE`] together.
    pub(crate) async fn adopt(self: &Arc<Self>) -> Adopted {
        let mut found = Adopted::default();
        let entries = rustix::fs::Dir::read_from(&self.directory).into_iter().flatten();
        let names = entries.filter_map(|entry| {
            let name = entry.ok()?.file_name().to_str().ok()?.to_owned();
            (!name.starts_with('.')).then_some(name)
        });
        let mut asked = JoinSet::new();
        for name in names.collect::<Vec<_>>() {
            let holders = self.clone();
            asked.spawn(async move { (holders.take_over(&name).await, name) });
        }
        while let Some(answered) = asked.join_next().await {
            match answered {
                Ok((Ok(mut held), _)) => found.jobs.append(&mut held),
                Err(_) => found.left_alone = true,
                Ok((Err(error), name)) => {
                    tracing::warn!(holder = name, %error, "a holder is left alone");
                    found.left_alone = true;
                }
            }
        }
        found
    }

    async fn take_over(self: &Arc<Self>, name: &str) -> io::Result<Vec<Found>> {
        let silent = || io::Error::other("it does not answer");
        let deadline = Instant::now() + PATIENCE;
        let connected = timeout_at(deadline, async {
            loop {
                match self.connect(name) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(LOOK).await,
                    connected => return connected,
                }
            }
        });
        let channel = match connected.await.map_err(|_| silent())? {
            Ok(channel) => channel,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // Its process is gone.
                rustix::fs::unlinkat(&self.directory, name, rustix::fs::AtFlags::empty())?;
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let holder = Arc::new(Holder::new(name.to_owned(), channel, (None, &self.finished)));
        let told = timeout_at(deadline, holder.told()).await;
        let found = told.map_err(|_| silent())??;
        lock(&self.all).push(holder.clone());
        lock(&self.taken).push(holder);
        Ok(found)
    }

    /// Listens to the holders of the agent before, once their jobs are known here: what a holder says of a job that
    /// nobody knows is lost, its end too.
    pub(crate) fn attend_taken(self: &Arc<Self>) {
        for holder in std::mem::take(&mut *lock(&self.taken)) {
            let holders = self.clone();
            tokio::spawn(async move { holders.attend(holder).await });
        }
    }

    /// Makes sure that a holder is ready for a user's first program.
    pub(crate) fn make_ready(self: &Arc<Self>) {
        if lock(&self.all).iter().any(|holder| holder.takes(None)) {
            return;
        }
        if let Err(failure) = self.launch() {
            tracing::warn!(%failure, "no holder can be made ready");
        }
    }

    fn launch(self: &Arc<Self>) -> Result<Arc<Holder>, Failure> {
        let failed = |error: io::Error| {
            Failure::new(Kind::ResourceExhausted, format!("cannot start a holder: {error}"))
        };
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| failed(io::Error::other(error)))?;
        let name = data_encoding::HEXLOWER.encode(&random);
        let listen = || {
            let socket = Self::socket()?;
            rustix::net::bind(&socket, &self.address(&name)?)?;
            rustix::net::listen(&socket, 4)?;
            Ok(socket)
        };
        let socket = listen().map_err(failed)?;
        let leader = (self.launch)(&self.state, socket)?;
        // Connected before the process listens to it: what we say waits for it.
        let channel = self.connect(&name).map_err(failed)?;
        let holder = Arc::new(Holder::new(name, channel, (leader, &self.finished)));
        lock(&self.all).push(holder.clone());
        let (holders, attended) = (self.clone(), holder.clone());
        tokio::spawn(async move { holders.attend(attended).await });
        Ok(holder)
    }

    /// Listens to a holder until it is gone.
    async fn attend(self: Arc<Self>, holder: Arc<Holder>) {
        tokio::select! {
            () = holder.listen() => {}
            () = holder.channel.flush() => {}
        }
        holder.gone.store(true, Ordering::Relaxed);
        lock(&self.all).retain(|other| !Arc::ptr_eq(other, &holder));
        let jobs = std::mem::take(&mut *lock(&holder.jobs));
        for job in jobs.into_values() {
            tracing::warn!(job = %job.id, "the process that held it has ended");
            job.lost();
            self.finished.add(None, job);
        }
        // The next agent need not look for it.
        let none = rustix::fs::AtFlags::empty();
        let _ = rustix::fs::unlinkat(&self.directory, holder.name.as_str(), none);
    }

    /// Has a job started by a holder of its user.
    pub(crate) fn start(self: &Arc<Self>, job: &Arc<Job>, plan: &Plan) -> Result<(), Failure> {
        let user = plan.start.user.uid;
        let with_room = {
            let all = lock(&self.all);
            let own = all.iter().find(|holder| holder.takes(Some(user)));
            own.or_else(|| all.iter().find(|holder| holder.takes(None))).cloned()
        };
        let holder = match with_room {
            Some(holder) => holder,
            None => self.launch()?,
        };
        if lock(&holder.user).replace(user).is_none() {
            let holders = self.clone();
            tokio::spawn(async move {
                sleep(SPARE).await;
                holders.make_ready();
            });
        }
        holder.start(job, plan)
    }
}

/// Why an order has not reached its holder, and never will.
fn not_sent(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::WouldBlock {
        let text = "the process that holds the programs takes no orders; this one was not given";
        return Failure::new(Kind::Busy, text).with_hint("try again later");
    }
    let text = "the command is too long with its environment and input";
    Failure::caused(Kind::TooLarge, text, error)
}

impl Holder {
    fn new(
        name: String,
        channel: Channel,
        (leader, finished): (Option<Leader>, &Arc<Finished>),
    ) -> Self {
        let (user, jobs) = (Mutex::default(), Mutex::default());
        let (gone, old) = (AtomicBool::new(false), AtomicBool::new(false));
        let finished = finished.clone();
        Self { name, channel, user, jobs, gone, old, _leader: leader, finished }
    }

    /// Whether it takes one more program of this user, or of any.
    fn takes(&self, user: Option<u32>) -> bool {
        *lock(&self.user) == user
            && lock(&self.jobs).len() < JOBS
            && !self.gone.load(Ordering::Relaxed)
            && !self.old.load(Ordering::Relaxed)
    }

    /// Sends an order. Whether it is carried out shows in reports.
    ///
    /// # Errors
    ///
    /// [`Kind::Busy`] if the holder has taken no orders for long, and this one is not given.
    pub(crate) fn order(&self, order: &Order) -> Result<(), Failure> {
        let bytes = cbor::encode(order);
        let sent = match order {
            // One for each job is enough, and each has to arrive.
            Order::CloseInput(_) | Order::Unblock(_) | Order::Forget(_) => {
                self.channel.send_once(bytes)
            }
            _ => self.channel.send(bytes, &[]),
        };
        sent.map_err(|error| {
            tracing::warn!(%error, "an order could not be given");
            not_sent(&error)
        })
    }

    fn start(self: &Arc<Self>, job: &Arc<Job>, plan: &Plan) -> Result<(), Failure> {
        let memory = job.spool.memory().ok_or_else(|| {
            Failure::new(Kind::Internal, "the log of a job that has not begun is finished")
        })?;
        let path = Blob(job.spool.path().as_os_str().as_bytes().to_vec());
        let start = Start { path, note: job.note(plan.start.user.uid)?, ..plan.start.clone() };
        let order = Order::Start(Box::new(start));
        job.held_by(self)?;
        lock(&self.jobs).insert(job.id, job.clone());
        let file = memory.file();
        let descriptors: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
        let sent = self.channel.send(cbor::encode(&order), &descriptors);
        memory.let_go_of_file();
        sent.map_err(|error| {
            lock(&self.jobs).remove(&job.id);
            job.let_go();
            not_sent(&error)
        })
    }

    /// Adds a job that this holder had before.
    pub(crate) fn keep(self: &Arc<Self>, job: &Arc<Job>, user: u32) {
        *lock(&self.user) = Some(user);
        lock(&self.jobs).insert(job.id, job.clone());
    }

    /// What it says first: who it is, and what it holds.
    async fn told(self: &Arc<Self>) -> io::Result<Vec<Found>> {
        let mut buffer = vec![0; PACKET];
        let mut found = Vec::new();
        let mut greeted = false;
        loop {
            let packet = self.channel.receive(&mut buffer).await?;
            let packet = packet.ok_or_else(|| io::Error::other("it has ended"))?;
            let report = cbor::decode::<Report>(&packet.bytes, PACKET).map_err(io::Error::other)?;
            match report {
                Report::Hello { version: VERSION, able, .. } => {
                    greeted = true;
                    self.old.store(able.unwrap_or(0) < ABLE, Ordering::Relaxed);
                }
                Report::Hello { version, build, .. } => {
                    let text = format!("incompatible_version: it is {build} and speaks {version}");
                    return Err(io::Error::other(text));
                }
                Report::Held(held) if greeted => {
                    let mut descriptors = packet.descriptors.into_iter();
                    let memory = descriptors.next().map(Memory::open).transpose()?;
                    let memory = memory.ok_or_else(|| io::Error::other("a log without memory"))?;
                    memory.let_go_of_file();
                    let (stdin, holder) = (descriptors.next(), self.clone());
                    found.push(Found { held, memory, stdin, holder });
                }
                Report::Ready if greeted => return Ok(found),
                _ => return Err(io::Error::other("it speaks out of turn")),
            }
        }
    }

    /// Passes on what it says until it is gone.
    async fn listen(self: &Arc<Self>) {
        let mut buffer = vec![0; PACKET];
        while let Ok(Some(packet)) = self.channel.receive(&mut buffer).await {
            match cbor::decode::<Report>(&packet.bytes, PACKET) {
                Ok(report) => self.hear(report, packet),
                Err(error) => tracing::warn!(%error, "a holder says what makes no sense"),
            }
        }
    }

    fn hear(self: &Arc<Self>, report: Report, packet: Packet) {
        let find = |id: Nonce| lock(&self.jobs).get(&id).cloned();
        match report {
            Report::Hello { .. } | Report::Held(_) | Report::Ready => {}
            Report::Started { job, pid, at } => {
                if let Some(job) = find(job) {
                    job.started_as(pid, at, packet.descriptors.into_iter().next());
                }
            }
            Report::Grown(job) => {
                if let Some(job) = find(job) {
                    job.spool.poke();
                }
            }
            Report::Failed { job, failure } => {
                if let Some(job) = find(job) {
                    job.failed(failure);
                }
            }
            Report::Ended { job, end } => {
                if let Some(job) = find(job) {
                    job.ended_with(&end);
                }
            }
            Report::Finished(id) => self.finished(id),
        }
    }

    /// Nobody writes to a job's log any more: what is kept of it is kept by us, once it is written down.
    pub(crate) fn finished(self: &Arc<Self>, id: Nonce) {
        let job = lock(&self.jobs).remove(&id);
        // One that we could not take over stays with its holder: the next agent may be able to.
        let Some(job) = job else { return };
        job.spool.finish();
        job.forgotten();
        self.finished.add(Some(self.clone()), job);
    }

    /// Whose programs it holds.
    pub(crate) fn user(&self) -> Option<u32> {
        *lock(&self.user)
    }
}

/// A way to give orders about one job to whoever holds it.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) holder: Weak<Holder>,
}

impl Line {
    /// Sends an order about it. If its holder is gone, that is about to be said of the job.
    pub(crate) fn order(&self, order: &Order) -> Result<(), Failure> {
        self.holder.upgrade().map_or(Ok(()), |holder| holder.order(order))
    }
}

#[cfg(test)]
mod tests;
