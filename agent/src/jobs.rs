//! Jobs: programs that outlive the stream that asked for them.
//!
//! [`Jobs`] knows every job and every request. A request is reserved, with the hash of all that it
//! asks, before anything else happens, so that it starts at most one program however often it is
//! repeated; the [`journal`] answers for requests of earlier processes. A [`job`] has its program
//! with one of the [`holders`], which outlive this process: the next one adopts what they hold.
//! Everything is keyed by the owner, a device and a surface: another owner's request is like one
//! that never was.

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

/// So many runs of one device go at once; further ones queue.
pub(crate) const CONCURRENT: usize = 64;

/// The name of the journal in the state directory.
const JOURNAL: &str = "journal";

/// Under which id something is asked for, of which agent process, and what it is.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) request: Nonce,
    pub(crate) instance: Nonce,
    /// The hash of all that is asked.
    pub(crate) hash: [u8; 32],
}

/// The job of a request.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) job: Arc<Job>,
    /// It was there before.
    pub(crate) known: bool,
}

/// A conversation about a job, from the time of an earlier agent.
#[derive(Debug)]
pub(crate) struct Recalled {
    pub(crate) owner: Arc<Principal>,
    pub(crate) conversation: Nonce,
    pub(crate) job: Nonce,
    pub(crate) delivery: Delivery,
}

/// What was taken over from the holders of the agent before this one.
#[derive(Debug)]
pub(crate) struct TakenOver {
    /// In the order in which they were asked for.
    pub(crate) jobs: Vec<Arc<Job>>,
    /// There are holders with whom we cannot speak.
    pub(crate) left_alone: bool,
    conversations: Vec<Recalled>,
    /// None was passed over.
    complete: bool,
}

/// Writes down that nobody has asked a new agent for anything, so that this is certain later.
pub(crate) fn prepare(state: &Path) -> std::io::Result<()> {
    journal::create(&state.join(JOURNAL))
}

/// Every job of this agent process.
#[derive(Debug)]
pub(crate) struct Jobs {
    table: Mutex<Table>,
    directory: PathBuf,
    /// Where what is kept of runs is.
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

