//! Jobs: programs that outlive the stream that asked for them.
//!
//! [`Jobs`] knows every job and every request. A request is reserved, with the hash of its body,
//! before anything else happens, so that it starts at most one program however often it is
//! repeated; the [`journal`] answers for requests to earlier processes. The program of a [`job`]
//! belongs to one of the [`holders`], which outlive this process: the next process adopts what they
//! hold. Everything is keyed by the owner, a device and a surface: to one owner, another owner's
//! requests do not exist.

mod ended;
pub(crate) mod holders;
pub(crate) mod job;
pub(crate) mod journal;
pub(crate) mod past;
pub(crate) mod table;
pub(crate) mod turns;
pub(crate) mod users;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::streams::control::{Stop, Stopped};
use farwire_protocol::streams::run::{Delivery, Exit, Start};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::gate::demand::Demand;
use crate::gate::principal::Principal;
use crate::gate::reason::Denied;
use crate::gate::{Allowed, Asker};
use crate::jobs::holders::{Holders, Launch};
use crate::jobs::job::{Job, JobPlan, STOPPED};
use crate::jobs::journal::{Ending, Journal, Past, PriorRequest};
use crate::jobs::table::Table;
use crate::jobs::turns::Turns;
use crate::jobs::users::Users;
use crate::os::clock::boottime;
use crate::spool::Memory;
use crate::terminal::Terminal;
use crate::terminal::events::What;

/// At most this many runs of one device run at once; further ones queue.
pub(crate) const CONCURRENT: usize = 64;

/// The name of the journal in the state directory.
const JOURNAL: &str = "journal";

/// A request: its id, the agent process that it was first sent to, and its hash.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) request: Nonce,
    pub(crate) instance: Nonce,
    /// The hash of the request's body.
    pub(crate) hash: [u8; 32],
}

/// The job of a request.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) job: Arc<Job>,
    /// The job existed before.
    pub(crate) known: bool,
}

/// A conversation about a job, begun under an earlier agent.
#[derive(Debug)]
pub(crate) struct Recalled {
    pub(crate) owner: Arc<Principal>,
    pub(crate) conversation: Nonce,
    pub(crate) job: Nonce,
    pub(crate) delivery: Delivery,
}

/// What was taken over from the previous agent's holders.
#[derive(Debug)]
pub(crate) struct TakenOver {
    /// In order of request.
    pub(crate) jobs: Vec<Arc<Job>>,
    /// Some holders speak a version that we do not.
    pub(crate) left_alone: bool,
    conversations: Vec<Recalled>,
    /// No holder was skipped.
    complete: bool,
}

/// Creates the empty journal of a new agent, which later proves that nothing was requested before.
pub(crate) fn prepare(state: &Path) -> std::io::Result<()> {
    journal::create(&state.join(JOURNAL))
}

/// Every job of this agent process.
#[derive(Debug)]
pub(crate) struct Jobs {
    table: Mutex<Table>,
    directory: PathBuf,
    /// The directory with the records of runs.
    runs: PathBuf,
    instance: Nonce,
    holders: Arc<Holders>,
    turns: Arc<Turns>,
    tasks: TaskTracker,
}

impl Jobs {
    /// Opens the journal. Holders are started by `launch`.
    pub(crate) fn open(state: &Path, instance: Nonce, launch: Launch) -> Result<Self, Failure> {
        let directory = state.join("spool");
        let runs = state.join("runs");
        for directory in [&directory, &runs] {
            let mut builder = std::fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.recursive(true).create(directory).map_err(|error| {
                Failure::new(Kind::Io, format!("{}: {error}", directory.display()))
            })?;
        }
        let table = Table {
            jobs: HashMap::new(),
            order: VecDeque::new(),
            tombstones: HashMap::new(),
            journal: Journal::open(&state.join(JOURNAL), instance),
            starts: 0,
            forgotten: Vec::new(),
            retired: false,
        };
        Ok(Self {
            table: Mutex::new(table),
            directory,
            runs,
            instance,
            holders: Arc::new(Holders::open(state, launch)?),
            turns: Turns::new(CONCURRENT),
            tasks: TaskTracker::new(),
        })
    }

