//! Jobs: programs that outlive the stream that asked for them.
//!
//! [`Jobs`] knows every job and every request. A request is reserved, with the hash of all that it
//! asks, before anything else happens, so that it starts at most one program however often it is
//! repeated; the [`journal`] answers for requests of earlier processes. A [`job`] has its program with
//! one of the [`holders`], which outlive this process: the next one adopts what they hold. Everything
//! is keyed by the owner, a device and a surface: another owner's request is like one that never was.

mod ended;
mod files;
pub(crate) mod holders;
pub(crate) mod job;
pub(crate) mod journal;
pub(crate) mod keeper;
mod lines;
mod past;
mod record;
mod table;
pub(crate) mod turns;
pub(crate) mod users;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::streams::control::{Stop, Stopped};
use farwire_protocol::streams::run::{Delivery, Exit, Start};
use farwire_protocol::streams::session::Labels;
use farwire_protocol::streams::session::{self, NAME_LIMIT};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::gate::demand::Demand;
use crate::gate::principal::Principal;
use crate::gate::reason::Denied;
use crate::gate::{Allowed, Asker};
use crate::jobs::holders::{Holders, Launch};
use crate::jobs::job::{Job, Plan, STOPPED};
use crate::jobs::journal::{Asked, Ending, Journal, Past};
use crate::jobs::table::Table;
use crate::jobs::turns::Turns;
use crate::jobs::users::Users;
use crate::os::clock::boottime;
use crate::spool::Memory;
use crate::terminal::Terminal;
use crate::terminal::events::What;
use crate::terminal::shell;

/// So many runs of one device go at once; further ones queue.
pub(crate) const CONCURRENT: usize = 64;

/// So many sessions are open at once at most.
const SESSIONS: usize = 10_000;

/// The name of the journal in the state directory.
const JOURNAL: &str = "journal";

/// How long a job is kept after its end, where nothing else is said of it.
pub(crate) const KEEP: Duration = Duration::from_secs(24 * 3600);

