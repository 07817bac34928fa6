//! The table of jobs, their order, and when each is forgotten.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::streams::control::Stopped;
use tokio::time::Instant;

use super::job::Job;
use super::journal::{Journal, Past};
use crate::gate::Asker;
use crate::gate::principal::Principal;
use crate::gate::reason::Denied;

/// At most this many jobs are kept, some 2 KiB each; the oldest that ended goes first.
const KEPT: usize = 4_096;

/// Output is brought within its bounds after this many starts.
const BOUND_EVERY: u32 = 64;

/// At most this much output of all jobs is kept; that of the oldest that ended goes first.
const KEPT_BYTES: u64 = 2 << 30;

/// At most this much output of jobs that ended is kept in memory.
const KEPT_MEMORY: usize = 4 << 20;

/// How long a stop that overtook its request keeps that from starting.
const TOMBSTONE: Duration = Duration::from_secs(120);

/// At most this many tombstones of one device are kept.
pub(super) const TOMBSTONES: usize = 1024;

/// Every known job, and the requests that must not be carried out.
#[derive(Debug)]
pub(crate) struct Table {
    pub(super) jobs: HashMap<Nonce, Arc<Job>>,
    /// In order of request.
    pub(super) order: VecDeque<Nonce>,
    /// By device: what one of its surfaces was told will not start must not start through another.
    pub(super) tombstones: HashMap<(Id, Nonce), Instant>,
    pub(super) journal: Journal,
    /// How many jobs were started since the output was last brought within its bounds.
    pub(super) starts: u32,
    /// Jobs that were forgotten, and may have files.
    pub(super) forgotten: Vec<Arc<Job>>,
    /// The agent is about to end: no more jobs are begun.
    pub(super) retired: bool,
}

impl Table {
    /// Deletes output that belongs to no job.
    pub(super) fn sweep(&self, directory: &Path) {
        let known: HashSet<OsString> = self.jobs.keys().map(|id| id.to_string().into()).collect();
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if !known.contains(&entry.file_name()) {
                // A file that cannot be removed is tried again at the next start.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Adds a job after all others.
    pub(super) fn add(&mut self, job: Arc<Job>) {
        self.order.push_back(job.id);
        self.jobs.insert(job.id, job);
    }

    /// How many sessions have not ended.
    pub(crate) fn open_sessions(&self) -> usize {
        self.jobs.values().filter(|job| job.terminal.is_some() && !job.has_ended()).count()
    }

    /// The first number that is not the name of a session that `asker` may see, whatever its owner
    /// label.
    pub(crate) fn free_name(&self, asker: &Asker) -> String {
        let asker = asker.as_surface();
        let seen = |job: &&Arc<Job>| !job.has_ended() && job.is_seen_by(&asker);
        let sessions = self.jobs.values().filter(seen).filter_map(|job| job.terminal.as_ref());
        let taken: HashSet<u64> =
            sessions.filter_map(|terminal| terminal.name.parse().ok()).collect();
        let free = (1_u64..).find(|number| !taken.contains(number));
        free.unwrap_or_default().to_string()
    }

    /// Makes sure that a request that has not arrived will not start anything.
    pub(super) fn bury(&mut self, owner: &Principal, request: Nonce) -> Result<(), Failure> {
        self.forget(Instant::now());
        let own = self.tombstones.keys().filter(|(device, _)| *device == owner.device).count();
        if own >= TOMBSTONES {
            return Err(Failure::new(
                Kind::Busy,
                "too many requests were stopped before they arrived",
            ));
        }
        self.tombstones.insert((owner.device, request), Instant::now());
        Ok(())
    }

    /// Whether a request was stopped before it arrived.
    pub(super) fn is_buried(&self, owner: &Principal, request: Nonce, now: Instant) -> bool {
        let since = self.tombstones.get(&(owner.device, request));
        since.is_some_and(|since| now.duration_since(*since) < TOMBSTONE)
    }

    /// Stops a request that has no job. It will not start from now on; the answer says that it
    /// never did only if the journal proves it.
    pub(super) fn stop_unknown(
        &mut self,
        owner: &Principal,
        request: Nonce,
        instance: Option<Nonce>,
    ) -> Result<Stopped, Failure> {
        let past = self.journal.trace(owner, request, instance);
        if let Past::Ended(_) = past {
            return Ok(Stopped::Ended);
        }
        self.bury(owner, request)?;
        match past {
            Past::NeverStarted | Past::NotStarted => Ok(Stopped::NeverStarted),
            past => Err(past.failure()),
        }
    }

    /// The failure that says why there is no such job.
    pub(super) fn why_gone(&self, owner: &Principal, id: Nonce) -> Failure {
        match self.journal.trace(owner, id, None) {
            Past::Ended(how) => Failure::new(
                Kind::Expired,
                format!("it ended with {how}; its output is no longer kept"),
            ),
            past @ (Past::Reserved | Past::NotStarted) => past.failure(),
            Past::NeverStarted | Past::Unknown | Past::Conflict => Denied::Unseen.failure(),
        }
    }

    /// Forgets a job that has ended, with its output.
    pub(super) fn discard(&mut self, id: Nonce) {
        if let Some(job) = self.jobs.remove(&id) {
            job.spool.discard();
            self.forgotten.push(job);
        }
    }

    /// Forgets the jobs that are too old or too many.
    pub(super) fn forget(&mut self, now: Instant) {
        self.tombstones.retain(|_, since| now.duration_since(*since) < TOMBSTONE);
        // Running jobs gather at the front, and may run for long.
        loop {
            let ended = |id: &Nonce| self.jobs.get(id).is_none_or(|job| job.has_ended());
            let Some(at) = self.order.iter().position(ended) else { break };
            let oldest = self.order.get(at).and_then(|id| self.jobs.get(id));
            let old = oldest.is_some_and(|job| job.ended_for().is_some_and(|age| age > job.keep()));
            if !(old || self.order.len() - at >= KEPT) {
                break;
            }
            if let Some(id) = self.order.remove(at) {
                self.discard(id);
            }
        }
        self.starts += 1;
        if self.starts == BOUND_EVERY {
            self.starts = 0;
            self.bound_output();
        }
    }

    /// Keeps the output of ended jobs within its bounds, oldest first. Not called at every start,
    /// since it looks at all jobs.
    pub(super) fn bound_output(&mut self) {
        let sizes = |job: &Arc<Job>| {
            let stats = job.spool.stats();
            (stats.end - stats.start, stats.memory)
        };
        let (mut bytes, mut memory) =
            self.jobs.values().map(sizes).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let ended: Vec<_> = self
            .order
            .iter()
            .filter_map(|id| self.jobs.get(id).filter(|job| job.has_ended()).cloned())
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
                self.discard(job.id);
            }
        }
    }
}