    /// Takes over the jobs of the previous agent's holders. Nobody else sees them until they are
    /// [resumed](Self::resume).
    pub(crate) async fn take_over(&self) -> TakenOver {
        let found = self.holders.adopt().await;
        let (mut jobs, mut conversations, mut complete) = (Vec::new(), Vec::new(), true);
        for found in found.jobs {
            let path = self.spool_of(found.held.job);
            match found.adopt(path) {
                Ok((job, about)) => {
                    conversations.extend(about.into_iter().map(|(conversation, delivery)| {
                        let (owner, job) = (job.owner.clone(), job.id);
                        Recalled { owner, conversation, job, delivery }
                    }));
                    jobs.push(job);
                }
                Err(failure) => {
                    tracing::warn!(%failure, "a job could not be taken over");
                    complete = false;
                }
            }
        }
        self.holders.attend_taken();
        jobs.sort_by_key(|job| job.requested_at());
        if !jobs.is_empty() {
            tracing::info!(jobs = jobs.len(), "taken over from the previous agent");
        }
        TakenOver { jobs, left_alone: found.left_alone, conversations, complete }
    }

    /// Resumes the jobs that were taken over, and the recorded sessions that no holder has. If
    /// these are `all`, deletes output that belongs to none of them. Returns the conversations
    /// about them.
    pub(crate) fn resume(
        self: &Arc<Self>,
        taken: TakenOver,
        sessions: Vec<Arc<Job>>,
        all: bool,
    ) -> Vec<Recalled> {
        let (runs, all_runs) = self.past_runs(&taken.jobs);
        let mut table = self.lock();
        for job in sessions.into_iter().chain(runs) {
            table.add(job);
        }
        for job in taken.jobs {
            table.add(job.clone());
            let run = job.terminal.is_none();
            let turn = run.then(|| self.turns.occupy(job.owner.device));
            self.follow(&job);
            let jobs = self.clone();
            self.tasks.spawn(async move {
                let exit = job.exit().await;
                drop(turn);
                jobs.note_end(&job, exit);
            });
        }
        table.forget(Instant::now());
        table.bound_output();
        // The next agent may need the output of jobs that are unknown here.
        if all && all_runs && taken.complete {
            table.sweep(&self.directory);
        }
        drop(table);
        self.tasks.spawn(self.clone().write_down_runs());
        self.holders.make_ready();
        taken.conversations
    }

    /// The path of the output that does not fit a job's memory.
    pub(crate) fn spool_of(&self, id: Nonce) -> PathBuf {
        self.directory.join(id.to_string())
    }

    /// Forgets the jobs that ended and need not be kept any longer. Returns all jobs forgotten
    /// since the last call, which may have files.
    pub(crate) fn forget_ended(&self) -> Vec<Arc<Job>> {
        let mut table = self.lock();
        let old = |job: &&Arc<Job>| job.ended_for().is_some_and(|ago| ago > job.keep());
        let gone: HashSet<_> = table.jobs.values().filter(old).map(|job| job.id).collect();
        for id in &gone {
            table.discard(*id);
        }
        if !gone.is_empty() {
            table.order.retain(|id| !gone.contains(id));
        }
        std::mem::take(&mut table.forgotten)
    }

    /// Has a session's terminal follow its log.
    fn follow(&self, job: &Arc<Job>) {
        if let Some(terminal) = &job.terminal {
            self.tasks.spawn(Terminal::follow(Arc::downgrade(terminal)));
        }
    }

    /// Records the end of a job.
    fn note_end(&self, job: &Arc<Job>, exit: Option<Exit>) {
        if !job.program.is_held() {
            self.holders.finished.add(None, job.clone());
        }
        if let Some(terminal) = job.terminal.as_ref().filter(|_| exit.is_some()) {
            terminal.note(None, What::Ended);
        }
        // An unknown end is not recorded: a record of its beginning alone says as much.
        let ending = match exit {
            Some(exit) => Some(Ending::Exit(exit)),
            None => (!job.is_unknown() && !job.has_started()).then_some(Ending::NotStarted),
        };
        if let Some(ending) = ending {
            self.lock().journal.note_end(&job.owner, job.id, ending);
        }
    }

    /// Cancels the queued jobs, because the agent is about to end, and records for the next agent
    /// that they were never started. No job begins after this. Returns whether any was queued.
    pub(crate) fn retire(&self) -> bool {
        let mut guard = self.lock();
        let table = &mut *guard;
        table.retired = true;
        let mut waited = false;
        for job in table.jobs.values().filter(|job| job.is_queued()) {
            if job
                .program
                .cancel("the agent was shut down before a slot was free; the run was not started")
            {
                table.journal.note_end(&job.owner, job.id, Ending::NotStarted);
                waited = true;
            }
        }
        waited
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics while it is held")
    }

