//! The holder processes of this agent, and what they hold.
//!
//! A job is placed with a holder of its user that has room. One holder without a user is kept
//! ready, so that starting a program costs no more than its own start. Holders of an earlier agent
//! are taken over by [`Holders::adopt`].

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::Exit;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::jobs::job::{Job, JobPlan, STOPPED};
use crate::jobs::turns;
use crate::os::ourselves;
use crate::os::packets::Channel;
use crate::os::wait::Leader;

/// How long a holder of an earlier agent may take to report what it holds.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to retry a holder that has too many connections.
const LOOK: Duration = Duration::from_millis(50);

/// The next holder is made ready when the previous one has worked this long on its first job.
const SPARE: Duration = Duration::from_millis(100);

/// How a holder is started that listens on a socket.
pub(crate) type Launch = fn(&Path, OwnedFd) -> Result<Option<Leader>, Failure>;

mod finished;
mod holder;

use self::finished::Finished;
pub(crate) use self::finished::ToWrite;
use self::holder::{HeldJob, Holder};

/// All holders.
#[derive(Debug)]
pub(crate) struct Holders {
    state: PathBuf,
    directory: OwnedFd,
    launch: Launch,
    all: Mutex<Vec<Arc<Holder>>>,
    /// Holders of the previous agent, to which nobody listens yet.
    taken: Mutex<Vec<Arc<Holder>>>,
    /// Ended jobs that are to be recorded.
    pub(crate) finished: Arc<Finished>,
}

/// What was taken over from an earlier agent.
#[derive(Debug, Default)]
pub(crate) struct Adopted {
    pub(crate) jobs: Vec<HeldJob>,
    /// Some holders speak a version that we do not. Their jobs go on without us.
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
    /// The holders below this state directory. Starts none, and connects to none.
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

    /// The address of a socket here, by way of the open directory: the path itself may be too long
    /// for an address.
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

    /// Connects without waiting. Returns [`io::ErrorKind::WouldBlock`] if too many connections wait
    /// for the holder already.
    fn connect(&self, name: &str) -> io::Result<Channel> {
        let socket = Self::socket()?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        rustix::net::connect(&socket, &self.address(name)?)?;
        Channel::new(socket)
    }

    /// Takes over the holders of an earlier agent, and returns what they hold. All are asked at
    /// once, so that those that do not answer cost one [`PATIENCE`] together.
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
                    tracing::warn!(holder = name, %error, "a holder is not used");
                    found.left_alone = true;
                }
            }
        }
        found
    }

    async fn take_over(self: &Arc<Self>, name: &str) -> io::Result<Vec<HeldJob>> {
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
        let holder = Arc::new(Holder::new(name.to_owned(), channel, None, self.finished.clone()));
        let said = timeout_at(deadline, holder.introduction()).await;
        let found = said.map_err(|_| silent())??;
        lock(&self.all).push(holder.clone());
        lock(&self.taken).push(holder);
        Ok(found)
    }

    /// Listens to the holders of the previous agent, once their jobs are known here: a report on an
    /// unknown job would be lost, even that of its end.
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
            tracing::warn!(%failure, "no spare holder can be started");
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
        // Connect before the process listens: our messages wait for it.
        let channel = self.connect(&name).map_err(failed)?;
        let holder = Arc::new(Holder::new(name, channel, leader, self.finished.clone()));
        lock(&self.all).push(holder.clone());
        let (holders, attended) = (self.clone(), holder.clone());
        tokio::spawn(async move { holders.attend(attended).await });
        Ok(holder)
    }

    /// Listens to a holder until it is gone.
    async fn attend(self: Arc<Self>, holder: Arc<Holder>) {
        tokio::select! {
            () = holder.listen() => {}
            () = holder.flush() => {}
        }
        holder.set_gone();
        lock(&self.all).retain(|other| !Arc::ptr_eq(other, &holder));
        for job in holder.take_jobs() {
            tracing::warn!(job = %job.id, "the process that held it has ended");
            job.lose();
            self.finished.add(None, job);
        }
        // The next agent need not look for it.
        let none = rustix::fs::AtFlags::empty();
        let _ = rustix::fs::unlinkat(&self.directory, holder.name(), none);
    }

    /// Has a job started by a holder of its user.
    pub(crate) fn start(self: &Arc<Self>, job: &Arc<Job>, plan: &JobPlan) -> Result<(), Failure> {
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
        if holder.set_user(user).is_none() {
            let holders = self.clone();
            tokio::spawn(async move {
                sleep(SPARE).await;
                holders.make_ready();
            });
        }
        holder.start(job, plan)
    }

    /// Runs a job, from its turn to its end. Returns its exit. A session has no `place` in the
    /// queue.
    pub(crate) async fn run(
        self: &Arc<Self>,
        job: &Arc<Job>,
        plan: JobPlan,
        place: Option<turns::QueuePlace>,
    ) -> Option<Exit> {
        let comes = async {
            match place {
                Some(place) => Some(place.turn().await),
                None => None,
            }
        };
        let turn = tokio::select! {
            biased;
            () = job.program.cancelled() => None,
            turn = comes => Some(turn),
        };
        let started = match turn {
            Some(_) => {
                job.take_turn();
                self.start(job, &plan)
            }
            None => Err(job.program.why_cancelled().unwrap_or_else(stopped_first)),
        };
        if let Err(failure) = started {
            job.program.set_failed(failure);
            job.spool.finish();
            return None;
        }
        job.exit().await
    }
}

fn stopped_first() -> Failure {
    Failure::new(Kind::Cancelled, STOPPED)
}

#[cfg(test)]
mod tests;
