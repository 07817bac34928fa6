//! Jobs: programs that outlive the stream that asked for them.
//!
//! [`Jobs`] knows every job and every request. A request is reserved, with the hash of all that it
//! asks, before anything else happens, so that it starts at most one program however often it is
//! repeated; the [`journal`] answers for requests of earlier processes. A [`job`] runs its program;
//! its output is in its [`spool`]. Everything is keyed by the owner, a device and a surface:
//! another owner's request is like one that never was.

pub(crate) mod job;
pub(crate) mod journal;
pub(crate) mod owner;
pub(crate) mod spool;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::control::{Stop, Stopped};
use farwire_protocol::streams::run::Start;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::jobs::job::{Job, Plan};
use crate::jobs::journal::{Journal, Past};
use crate::jobs::owner::Owner;
use crate::jobs::spool::{Limits, Spool};

/// So many runs at once; further ones queue.
pub(crate) const CONCURRENT: usize = 64;

/// How long a job is kept after its end.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// So many jobs are kept at most; the oldest that ended goes first.
const KEPT: usize = 10_000;

/// So much output of all jobs is kept at most; that of the oldest that ended goes first.
const KEPT_BYTES: u64 = 2 << 30;

/// So much output of jobs that ended is kept in memory at most.
const KEPT_MEMORY: usize = 4 << 20;

/// How long a stop that overtook its request makes sure that it never starts.
const TOMBSTONE: Duration = Duration::from_secs(120);

/// So many tombstones one owner may have.
const TOMBSTONES: usize = 1024;

/// Every job of this agent process.
#[derive(Debug)]
pub(crate) struct Jobs {
    inner: Mutex<Inner>,
    directory: PathBuf,
    instance: Nonce,
    turns: Arc<Semaphore>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Inner {
    jobs: HashMap<Nonce, Arc<Job>>,
    /// In the order in which they were asked for.
    order: VecDeque<Nonce>,
    requests: HashMap<(Owner, Nonce), Request>,
    tombstones: HashMap<(Owner, Nonce), Instant>,
    journal: Journal,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    hash: [u8; 32],
    job: Nonce,
}

impl Jobs {
    /// Opens the journal, and throws away the output of an earlier process.
    pub(crate) fn open(state: &Path, instance: Nonce) -> Result<Self, Failure> {
        let directory = state.join("spool");
        let failed = |error: std::io::Error| {
            Failure::new(Kind::Io, format!("{}: {error}", directory.display()))
        };
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&directory).map_err(failed)?;
        let inner = Inner {
            jobs: HashMap::new(),
            order: VecDeque::new(),
            requests: HashMap::new(),
            tombstones: HashMap::new(),
            journal: Journal::open(&state.join("journal"))?,
        };
        Ok(Self {
            inner: Mutex::new(inner),
            directory,
            instance,
            turns: Arc::new(Semaphore::new(CONCURRENT)),
            tasks: TaskTracker::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it is held")
    }

    /// Starts what is asked for, unless this request has been seen. Gives the job, and whether it
    /// was there before.
    pub(crate) fn start(
        self: &Arc<Self>,
        owner: &Owner,
        start: &Start,
        hash: [u8; 32],
    ) -> Result<(Arc<Job>, bool), Failure> {
        let key = (owner.clone(), start.request);
        let mut inner = self.lock();
        inner.forget(Instant::now());
        if inner.tombstones.contains_key(&key) {
            return Err(Failure::new(Kind::Cancelled, "the request was stopped before it arrived"));
        }
        if let Some(known) = inner.requests.get(&key) {
            if known.hash != hash {
                let message = "this request id was used for another request";
                return Err(Failure::new(Kind::RequestIdConflict, message));
            }
            let job = inner.jobs.get(&known.job).cloned();
            let gone = || Failure::new(Kind::Expired, "the run is no longer kept");
            return job.map(|job| (job, true)).ok_or_else(gone);
        }
        if start.instance != self.instance {
            return Err(inner.journal.past(&key.0, start.request, &hash).failure());
        }
        let plan = Plan::new(start)?;
        // The bridge names the job, so that it can write the name down before it sends the request.
        let id = start.request;
        if inner.jobs.contains_key(&id) {
            return Err(Failure::new(Kind::RequestIdConflict, "this request id is taken"));
        }
        inner.journal.reserved(&key.0, start.request, &hash);
        let spool = Spool::new(Limits::default(), self.directory.join(id.to_string()));
        let job = Arc::new(Job::new(id, owner.clone(), &plan, spool));
        inner.jobs.insert(id, job.clone());
        inner.order.push_back(id);
        inner.requests.insert(key, Request { hash, job: id });
        drop(inner);
        let (jobs, running, request) = (self.clone(), job.clone(), start.request);
        self.tasks.spawn(async move {
            let exit = job::run(&running, plan, &jobs.turns).await;
            jobs.lock().journal.ended(&running.owner, request, exit);
        });
        Ok((job, false))
    }

    /// A job that this owner may see.
    pub(crate) fn find(&self, owner: &Owner, id: Nonce) -> Result<Arc<Job>, Failure> {
        let job = self.lock().jobs.get(&id).filter(|job| owner.may_see(&job.owner)).cloned();
        job.ok_or_else(|| Failure::new(Kind::UnknownId, "the server has no such run"))
    }

    /// The jobs that this owner may see, newest first, at most `limit` after `after`.
    pub(crate) fn list(
        &self,
        owner: &Owner,
        after: Option<Nonce>,
        running: bool,
        limit: usize,
    ) -> (Vec<Arc<Job>>, bool) {
        let inner = self.lock();
        let skip = after
            .and_then(|after| inner.order.iter().rev().position(|id| *id == after))
            .map_or(0, |at| at + 1);
        let mut found = inner
            .order
            .iter()
            .rev()
            .skip(skip)
            .filter_map(|id| inner.jobs.get(id))
            .filter(|job| owner.may_see(&job.owner) && !(running && job.ended()));
        let jobs: Vec<_> = found.by_ref().take(limit).cloned().collect();
        let more = found.next().is_some();
        (jobs, more)
    }

    /// Stops a job, by its id or by the request that started it or will.
    pub(crate) fn stop(&self, owner: &Owner, stop: &Stop) -> Result<Stopped, Failure> {
        if let Some(signal) = stop.signal.filter(|signal| !(1..=31).contains(signal)) {
            return Err(Failure::new(Kind::InvalidArgument, format!("{signal} is not a signal")));
        }
        let job = match (stop.job, stop.request) {
            (Some(id), _) => self.find(owner, id)?,
            (None, Some(request)) => {
                let mut inner = self.lock();
                match inner.requests.get(&(owner.clone(), request)).map(|known| known.job) {
                    Some(id) => match inner.jobs.get(&id).cloned() {
                        Some(job) => job,
                        None => return Ok(Stopped::Ended),
                    },
                    None => return inner.bury(owner, request),
                }
            }
            (None, None) => {
                return Err(Failure::new(Kind::InvalidArgument, "nothing to stop is named"));
            }
        };
        Ok(job.stop(stop.signal))
    }

    /// Jobs that run now, and bytes of output that are kept.
    pub(crate) fn load(&self) -> (usize, u64) {
        let inner = self.lock();
        let running = inner.jobs.values().filter(|job| !job.ended()).count();
        let kept = inner.jobs.values().map(|job| {
            let stats = job.spool.stats();
            stats.end - stats.start
        });
        (running, kept.sum())
    }
}

impl Inner {
    /// Makes sure that a request that has not come will not start anything.
    fn bury(&mut self, owner: &Owner, request: Nonce) -> Result<Stopped, Failure> {
        self.forget(Instant::now());
        let own = self.tombstones.keys().filter(|key| key.0 == *owner).count();
        if own >= TOMBSTONES {
            return Err(Failure::new(
                Kind::Busy,
                "too many requests were stopped before they came",
            ));
        }
        self.tombstones.insert((owner.clone(), request), Instant::now());
        Ok(Stopped::NeverStarted)
    }

