//! Sessions: jobs with a terminal. All code that opens, finds or keeps one goes through here.
//!
//! [`Session`] pairs a job with its terminal: jobs know nothing of what happens on a terminal, and
//! a terminal knows nothing of requests. The [`keeper`] writes what must outlive both below
//! `STATE/sessions` once a second, and the next agent reads it, see [`past`].

mod files;
mod keeper;
mod lines;
mod past;
mod record;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::streams::session::{Labels, NAME_LIMIT, Start};
use tokio_util::task::TaskTracker;

use crate::gate::demand::Demand;
use crate::gate::principal::Principal;
use crate::gate::reason::Denied;
use crate::gate::{Allowed, Asker};
use crate::jobs::job::{Job, JobPlan};
use crate::jobs::users::Users;
use crate::jobs::{Asking, Begun, Jobs, Recalled};
use crate::os::clock::boottime;
use crate::terminal::{Terminal, shell};

/// At most this many sessions are open at once by default.
const SESSIONS: usize = 10_000;

/// A job and its terminal.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) job: Arc<Job>,
    pub(crate) terminal: Arc<Terminal>,
}

impl Session {
    /// The session of a job, if it has a terminal.
    pub(crate) fn of(job: Arc<Job>) -> Option<Self> {
        let terminal = job.terminal.clone()?;
        Some(Self { job, terminal })
    }
}

/// All sessions of this agent process.
#[derive(Debug)]
pub(crate) struct Sessions {
    jobs: Arc<Jobs>,
    /// The directory with their files.
    directory: PathBuf,
    /// The directory with the start-up files that teach shells marks.
    shell: PathBuf,
    /// At most this many are open at once.
    most: usize,
    tasks: TaskTracker,
}