/// Under which id something is asked for, of which agent process, and what it is.
struct Asking {
    request: Nonce,
    instance: Nonce,
    hash: [u8; 32],
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
    /// Where what is kept of sessions is.
    files: PathBuf,
    /// Where what is kept of runs is.
    runs: PathBuf,
    /// Where shells find what teaches them marks.
    shell: PathBuf,
    instance: Nonce,
    holders: Arc<Holders>,
    turns: Arc<Turns>,
    tasks: TaskTracker,
    /// So many sessions are open at once at most.
    sessions: usize,
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
            files: state.join("sessions"),
            runs,
            shell: shell::prepare(state)?,
            instance,
            holders: Arc::new(Holders::open(state, launch)?),
            turns: Turns::new(CONCURRENT),
            tasks: TaskTracker::new(),
            sessions: SESSIONS,
        })
    }

    /// The same with so many sessions open at once at most.
    pub(crate) fn with_sessions(self, sessions: Option<usize>) -> Self {
        Self { sessions: sessions.unwrap_or(self.sessions), ..self }
    }

    /// Takes over the jobs of the agent before this one, and throws away the output of those that
    /// nobody holds. Gives the conversations about them. To be done before anything is asked.
    pub(crate) async fn adopt(self: &Arc<Self>) -> Vec<(Arc<Principal>, Nonce, Nonce, Delivery)> {
        let mut conversations = Vec::new();
        let mut adopted = Vec::new();
        let found = self.holders.adopt().await;
        let mut taken = true;
        for found in found.jobs {
            let path = self.directory.join(found.held.job.to_string());
            match Job::adopt(found, path) {
                Ok((job, about)) => {
                    let about = about.into_iter().map(|(conversation, delivery)| {
                        (job.owner.clone(), conversation, job.id, delivery)
                    });
                    conversations.extend(about);
                    adopted.push(job);
                }
                Err(failure) => {
                    tracing::warn!(%failure, "a job could not be taken over");
                    taken = false;
                }
            }
        }
        self.holders.attend_taken();
        adopted.sort_by_key(|job| job.asked());
        if !adopted.is_empty() {
            tracing::info!(jobs = adopted.len(), "taken over from the agent before");
        }
        let (mut past, mut all) = match found.left_alone {
            true => (Vec::new(), false),
            false => self.past(&adopted),
        };
        let (mut runs, all_runs) = self.past_runs(&adopted);
        all &= all_runs;
        past.append(&mut runs);
        let mut table = self.lock();
        for job in past {
            table.jobs.insert(job.id, job.clone());
            table.order.push_back(job.id);
        }
        for job in adopted {
            table.jobs.insert(job.id, job.clone());
            table.order.push_back(job.id);
            self.recall_events(&job);
            let run = job.terminal.is_none();
            let turn = run.then(|| self.turns.occupy(job.owner.device));
            self.follow(&job);
            let jobs = self.clone();
            self.tasks.spawn(async move {
                let exit = job.exit().await;
                drop(turn);
                jobs.ended(&job, exit);
            });
        }
        table.forget(Instant::now());
        table.bound_output();
        // The output of what is unknown here may be needed by the next agent.
        if all && taken {
            table.sweep(&self.directory);
        }
        drop(table);
        self.tasks.spawn(self.clone().write_down_runs());
        self.holders.make_ready();
        self.tasks.spawn(keeper::keep(self.clone()));
        conversations
    }

    /// Where what is kept of a session is.
    fn files_of(&self, id: Nonce) -> PathBuf {
        self.files.join(id.to_string())
    }

    /// All sessions, with what they have besides.
    fn kept_sessions(&self) -> Vec<(Arc<Job>, Arc<Terminal>)> {
        let table = self.lock();
        let session = |job: &Arc<Job>| Some((job.clone(), job.terminal.clone()?));
        table.jobs.values().filter_map(session).collect()
    }

    /// Forgets what ended longer ago than it is kept. Returns all that was forgotten since the last time, of
    /// which there may be files.
    fn forget_ended(&self) -> Vec<Arc<Job>> {
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
            self.tasks.spawn(terminal.clone().follow(Arc::downgrade(job)));
        }
    }

    fn ended(&self, job: &Arc<Job>, exit: Option<Exit>) {
        if !job.is_held() {
            self.holders.finished.add(None, job.clone());
        }
        if let Some(terminal) = job.terminal.as_ref().filter(|_| exit.is_some()) {
            terminal.note(job, None, What::Ended);
        }
        // Of what is not known nothing is written down: the record of its beginning says so.
        let ending = match exit {
            Some(exit) => Some(Ending::Exit(exit)),
            None => (!job.is_unknown() && !job.has_started()).then_some(Ending::NotStarted),
        };
        if let Some(ending) = ending {
            self.lock().journal.ended(&job.owner, job.id, ending);
        }
    }

    /// Gives up what waits for its turn, because the agent is about to end: that it was never started is written
    /// down, and is certain for the next agent. Nothing is begun any more. Returns whether anything waited.
    pub(crate) fn retire(&self) -> bool {
        let mut guard = self.lock();
        let table = &mut *guard;
        table.retired = true;
        let mut waited = false;
        for job in table.jobs.values().filter(|job| job.is_queued()) {
            if job.cancel("the agent was ended before its turn came; it was not started") {
                table.journal.ended(&job.owner, job.id, Ending::NotStarted);
                waited = true;
            }
        }
        waited
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics while it is held")
    }

    /// Starts what is asked for, unless this request has been seen. Gives the job, and whether it
    /// was there before.
    ///
    /// Users may be looked up over a network: `users` waits for that, and whoever drops this before starts
    /// nothing.
    pub(crate) async fn start(
        self: &Arc<Self>,
        owner: &Arc<Principal>,
        (start, hash): (Allowed<&Start>, [u8; 32]),
        users: &Users,
    ) -> Result<(Arc<Job>, bool), Failure> {
        let asked = Asking { request: start.request, instance: start.instance, hash };
        if let Some(job) = self.known(&self.lock(), owner, &asked)? {
            return Ok((job, true));
        }
        let user = users.find(start.user.as_deref()).await?;
        let plan = Plan::run(&start, user)?;
        self.begin(owner, asked, |_| Ok(plan))
    }

    /// Opens a session, or takes up the one with its name. What is said of `users` there holds here.
    pub(crate) async fn open_session(
        self: &Arc<Self>,
        asker: &Asker,
        (start, hash): (Allowed<&session::Start>, [u8; 32]),
        users: &Users,
    ) -> Result<(Arc<Job>, bool), Failure> {
        let (owner, start) = (Arc::new(asker.who.as_surface()), start.into_inner());
        if let Some(name) = &start.name {
            check_name(name)?;
        }
        let asked = || Asking { request: start.request, instance: start.instance, hash };
        if let Some(job) = self.named(asker, start)? {
            return Ok((job, true));
        }
        if let Some(job) = self.known(&self.lock(), &owner, &asked())? {
            return Ok((job, true));
        }
        let user = users.find(start.user.as_deref()).await?;
        let shell = match Plan::shell_word(start) {
            Some(word) => users.program(move || shell::named(&word)).await?,
            None => None,
        };
        // Somebody may have opened it meanwhile.
        if let Some(job) = self.named(asker, start)? {
            return Ok((job, true));
        }
        self.begin(&owner, asked(), |table| {
            let open = table.jobs.values().filter(|job| job.terminal.is_some() && !job.ended());
            if open.count() >= self.sessions {
                let text = format!("{} sessions are open on this server", self.sessions);
                return Err(Failure::new(Kind::SessionLimit, text));
            }
            let name = start.name.clone().unwrap_or_else(|| table.free_name(asker));
            Plan::session(start, (user, shell), (name, &self.shell))
        })
    }

    /// The session that another request has opened under the name that is asked for, if that is to be taken up.
    fn named(&self, asker: &Asker, start: &session::Start) -> Result<Option<Arc<Job>>, Failure> {
        let named = self.lock().session(asker, start.name.as_deref().unwrap_or_default()).cloned();
        let named = named.filter(|job| job.id != start.request);
        if named.is_some() && start.new == Some(true) {
            let message = "a session of this name runs already";
            return Err(Failure::new(Kind::InvalidArgument, message)
                .with_hint("attach to it, or choose another name"));
        }
        Ok(named)
    }

    /// A session, and those others that are filed in the group of these labels: open ones of the same
    /// device for the same owner.
    pub(crate) fn group(&self, job: &Arc<Job>, labels: &Labels) -> Vec<Arc<Job>> {
        if labels.group.is_none() {
            return vec![job.clone()];
        }
        let table = self.lock();
        let member = |other: &&Arc<Job>| {
            let same = other.owner.device == job.owner.device && !other.ended();
            same && other.terminal.as_ref().is_some_and(|terminal| {
                let filed = terminal.filed();
                filed.labels.group == labels.group && filed.labels.owner == labels.owner
            })
        };
        let others = table.jobs.values().filter(|other| other.id != job.id).filter(member).cloned();
        std::iter::once(job.clone()).chain(others).collect()
    }

    /// The job of a request that has been seen. An error if it must not be carried out any more.
    fn known(
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
        match table.journal.asked(owner, id, hash) {
            Asked::Other => Err(Past::Conflict.failure()),
            Asked::Same => Err(Failure::new(Kind::Expired, "the run is no longer kept")),
            Asked::No if instance != self.instance => {
                Err(table.journal.past(owner, id, (instance, hash)).failure())
            }
            Asked::No => Ok(None),
        }
    }

    fn begin(
        self: &Arc<Self>,
        owner: &Arc<Principal>,
        asked: Asking,
        plan: impl FnOnce(&Table) -> Result<Plan, Failure>,
    ) -> Result<(Arc<Job>, bool), Failure> {
        // The bridge names the job, so that it can write the name down before it sends the request.
        let mut table = self.lock();
        table.forget(Instant::now());
        if let Some(job) = self.known(&table, owner, &asked)? {
            return Ok((job, true));
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
        let path = self.directory.join(id.to_string());
        let job = Arc::new(Job::new(owner.clone(), &plan, memory, (path, hash)));
        job.check_note(plan.start.user.uid)?;
        table.journal.reserve(owner, id, &hash)?;
        table.jobs.insert(id, job.clone());
        table.order.push_back(id);
        drop(table);
        let (jobs, running) = (self.clone(), job.clone());
        self.follow(&job);
        self.tasks.spawn(async move {
            let exit = job::run(&running, plan, place, &jobs.holders).await;
            jobs.ended(&running, exit);
        });
        Ok((job, false))
    }

    /// A job that this one may see: for all others it is one that never was.
    pub(crate) fn find(&self, asker: &Asker, id: Nonce) -> Result<Allowed<Arc<Job>>, Failure> {
        let table = self.lock();
        let job = table.jobs.get(&id).ok_or_else(|| table.gone(&asker.who, id))?;
        let demand = Demand::Use(job.facts());
        asker.allowed(&demand, job.clone()).map_err(Denied::failure)
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
                    // The id of a request is that of its job. Of somebody else's the same is meant as by its
                    // id: that it was never started would be untrue.
                    Some(job) if job.is_seen_by(asker) => job,
                    _ => return table.stop_unknown(who, request, stop.instance),
                }
            }
            (None, None) => {
                return Err(Failure::new(Kind::InvalidArgument, "nothing to stop is named"));
            }
        };
        let terminal = job.terminal.as_ref().filter(|_| !job.ended());
        let lease = terminal.and_then(|terminal| terminal.hands().lease(boottime()));
        asker.may(&Demand::Stop(job.facts(), lease.as_ref()))?;
        if let Some(terminal) = terminal {
            let what = stop.signal.map_or(What::Closed, What::Signalled);
            terminal.note(&job, Some(who), what);
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
                job.cancel(STOPPED);
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

/// There is no such job.
fn unknown() -> Failure {
    Denied::Unseen.failure()
}

fn check_name(name: &str) -> Result<(), Failure> {
    let fits = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
    if name.is_empty() || name.len() > NAME_LIMIT || !name.chars().all(fits) {
        let text =
            "a session's name has letters, digits, `-`, `_`, `.` and blanks, at most 64 bytes";
        return Err(Failure::new(Kind::InvalidArgument, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
