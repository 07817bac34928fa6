//! One root and the process that works in it.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as PlainMutex, MutexGuard, PoisonError};
use std::time::Duration;

use farwire_files::worker::message::{Order, Report, Serve, Setup};
use farwire_files::worker::packet::PACKET;
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{ASK_LATEST, Enter, Root};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::audit::Audit;
use super::pipe::Pipe;
use super::sensitive::{self, Kept};
use super::spec::Spec;
use super::waits::{Received, Waits};
use crate::gate::principal::Principal;
use crate::os::ourselves;
use crate::os::packets::Channel;
use crate::os::wait::Leader;

/// How long a worker may take to be ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// A worker that ended sooner than this is not started again at once.
const SHORT: Duration = Duration::from_secs(10);

/// How long a look at the path of a root may keep a stream waiting.
const GLANCE: Duration = Duration::from_secs(1);

/// After this many short lives the wait no longer grows: it is 100 ms, doubled each time.
const DOUBLINGS: u32 = 4;

/// One root.
#[derive(Debug)]
pub(crate) struct Worker {
    spec: Spec,
    /// The agent's own directory.
    home: PathBuf,
    /// What the kernel enforces, once that is known.
    confined: PlainMutex<Option<String>>,
    waits: Waits,
    audit: Audit,
    state: Mutex<WorkerState>,
}

#[derive(Debug, Default)]
struct WorkerState {
    running: Option<Arc<Running>>,
    started: Option<Instant>,
    /// How many in a row had a short life.
    short: u32,
    /// A look at the path of the root that has not ended yet.
    glance: Option<JoinHandle<Glance>>,
}

/// Device and inode of a directory.
type DirectoryId = (u64, u64);

/// What the path of a root leads to. Nothing if that cannot be found out.
type Glance = Option<Result<DirectoryId, Errno>>;

/// A root that was opened for a worker.
#[derive(Debug)]
struct OpenedRoot {
    root: OwnedFd,
    identity: DirectoryId,
    kept: Kept,
}

/// A process.
#[derive(Debug)]
struct Running {
    channel: Channel,
    /// The directory that it works in.
    root: DirectoryId,
    /// Cancelled when it has ended.
    gone: CancellationToken,
    /// Reaps the process when it has ended.
    _leader: Leader,
}

impl Worker {
    /// The worker of a root. The agent's own directory is `home`.
    pub(super) fn new(spec: Spec, home: PathBuf, audit: Audit) -> Self {
        let (confined, state) = Default::default();
        Self { spec, home, confined, waits: Waits::new(), audit, state }
    }

    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    fn confined(&self) -> MutexGuard<'_, Option<String>> {
        self.confined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its description for others.
    pub(super) fn root(&self) -> Root {
        Root {
            name: self.spec.name.clone(),
            path: Blob(self.spec.dir.as_os_str().as_bytes().to_vec()),
            writable: self.spec.writable,
            excludes: (!self.spec.exclude.is_empty()).then(|| self.spec.exclude.clone()),
            confined: self.confined().clone(),
            asks: Some(ASK_LATEST),
            beats: None,
        }
    }

    /// Opens the root, and returns what is protected in it. It may be another directory by now than
    /// at the start of the agent, so it is checked for each worker.
    async fn open(&self) -> Result<OpenedRoot, Failure> {
        let (spec, home) = (self.spec.clone(), self.home.clone());
        let open = move || {
            let own = super::own_things(&home);
            let (root, kept) = sensitive::open(&spec.dir, &own, spec.allow_sensitive)?;
            let stat = rustix::fs::fstat(&root).map_err(|error| exhausted(&error.into()))?;
            Ok(OpenedRoot { root, identity: (stat.st_dev, stat.st_ino), kept })
        };
        timeout(PATIENCE, self.waits.run(open)).await.unwrap_or_else(|_| {
            let text = format!("the root {} does not answer", self.spec.dir.display());
            Ok(Err(Failure::new(Kind::TimedOut, text)))
        })?
    }

    /// Whether the root may be opened.
    pub(super) async fn look(&self) -> Result<(), Failure> {
        self.open().await.map(drop)
    }

    /// Makes sure that the process runs.
    pub(super) async fn ready(&self) -> Result<(), Failure> {
        self.running().await.map(drop)
    }

    /// A pipe to the process for one stream.
    pub(super) async fn enter(&self, enter: &Enter, who: &Principal) -> Result<Pipe, Failure> {
        let running = self.running().await?;
        let (ours, theirs) = pair().map_err(|error| exhausted(&error))?;
        let (enter, device, who) = (enter.clone(), who.device, who.line());
        let root = Root { beats: enter.beats, ..self.root() };
        let order = Order::Serve(Box::new(Serve { enter, root, device, who }));
        running
            .channel
            .send(cbor::encode(&order), &[theirs.as_fd()])
            .map_err(|error| exhausted(&error))?;
        Pipe::new(ours, self.waits.clone()).map_err(|error| exhausted(&error))
    }