impl Sessions {
    /// The sessions among `jobs`. At most `most` are open at once.
    pub(crate) fn open(
        jobs: Arc<Jobs>,
        state: &Path,
        most: Option<usize>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            jobs,
            directory: state.join("sessions"),
            shell: shell::prepare(state)?,
            most: most.unwrap_or(SESSIONS),
            tasks: TaskTracker::new(),
        })
    }

    /// Takes over the jobs of the previous agent, runs and sessions, and looks after sessions from
    /// now on. Returns the conversations about them. Call it before any request is served.
    pub(crate) async fn adopt(self: &Arc<Self>) -> Vec<Recalled> {
        let taken = self.jobs.take_over().await;
        let (past, all) = match taken.left_alone {
            true => (Vec::new(), false),
            false => self.past(&taken.jobs),
        };
        for session in taken.jobs.iter().cloned().filter_map(Session::of) {
            self.recall_events(&session);
        }
        let conversations = self.jobs.resume(taken, past, all);
        self.tasks.spawn(keeper::keep(self.clone()));
        conversations
    }

    /// The directory with the files of a session.
    fn files_of(&self, id: Nonce) -> PathBuf {
        self.directory.join(id.to_string())
    }

    /// Every session, open or ended.
    fn all(&self) -> Vec<Session> {
        let jobs = self.jobs.select(|job| job.terminal.is_some());
        jobs.into_iter().filter_map(Session::of).collect()
    }

    /// Opens a session, or returns the one with its name. `hash` is that of the request. For
    /// `users` see [`Jobs::start`].
    pub(crate) async fn start(
        &self,
        asker: &Asker,
        start: Allowed<&Start>,
        hash: [u8; 32],
        users: &Users,
    ) -> Result<Begun, Failure> {
        let (owner, start) = (Arc::new(asker.who.as_surface()), start.into_inner());
        if let Some(name) = &start.name {
            check_name(name)?;
        }
        let asked = || Asking { request: start.request, instance: start.instance, hash };
        // What this request has opened is its own, whoever else has opened one of that name.
        let opened = self.jobs.find_asked(&owner, &asked());
        if let Ok(Some(job)) = opened {
            return Ok(Begun { job, known: true });
        }
        if let Some(job) = self.find_by_name(asker, start)? {
            return Ok(Begun { job, known: true });
        }
        opened?;
        let user = users.find(start.user.as_deref()).await?;
        let shell = match JobPlan::shell_word(start) {
            Some(word) => users.program(move || shell::find(&word)).await?,
            None => None,
        };
        // Somebody may have opened it meanwhile.
        if let Some(job) = self.find_by_name(asker, start)? {
            return Ok(Begun { job, known: true });
        }
        self.jobs.begin(&owner, asked(), |table| {
            if table.open_sessions() >= self.most {
                let text =
                    format!("{} sessions are already open on this server, the maximum", self.most);
                return Err(Failure::new(Kind::SessionLimit, text));
            }
            let name = start.name.clone().unwrap_or_else(|| table.free_name(asker));
            JobPlan::session(start, user, shell, name, &self.shell)
        })
    }

    /// The session that another request has opened under the requested name, if there is one: the
    /// asker's own before those of others.
    fn find_by_name(&self, asker: &Asker, start: &Start) -> Result<Option<Arc<Job>>, Failure> {
        let Some(name) = start.name.as_deref() else { return Ok(None) };
        let mut named = self.jobs.sessions_named(asker, name);
        named.retain(|job| job.id != start.request);
        if !named.is_empty() && start.new == Some(true) {
            let message = "a session of this name is already running";
            return Err(Failure::new(Kind::InvalidArgument, message)
                .with_hint("attach to it, or choose another name"));
        }
        let mut nearest = nearest(&asker.who, named);
        if nearest.len() > 1 {
            let text = format!("{} sessions are called `{name}`", nearest.len());
            return Err(Failure::new(Kind::AmbiguousSession, text)
                .with_hint("name one by its id; a list of sessions shows who opened which"));
        }
        Ok(nearest.pop())
    }

    /// A session, if `asker` may see it: to all others it does not exist.
    pub(crate) fn find(&self, asker: &Asker, id: Nonce) -> Result<Allowed<Session>, Failure> {
        let job = self.jobs.find(asker, id)?.into_inner();
        let session = Session::of(job).ok_or_else(no_terminal)?;
        let demand = Demand::Use(session.job.facts());
        asker.allow(&demand, session.clone()).map_err(Denied::failure)
    }

    /// The devices that have the lease of a session.
    pub(crate) fn lease_devices(&self) -> HashSet<Id> {
        let holder = |session: Session| {
            session.terminal.typing().arbiter.holder(boottime()).map(|holder| holder.device)
        };
        self.open_ones().into_iter().filter_map(holder).collect()
    }

    /// Ends all leases of a device that was removed.
    pub(crate) fn end_leases(&self, device: &Id) {
        for session in self.open_ones() {
            session.terminal.typing().arbiter.end_device(device, boottime());
            session.terminal.settle(None);
        }
    }

    fn open_ones(&self) -> Vec<Session> {
        let jobs = self.jobs.select(|job| job.terminal.is_some() && !job.has_ended());
        jobs.into_iter().filter_map(Session::of).collect()
    }

    /// A session, and the others in the group of these labels: open sessions of the same device for
    /// the same owner.
    pub(crate) fn group(&self, session: &Session, labels: &Labels) -> Vec<Session> {
        if labels.group.is_none() {
            return vec![session.clone()];
        }
        let own = &session.job;
        let others = self.jobs.select(|other| {
            let same =
                other.id != own.id && other.owner.device == own.owner.device && !other.has_ended();
            same && other.terminal.as_ref().is_some_and(|terminal| {
                let filed = terminal.filing();
                filed.labels.group == labels.group && filed.labels.owner == labels.owner
            })
        });
        let others = others.into_iter().filter_map(Session::of);
        std::iter::once(session.clone()).chain(others).collect()
    }
}

/// Narrows jobs of one name to the one that is meant: a job that the asker's device has asked for
/// before those of other devices; of several, one with the owner label that the asker acts for, and
/// then one of the asker's surface. More than one remain where that decides nothing.
fn nearest(who: &Principal, mut jobs: Vec<Arc<Job>>) -> Vec<Arc<Job>> {
    keep_near(&mut jobs, |job| job.owner.device == who.device);
    if who.on_behalf.is_some() {
        keep_near(&mut jobs, |job| job.facts().filed_for.as_deref() == who.on_behalf.as_deref());
    }
    keep_near(&mut jobs, |job| job.owner.is_on_surface_of(who));
    jobs
}

/// Keeps those that are near, or all where none is.
fn keep_near(jobs: &mut Vec<Arc<Job>>, is_near: impl Fn(&Job) -> bool) {
    if jobs.iter().any(|job| is_near(job)) {
        jobs.retain(|job| is_near(job));
    }
}

/// The failure of a request to a run for what only a session has.
pub(crate) fn no_terminal() -> Failure {
    Failure::new(Kind::InvalidArgument, "this is a run, which has no terminal")
}

fn check_name(name: &str) -> Result<(), Failure> {
    let fits = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
    if name.is_empty() || name.len() > NAME_LIMIT || !name.chars().all(fits) {
        let text =
            "a session's name has letters, digits, `-`, `_`, `.` and spaces, at most 64 bytes";
        return Err(Failure::new(Kind::InvalidArgument, text));
    }
    Ok(())
}