    /// Starts the run of a request, unless this request has been seen. `hash` is that of the
    /// request.
    ///
    /// Users may be looked up over a network, and `users` waits for that. If this future is dropped
    /// before, nothing is started.
    pub(crate) async fn start(
        self: &Arc<Self>,
        owner: &Arc<Principal>,
        start: Allowed<&Start>,
        hash: [u8; 32],
        users: &Users,
    ) -> Result<Begun, Failure> {
        let asked = Asking { request: start.request, instance: start.instance, hash };
        if let Some(job) = self.find_asked(owner, &asked)? {
            return Ok(Begun { job, known: true });
        }
        let user = users.find(start.user.as_deref()).await?;
        let plan = JobPlan::run(&start, user)?;
        self.begin(owner, asked, |_| Ok(plan))
    }

    /// The open sessions of this name that `asker` may see.
    pub(crate) fn sessions_named(&self, asker: &Asker, name: &str) -> Vec<Arc<Job>> {
        self.select(|job| {
            let named = job.terminal.as_ref().is_some_and(|terminal| terminal.name == name);
            named && !job.has_ended() && job.is_seen_by(asker)
        })
    }

    /// The jobs for which `wanted` is true, in no order.
    pub(crate) fn select(&self, wanted: impl Fn(&Job) -> bool) -> Vec<Arc<Job>> {
        self.lock().jobs.values().filter(|job| wanted(job)).cloned().collect()
    }

    /// The job of a request that has been seen. Returns an error if the request must no longer be
    /// carried out.
    pub(crate) fn find_asked(
        &self,
        owner: &Arc<Principal>,
        asked: &Asking,
    ) -> Result<Option<Arc<Job>>, Failure> {
        self.look_up(&self.lock(), owner, asked)
    }

    fn look_up(
        &self,
        table: &Table,
        owner: &Arc<Principal>,
        &Asking { request: id, instance, ref hash }: &Asking,
    ) -> Result<Option<Arc<Job>>, Failure> {
        if table.is_buried(owner, id, Instant::now()) {
            return Err(Failure::new(Kind::Cancelled, "the request was stopped before it arrived"));
        }
        // A job in the table counts, whatever the journal says.
        if let Some(job) = table.jobs.get(&id) {
            let same = job.owner == *owner && job.body.is_none_or(|body| body == *hash);
            return if same { Ok(Some(job.clone())) } else { Err(Past::Conflict.failure()) };
        }
        match table.journal.prior_request(owner, id, hash) {
            PriorRequest::Other => Err(Past::Conflict.failure()),
            PriorRequest::Same => Err(Failure::new(Kind::Expired, "the run is no longer kept")),
            PriorRequest::No if instance != self.instance => {
                Err(table.journal.past(owner, id, instance, hash).failure())
            }
            PriorRequest::No => Ok(None),
        }
    }

    /// Begins a job with the plan that `plan` returns, unless the request has been seen meanwhile.
    pub(crate) fn begin(
        self: &Arc<Self>,
        owner: &Arc<Principal>,
        asked: Asking,
        plan: impl FnOnce(&Table) -> Result<JobPlan, Failure>,
    ) -> Result<Begun, Failure> {
        // The bridge chooses the job's id, so that it can record the id before it sends the
        // request.
        let mut table = self.lock();
        table.forget(Instant::now());
        if let Some(job) = self.look_up(&table, owner, &asked)? {
            return Ok(Begun { job, known: true });
        }
        if table.retired {
            return Err(Failure::new(
                Kind::ServerOffline,
                "the agent is shutting down; nothing was started",
            )
            .with_hint("try again when the server is online"));
        }
        let Asking { request: id, hash, .. } = asked;
        let plan = plan(&table)?;
        // A session may stay open for days: sessions and runs do not queue for each other.
        let place = match plan.terminal {
            Some(_) => None,
            None => Some(self.turns.queue(owner.device)?),
        };
        let memory = Memory::new().map_err(|error| {
            Failure::new(Kind::ResourceExhausted, format!("no memory for the output: {error}"))
        })?;
        let job = Job::new(owner.clone(), &plan, memory, self.spool_of(id), hash);
        job.check_note(plan.start.user.uid)?;
        table.journal.reserve(owner, id, &hash)?;
        table.add(job.clone());
        drop(table);
        let (jobs, running) = (self.clone(), job.clone());
        self.follow(&job);
        self.tasks.spawn(async move {
            let exit = jobs.holders.run(&running, plan, place).await;
            jobs.note_end(&running, exit);
        });
        Ok(Begun { job, known: false })
    }