    /// The process: started, or started again, if it has ended or the path of the root leads to
    /// another directory now.
    async fn running(&self) -> Result<Arc<Running>, Failure> {
        let mut state = self.state.lock().await;
        if let Some(running) = state.running.clone().filter(|one| !one.gone.is_cancelled()) {
            if !self.has_moved(&mut state, running.root).await {
                return Ok(running);
            }
            self.retire(&running).await;
            (state.started, state.short) = (None, 0);
        }
        state.running = None;
        if let Some(started) = state.started {
            let long = started.elapsed() > SHORT;
            state.short = if long { 0 } else { state.short + 1 };
            let wait = Duration::from_millis(100) * 2_u32.pow(state.short.min(DOUBLINGS));
            if state.short > 1 && started.elapsed() < wait {
                state.short -= 1;
                let text = format!("the file worker of root `{}` keeps crashing", self.spec.name);
                return Err(Failure::new(Kind::FileWorkerEnded, text));
            }
        }
        state.started = Some(Instant::now());
        let running = self.start().await?;
        state.running = Some(running.clone());
        Ok(running)
    }

    /// Whether the path of the root no longer leads to this directory. A file system that does not
    /// answer has one thread at most waiting for it, and the worker stays.
    async fn has_moved(&self, state: &mut WorkerState, root: DirectoryId) -> bool {
        if state.glance.as_ref().is_some_and(|glance| !glance.is_finished()) {
            return false;
        }
        let (dir, waits) = (self.spec.dir.clone(), self.waits.clone());
        let mut glance = tokio::spawn(async move {
            let stat = waits.run(move || rustix::fs::stat(&dir)).await.ok()?;
            Some(stat.map(|stat| (stat.st_dev, stat.st_ino)))
        });
        match timeout(GLANCE, &mut glance).await {
            Ok(Ok(Some(Ok(now)))) => now != root,
            // Other errors say nothing about what the worker holds.
            Ok(Ok(Some(Err(error)))) => matches!(error, Errno::NOENT | Errno::NOTDIR),
            Ok(_) => false,
            Err(_) => {
                state.glance = Some(glance);
                false
            }
        }
    }

    /// Ends a process, with all streams to it: two must not use one store.
    async fn retire(&self, running: &Running) {
        tracing::warn!(root = self.spec.name, "the root is another directory now, or is gone");
        running.channel.end();
        let _ = timeout(PATIENCE, running.gone.cancelled()).await;
    }

    async fn start(&self) -> Result<Arc<Running>, Failure> {
        let OpenedRoot { root, identity, kept } = self.open().await.map_err(|failure| {
            let hint = "the server's owner must check it";
            Failure::new(Kind::NoRoot, failure.message).with_hint(hint)
        })?;
        let (ours, theirs) = pair().map_err(|error| exhausted(&error))?;
        let leader = launch(&theirs)?;
        drop(theirs);
        let channel = Channel::new(ours).map_err(|error| exhausted(&error))?;
        let (audit, store) = (self.audit(), self.store());
        let order = Order::Setup(Box::new(self.setup(kept, audit.is_some())));
        let descriptors = [Some(&root), audit.as_ref(), store.as_ref()].into_iter().flatten();
        let descriptors: Vec<_> = descriptors.map(OwnedFd::as_fd).collect();
        channel
            .send(encode(&order, &self.spec.name)?, &descriptors)
            .map_err(|error| exhausted(&error))?;
        let mut buffer = vec![0; PACKET];
        let ended = || Failure::new(Kind::FileWorkerEnded, "the file worker did not start");
        let report = timeout(PATIENCE, channel.receive(&mut buffer)).await.map_err(|_| ended())?;
        let report = report.ok().flatten().ok_or_else(ended)?;
        put_away(report.descriptors, &self.waits);
        match cbor::decode::<Report>(&report.bytes, PACKET) {
            Ok(Report::Ready { confined }) => {
                tracing::info!(root = self.spec.name, confined, "serving a root");
                *self.confined() = Some(confined).filter(|confined| !confined.is_empty());
            }
            Ok(Report::Failed(failure)) => return Err(failure),
            Err(_) => return Err(ended()),
        }
        let gone = CancellationToken::new();
        let running = Arc::new(Running { channel, root: identity, gone, _leader: leader });
        let (watched, name, waits) = (running.clone(), self.spec.name.clone(), self.waits.clone());
        tokio::spawn(async move {
            let mut buffer = vec![0; PACKET];
            tokio::select! {
                said = watched.channel.receive(&mut buffer) => {
                    let said = said.ok().flatten();
                    put_away(said.map(|said| said.descriptors).unwrap_or_default(), &waits);
                }
                () = watched.channel.flush() => {}
            }
            watched.gone.cancel();
            tracing::warn!(root = name, "a file worker has ended");
        });
        Ok(running)
    }