    /// Takes over the jobs that holders of the agent before this one have. Nobody else knows of
    /// them before they are [resumed](Self::resume).
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
            tracing::info!(jobs = jobs.len(), "taken over from the agent before");
        }
        TakenOver { jobs, left_alone: found.left_alone, conversations, complete }
    }

    /// Goes on with what was taken over, and with the sessions that were written down and that
    /// nobody holds. Output that belongs to none of them is thrown away, if those are `all`.
    /// Returns the conversations about them.
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
        // The output of what is unknown here may be needed by the next agent.
        if all && all_runs && taken.complete {
            table.sweep(&self.directory);
        }
        drop(table);
        self.tasks.spawn(self.clone().write_down_runs());
        self.holders.make_ready();
        taken.conversations
    }

    /// Where the output of a job is that does not fit its memory.
    pub(crate) fn spool_of(&self, id: Nonce) -> PathBuf {
        self.directory.join(id.to_string())
    }

    /// Forgets what ended longer ago than it is kept. Returns all that was forgotten since the last
    /// time, of which there may be files.
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

    /// Keeps a session's terminal up with what it says.
    fn follow(&self, job: &Arc<Job>) {
        if let Some(terminal) = &job.terminal {
            self.tasks.spawn(Terminal::follow(Arc::downgrade(terminal)));
        }
    }

    /// A job has come to its end: that is written down.
    fn note_end(&self, job: &Arc<Job>, exit: Option<Exit>) {
        if !job.program.is_held() {
            self.holders.finished.add(None, job.clone());
        }
        if let Some(terminal) = job.terminal.as_ref().filter(|_| exit.is_some()) {
            terminal.note(None, What::Ended);
        }
        // Of what is not known nothing is written down: the record of its beginning says so.
        let ending = match exit {
            Some(exit) => Some(Ending::Exit(exit)),
            None => (!job.is_unknown() && !job.has_started()).then_some(Ending::NotStarted),
        };
        if let Some(ending) = ending {
            self.lock().journal.note_end(&job.owner, job.id, ending);
        }
    }

    /// Gives up what waits for its turn, because the agent is about to end: that it was never
    /// started is written down, and is certain for the next agent. Nothing is begun any more.
    /// Returns whether anything waited.
    pub(crate) fn retire(&self) -> bool {
        let mut guard = self.lock();
        let table = &mut *guard;
        table.retired = true;
        let mut waited = false;
        for job in table.jobs.values().filter(|job| job.is_queued()) {
            if job.program.cancel("the agent was ended before its turn came; it was not started") {
                table.journal.note_end(&job.owner, job.id, Ending::NotStarted);
                waited = true;
            }
        }
        waited
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics while it is held")
    }

    /// Starts what is asked for, unless this request has been seen. `hash` is that of the request.
    ///
    /// Users may be looked up over a network: `users` waits for that, and whoever drops this before
    /// starts nothing.
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

    /// The open session of this name that this one may see.
    pub(crate) fn session_named(&self, asker: &Asker, name: &str) -> Option<Arc<Job>> {
        self.lock().session(asker, name).cloned()
    }

    /// The jobs for which `wanted` is true, in no order.
    pub(crate) fn select(&self, wanted: impl Fn(&Job) -> bool) -> Vec<Arc<Job>> {
        self.lock().jobs.values().filter(|job| wanted(job)).cloned().collect()
    }

    /// The job of a request that has been seen. An error if it must not be carried out any more.
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
        // What runs or is kept is known by itself, whatever the journal knows.
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

    /// Begins a job of the plan that `plan` makes, unless the request has been seen meanwhile.
    pub(crate) fn begin(
        self: &Arc<Self>,
        owner: &Arc<Principal>,
        asked: Asking,
        plan: impl FnOnce(&Table) -> Result<JobPlan, Failure>,
    ) -> Result<Begun, Failure> {
        // The bridge names the job, so that it can write the name down before it sends the request.
        let mut table = self.lock();
        table.forget(Instant::now());
        if let Some(job) = self.look_up(&table, owner, &asked)? {
            return Ok(Begun { job, known: true });
        }
        if table.retired {
            return Err(Failure::new(
                Kind::ServerOffline,
                "the agent is ending; nothing was started",
            )
            .with_hint("try again when the server is online"));
        }
        let Asking { request: id, hash, .. } = asked;
        let plan = plan(&table)?;
        // A session may wait for somebody for days: it does not wait for runs, nor they for it.
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

    /// A job that this one may see: for all others it is one that never was.
    pub(crate) fn find(&self, asker: &Asker, id: Nonce) -> Result<Allowed<Arc<Job>>, Failure> {
        let table = self.lock();
        let job = table.jobs.get(&id).ok_or_else(|| table.why_gone(&asker.who, id))?;
        let demand = Demand::Use(job.facts());
        asker.allow(&demand, job.clone()).map_err(Denied::failure)
    }

    /// The jobs that this one may see, newest first, at most `limit` after `after`.
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
            .filter(|job| job.is_seen_by(asker) && !(running && job.ended()));
        let jobs: Vec<_> = found.by_ref().take(limit).cloned().collect();
        let more = found.next().is_some();
        (jobs, more)
    }

    /// Stops a job, by its id or by the request that started it or will.
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
                    // The id of a request is that of its job. Of somebody else's the same is meant
                    // as by its id: that it was never started would be untrue.
                    Some(job) if job.is_seen_by(asker) => job,
                    _ => return table.stop_unknown(who, request, stop.instance),
                }
            }
            (None, None) => {
                return Err(Failure::new(Kind::InvalidArgument, "nothing to stop is named"));
            }
        };
        let terminal = job.terminal.as_ref().filter(|_| !job.ended());
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

    /// The devices that have asked for something which has not begun.
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

    /// Gives up what a device has asked for and what has not begun. What runs goes on.
    pub(crate) fn withdraw(&self, device: &Id) {
        for job in self.lock().jobs.values() {
            if job.owner.device == *device && job.is_queued() {
                job.program.cancel(STOPPED);
            }
        }
    }

    /// Jobs that run now, and bytes of output that are kept.
    pub(crate) fn load(&self) -> (usize, u64) {
        let table = self.lock();
        let running = table.jobs.values().filter(|job| !job.ended()).count();
        let kept = table.jobs.values().map(|job| {
            let stats = job.spool.stats();
            stats.end - stats.start
        });
        (running, kept.sum())
    }
}

#[cfg(test)]
mod tests;