    /// Forgets what is too old or too much.
    fn forget(&mut self, now: Instant) {
        self.tombstones.retain(|_, since| now.duration_since(*since) < TOMBSTONE);
        while let Some(oldest) = self.order.front().and_then(|id| self.jobs.get(id)) {
            let old = oldest.ended_for().is_some_and(|age| age > KEEP);
            if !(old || self.order.len() >= KEPT && oldest.ended()) {
                break;
            }
            self.remove_oldest();
        }
        if self.order.len().is_multiple_of(64) {
            self.bound_output();
        }
    }

    fn remove_oldest(&mut self) {
        if let Some(id) = self.order.pop_front() {
            self.jobs.remove(&id);
            self.requests.retain(|_, request| request.job != id);
        }
    }

    /// Keeps the output of ended jobs within its bounds, oldest first. Not at every start: it looks
    /// at all of them.
    fn bound_output(&mut self) {
        let sizes = |job: &Arc<Job>| {
            let stats = job.spool.stats();
            (stats.end - stats.start, stats.memory)
        };
        let (mut bytes, mut memory) =
            self.jobs.values().map(sizes).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let ended: Vec<_> = self
            .order
            .iter()
            .filter_map(|id| self.jobs.get(id).filter(|job| job.ended()).cloned())
            .collect();
        for job in ended {
            let size = sizes(&job);
            if memory > KEPT_MEMORY && size.1 > 0 {
                job.spool.release_memory();
                memory -= size.1;
            }
            if bytes > KEPT_BYTES {
                bytes -= size.0;
                self.order.retain(|id| *id != job.id);
                self.jobs.remove(&job.id);
                self.requests.retain(|_, request| request.job != job.id);
            }
        }
    }
}

impl Past {
    /// What is said of a request that an earlier process was sent.
    fn failure(self) -> Failure {
        let restarted = "the agent was restarted";
        match self {
            Self::Conflict => Failure::new(
                Kind::RequestIdConflict,
                "this request id was used for another request",
            ),
            Self::Ended(how) => Failure::new(
                Kind::OutcomeUnknown,
                format!("{restarted}; the command had ended with {how}, and its output is gone"),
            )
            .with_hint("run it again if you need its output"),
            Self::Reserved => Failure::new(
                Kind::OutcomeUnknown,
                format!("{restarted} while the command ran; it may go on or have ended"),
            ),
            // Reserved requests are in the journal before anything is started for them.
            Self::Unknown => Failure::new(
                Kind::StreamStale,
                format!("{restarted} before the command arrived; it was not started"),
            ),
        }
    }
}