    /// Where the worker keeps what was changed. Without it nothing can be undone, and all else
    /// works.
    fn store(&self) -> Option<OwnedFd> {
        if !self.spec.writable || self.spec.undo == 0 {
            return None;
        }
        let store = self.home.join("undo").join(&self.spec.name);
        let made = crate::files::private_directory(&store);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = made.and_then(|()| Ok(rustix::fs::open(&store, flags, Mode::empty())?));
        opened
            .inspect_err(
                |error| tracing::warn!(root = self.spec.name, %error, "changes cannot be undone"),
            )
            .ok()
    }

    /// Where the worker reports what it did. Without it there are no lines, and all else works.
    fn audit(&self) -> Option<OwnedFd> {
        let pipe = self.audit.pipe(&self.spec.name);
        pipe.inspect_err(|error| tracing::warn!(%error, "file requests are not audited")).ok()
    }

    fn setup(&self, kept: Kept, audit: bool) -> Setup {
        let hidden = self.spec.exclude.iter().cloned().chain(kept.unseen);
        Setup {
            writable: self.spec.writable,
            follow: !self.spec.refuse_symlinks,
            mounts: !self.spec.one_filesystem,
            hard_links: self.spec.allow_hardlinked_writes,
            hidden: hidden.collect(),
            kept: kept.unchanged,
            largest: self.spec.largest,
            spare: self.spec.keep_free,
            kept_bytes: self.spec.undo,
            name: self.spec.name.clone(),
            audit,
        }
    }
}

/// The first order for a worker, as one packet.
fn encode(order: &Order, name: &str) -> Result<Vec<u8>, Failure> {
    let bytes = cbor::encode(order);
    if bytes.len() <= PACKET {
        return Ok(bytes);
    }
    let text = format!(
        "the patterns of hidden and protected files in root `{name}` have {} bytes, more than {PACKET}",
        bytes.len()
    );
    Err(Failure::new(Kind::TooLarge, text).with_hint("open directories in it one by one"))
}

/// Closes descriptors that a worker sent although it should send none.
fn put_away(descriptors: Vec<OwnedFd>, waits: &Waits) {
    descriptors.into_iter().for_each(|one| drop(Received::new(one, waits.clone())));
}

fn exhausted(error: &io::Error) -> Failure {
    Failure::new(Kind::ResourceExhausted, format!("cannot reach the file worker: {error}"))
}

/// Both ends of a socket that keeps packets whole.
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)?)
}

/// Starts the process. Its socket is its standard input.
fn launch(socket: &OwnedFd) -> Result<Leader, Failure> {
    ourselves::start(["file-worker".into()], socket.as_fd(), |error| exhausted(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_root_that_has_become_a_link_to_what_much_depends_on_is_refused_at_the_next_start() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("work");
        let roots = crate::files::spec::tests::specs(&[&format!("{}:rw", dir.display())]);
        // It is not there at the start of the agent.
        let state = place.path().join("state");
        let roots = crate::files::Roots::open(&roots, &state).await.unwrap();
        std::os::unix::fs::symlink("/etc", &dir).unwrap();
        let failure = roots.find(None).unwrap().ready().await.unwrap_err();
        assert_eq!(failure.kind, Kind::NoRoot);
        assert!(failure.message.contains("/etc, which the system depends on"), "{failure}");
    }

    #[tokio::test]
    async fn a_root_whose_patterns_do_not_fit_a_packet_says_so() {
        let mut roots = crate::files::spec::tests::specs(&["/srv/work"]);
        let spec = roots.remove(0);
        let worker = Worker::new(spec, PathBuf::from("/nowhere"), Audit::new("/nowhere".as_ref()));
        let unchanged = vec!["/a/pattern/of/some/length".to_owned(); 4_000];
        let setup = |unchanged| worker.setup(Kept { unchanged, unseen: Vec::new() }, false);
        let order = |unchanged| Order::Setup(Box::new(setup(unchanged)));
        assert!(encode(&order(Vec::new()), "work").is_ok());
        let failure = encode(&order(unchanged), "work").unwrap_err();
        assert_eq!(failure.kind, Kind::TooLarge);
        assert!(failure.message.contains("root `work`"), "{failure}");
    }
}
