//! What is done to a session besides typing: leases, sizes, signals, labels; and what happened to it.
//!
//! The agent decides all of it. What is decided here spares a model the asking: whose session it is, and
//! who has the lease.

use std::time::Duration;

use farwire_keystore::{Class, ShortId};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::control::Job;
use farwire_protocol::streams::session::{Action, Caller, Control, Event, Events};
use farwire_protocol::streams::session::{Ended, Request, Status};

use super::{Answer, ask};
use crate::client::{Client, Server};
use crate::runs::answer::NoAnswer;
use crate::runs::{control, find};

/// How long an agent may take to do something that takes no time.
const PATIENCE: Duration = Duration::from_secs(20);

/// So many events come in one answer.
pub const PAGE: u32 = 500;

/// No more events are looked at: a session that was typed into for days.
const MOST: usize = 100_000;

/// A session that somebody may know of.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its short id.
    pub id: ShortId,
    /// Where it is.
    pub server: Server,
    /// Its id.
    pub session: Nonce,
    /// How it is.
    pub job: Job,
}

impl Found {
    /// How it is, as a session.
    pub fn status(&self) -> Result<&Status, Failure> {
        status(&self.job).ok_or_else(|| {
            Failure::new(Kind::InvalidArgument, format!("{} is a run, and no session", self.id))
        })
    }

    /// For whom it is.
    pub fn owner(&self) -> Option<&str> {
        status(&self.job).and_then(owner)
    }

    /// Whether a client may do what changes something: nobody else has the lease.
    pub fn free_for(&self, client: Option<&str>) -> Result<(), Failure> {
        let lease = status(&self.job).and_then(|status| status.typing.as_ref()?.lease.as_ref());
        let Some(lease) = lease else { return Ok(()) };
        let holder = &lease.holder;
        if holder.client.is_some() && holder.client.as_deref() == client {
            return Ok(());
        }
        let who = holder.client.as_deref().unwrap_or("a person");
        let text =
            format!("{} is attached to {who} ({}/{})", self.id, holder.device, holder.surface);
        Err(Failure::new(Kind::InputLocked, text)
            .with_hint("wait, or ask for pty_handoff, or pty_takeover with a reason"))
    }
}

/// How a job is, if it is a session.
pub fn status(job: &Job) -> Option<&Status> {
    job.session.as_deref()
}

/// For whom a session is.
pub fn owner(status: &Status) -> Option<&str> {
    status.labels.as_ref()?.owner.as_deref()
}

/// Whether somebody who acts for `owner` knows of it: a session with an owner is known to nobody who
/// names another.
pub fn known_to(status: &Status, asked: Option<&str>) -> bool {
    match (owner(status), asked) {
        (Some(owner), Some(asked)) => owner == asked,
        _ => true,
    }
}

/// The session of this id, for somebody who acts for `owner`.
pub async fn reach(client: &Client, id: &str, asked: Option<&str>) -> Result<Found, Failure> {
    let (id, server, session) = find(client, id)?;
    if id.class != Class::Session {
        return Err(Failure::new(Kind::UnknownId, format!("`{id}` is not a session")));
    }
    let job = control::inspect(client, &server, session).await?;
    if !status(&job).is_some_and(|status| known_to(status, asked)) {
        return Err(Failure::new(Kind::UnknownId, format!("there is no session `{id}`")));
    }
    Ok(Found { id, server, session, job })
}

/// Why there is no answer.
pub fn why(no: NoAnswer) -> Failure {
    no.failure()
}

/// Does something to a session, and says how it is then.
pub async fn act(
    client: &Client,
    server: &Server,
    session: Nonce,
    caller: &Caller,
    action: Action,
) -> Result<Ended, Failure> {
    let control = Control { session, caller: Some(caller.clone()), action };
    let answer = ask(client, server, &Request::Control(control), PATIENCE).await;
    Ok(answer.map_err(why)?.ended)
}

/// Ends a session's program: HUP, then TERM, then KILL. One that has ended has ended.
pub async fn close(
    client: &Client,
    (server, session): (&Server, Nonce),
    caller: &Caller,
) -> Result<(), Failure> {
    match act(client, server, session, caller, Action::Close).await {
        Err(failure) if failure.kind == Kind::AlreadyEnded => Ok(()),
        // An older agent knows only stops, which are nobody's in particular.
        Err(failure) if failure.kind == Kind::Unsupported => {
            control::stop(client, server, session, None).await.map(drop)
        }
        closed => closed.map(drop),
    }
}

/// How a session is, with everybody who is attached.
pub async fn look(client: &Client, server: &Server, session: Nonce) -> Result<Answer, Failure> {
    ask(client, server, &Request::Look(session), PATIENCE).await.map_err(why)
}

/// What happened to a session since, waiting for something if there is nothing yet.
pub async fn events(
    client: &Client,
    server: &Server,
    events: &Events,
) -> Result<(Vec<Event>, Ended), Failure> {
    let patience = PATIENCE + Duration::from_millis(events.wait_ms);
    let answer =
        ask(client, server, &Request::Events(events.clone()), patience).await.map_err(why)?;
    let mut ended = answer.ended;
    Ok((ended.events.take().unwrap_or_default(), ended))
}

/// All that happened to a session.
pub async fn history(
    client: &Client,
    server: &Server,
    session: Nonce,
    caller: &Caller,
) -> Result<Vec<Event>, Failure> {
    let mut all: Vec<Event> = Vec::new();
    loop {
        let from = all.last().map_or(1, |event| event.number + 1);
        let caller = Some(caller.clone());
        let asked = Events { session, caller, from, limit: PAGE, wait_ms: 0, offset: None };
        let (page, _) = events(client, server, &asked).await?;
        let over = page.is_empty() || all.len() + page.len() >= MOST;
        all.extend(page);
        if over {
            return Ok(all);
        }
    }
}