    /// A job, if `asker` may see it: to all others it does not exist.
    pub(crate) fn find(&self, asker: &Asker, id: Nonce) -> Result<Allowed<Arc<Job>>, Failure> {
        let table = self.lock();
        let job = table.jobs.get(&id).ok_or_else(|| table.why_gone(&asker.who, id))?;
        let demand = Demand::Use(job.facts());
        asker.allow(&demand, job.clone()).map_err(Denied::failure)
    }

    /// The jobs that `asker` may see, newest first, at most `limit` after `after`.
    pub(crate) fn list(
        &self,
        asker: &Asker,
        after: Option<Nonce>,
        running: bool,
        limit: usize,
    ) -> (Vec<Arc<Job>>, bool) {
        let table = self.lock();
        let skip = after
            .and_then(|after| table.order.iter().rev().position(|id| *id == after))
            .map_or(0, |at| at + 1);
        let mut found = table
            .order
            .iter()
            .rev()
            .skip(skip)
            .filter_map(|id| table.jobs.get(id))
            .filter(|job| job.is_seen_by(asker) && !(running && job.has_ended()));
        let jobs: Vec<_> = found.by_ref().take(limit).cloned().collect();
        let more = found.next().is_some();
        (jobs, more)
    }

    /// Stops a job, named by its id or by its request.
    pub(crate) fn stop(&self, asker: &Asker, stop: &Stop) -> Result<Stopped, Failure> {
        let who = &*asker.who;
        if let Some(signal) = stop.signal.filter(|signal| !(1..=31).contains(signal)) {
            return Err(Failure::new(Kind::InvalidArgument, format!("{signal} is not a signal")));
        }
        let job = match (stop.job, stop.request) {
            (Some(id), _) => self.find(asker, id)?.into_inner(),
            (None, Some(request)) => {
                let mut table = self.lock();
                match table.jobs.get(&request).cloned() {
                    // A job has the id of its request. Treat the request of somebody else's job
                    // like the job's id: to say that it was never started would be untrue.
                    Some(job) if job.is_seen_by(asker) => job,
                    _ => return table.stop_unknown(who, request, stop.instance),
                }
            }
            (None, None) => {
                return Err(Failure::new(
                    Kind::InvalidArgument,
                    "the request does not say what to stop",
                ));
            }
        };
        let terminal = job.terminal.as_ref().filter(|_| !job.has_ended());
        let lease = terminal.and_then(|terminal| terminal.typing().arbiter.lease(boottime()));
        asker.may(&Demand::Stop(job.facts(), lease.as_ref()))?;
        if let Some(terminal) = terminal {
            let what = stop.signal.map_or(What::Closed, What::Signalled);
            terminal.note(Some(who), what);
        }
        if let Some(failure) = job.state().failure.filter(|_| job.is_unknown()) {
            return Err(failure);
        }
        job.stop(stop.signal)
    }

    /// The devices with queued jobs.
    pub(crate) fn waiting(&self) -> Vec<Id> {
        let table = self.lock();
        let mut devices = Vec::new();
        for job in table.jobs.values().filter(|job| job.is_queued()) {
            if !devices.contains(&job.owner.device) {
                devices.push(job.owner.device);
            }
        }
        devices
    }

    /// Cancels a device's queued jobs. Those that run go on.
    pub(crate) fn withdraw(&self, device: &Id) {
        for job in self.lock().jobs.values() {
            if job.owner.device == *device && job.is_queued() {
                job.program.cancel(STOPPED);
            }
        }
    }

    /// The number of running jobs, and how many bytes of output are kept.
    pub(crate) fn load(&self) -> (usize, u64) {
        let table = self.lock();
        let running = table.jobs.values().filter(|job| !job.has_ended()).count();
        let kept = table.jobs.values().map(|job| {
            let stats = job.spool.stats();
            stats.end - stats.start
        });
        (running, kept.sum())
    }
}

#[cfg(test)]
mod tests;
