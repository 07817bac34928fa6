//! Waits for the end of several runs and sessions at once, on one or many servers.

use std::sync::Arc;
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::State;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::observer::Observer;
use crate::client::Client;
use crate::handles::Handle;
use crate::sessions::window::end;

/// One call waits for at most this many.
const MOST: usize = 64;

/// How long an answer may be on its way.
const SLACK: Duration = Duration::from_secs(3);

/// Waits for several jobs.
#[derive(Clone, Debug)]
pub struct WaitForJobs {
    /// The short ids of runs and sessions.
    pub ids: Vec<String>,
    /// How many of them are enough.
    pub enough: Enough,
    /// How long to wait.
    pub wait: Duration,
}

/// How many ends are enough.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Enough {
    /// Those of all.
    All,
    /// That of any.
    Any,
}

/// The jobs that were waited for.
#[derive(Debug)]
pub struct WaitForJobsAnswer {
    /// Each of them, in the order in which they were asked for.
    pub jobs: Vec<WaitedJob>,
    /// How many of them have ended.
    pub ended: usize,
    /// Whether that is enough.
    pub done: bool,
}

/// A job that was waited for.
#[derive(Debug)]
pub struct WaitedJob {
    /// The job.
    pub handle: Handle,
    /// How it is, or why its server does not say.
    pub state: Result<State, Failure>,
}

impl WaitForJobs {
    /// Waits. A caller that cancels only stops waiting: the jobs go on.
    ///
    /// # Errors
    ///
    /// Too many ids, or none; `unknown_id`; and `cancelled`.
    pub async fn carry_out(
        &self,
        client: &Arc<Client>,
        observer: &dyn Observer,
    ) -> Result<WaitForJobsAnswer, Failure> {
        if self.ids.is_empty() || self.ids.len() > MOST {
            let text = format!("ids: between 1 and {MOST}");
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
        let handles = self.ids.iter().map(|id| Handle::find(client, id));
        let handles = handles.collect::<Result<Vec<_>, _>>()?;
        let waiting = self.ends(client, &handles);
        let words = "the wait was cancelled; the jobs go on";
        let ends = observer.unless_cancelled(words, waiting).await?;
        let mut jobs = Vec::with_capacity(handles.len());
        for (handle, state) in handles.into_iter().zip(ends) {
            let state = match state {
                Some(state) => state,
                None => end(client, &handle.server, handle.job, Duration::ZERO).await,
            };
            jobs.push(WaitedJob { handle, state });
        }
        let is_over = |job: &&WaitedJob| job.state.as_ref().is_ok_and(|state| !state.is_open());
        let ended = jobs.iter().filter(is_over).count();
        let done = match self.enough {
            Enough::All => ended == jobs.len(),
            Enough::Any => ended > 0,
        };
        Ok(WaitForJobsAnswer { jobs, ended, done })
    }

    /// The ends that came in time; nothing for those that did not, and for those that nobody waits
    /// for any more.
    async fn ends(
        &self,
        client: &Arc<Client>,
        handles: &[Handle],
    ) -> Result<Vec<Option<Result<State, Failure>>>, Failure> {
        let mut waiting = JoinSet::new();
        for (at, Handle { server, job, .. }) in handles.iter().cloned().enumerate() {
            let (client, wait) = (client.clone(), self.wait);
            waiting.spawn(async move { (at, end(&client, &server, job, wait).await) });
        }
        let mut ends: Vec<_> = handles.iter().map(|_| None).collect();
        let deadline = Instant::now() + self.wait + SLACK;
        while let Ok(Some(Ok((at, state)))) = timeout_at(deadline, waiting.join_next()).await {
            let over = state.as_ref().is_ok_and(|state| !state.is_open());
            if let Some(end) = ends.get_mut(at) {
                *end = Some(state);
            }
            if over && self.enough == Enough::Any {
                break;
            }
        }
        Ok(ends)
    }
}
