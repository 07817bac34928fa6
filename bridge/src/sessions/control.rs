//! Actions on a session other than typing: leases, sizes, signals, labels; and its events. The
//! agent decides on all of them.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::{Action, Caller, Control, Ended, Event, Events, Request};

use super::{SessionReply, ask};
use crate::client::{Client, Server};
use crate::runs::answer::NoAnswer;
use crate::runs::control;

/// How long an agent may take for an action that takes no time.
const PATIENCE: Duration = Duration::from_secs(20);

/// One answer has at most this many events.
pub const PAGE: u32 = 500;

/// At most this many events are read: enough for a session that was typed into for days.
const MOST: usize = 100_000;

/// Carries out an action on a session. Returns the session's state afterwards.
pub async fn act(
    client: &Client,
    server: &Server,
    session: Nonce,
    caller: &Caller,
    action: Action,
) -> Result<Ended, Failure> {
    let control = Control { session, caller: Some(caller.clone()), action };
    let answer = ask(client, server, &Request::Control(control), PATIENCE).await;
    Ok(answer.map_err(NoAnswer::failure)?.ended)
}

/// Ends a session's program: HUP, then TERM, then KILL. A session that has already ended is not a
/// failure.
pub async fn close(
    client: &Client,
    server: &Server,
    session: Nonce,
    caller: &Caller,
) -> Result<(), Failure> {
    match act(client, server, session, caller, Action::Close).await {
        Err(failure) if failure.kind == Kind::AlreadyEnded => Ok(()),
        // An older agent knows only stops, which name no caller.
        Err(failure) if failure.kind == Kind::Unsupported => {
            control::stop(client, server, session, None).await.map(drop)
        }
        closed => closed.map(drop),
    }
}

/// Returns the screen of a session, and who is attached.
pub async fn look(
    client: &Client,
    server: &Server,
    session: Nonce,
) -> Result<SessionReply, Failure> {
    ask(client, server, &Request::Look(session), PATIENCE).await.map_err(NoAnswer::failure)
}

/// Returns the escape sequences that draw the screen of a session on a terminal.
pub async fn draw(
    client: &Client,
    server: &Server,
    session: Nonce,
) -> Result<SessionReply, Failure> {
    ask(client, server, &Request::Draw(session), PATIENCE).await.map_err(NoAnswer::failure)
}

/// Returns the events of a session from a number on, waiting for the first if there is none yet.
pub async fn events(
    client: &Client,
    server: &Server,
    events: &Events,
) -> Result<(Vec<Event>, Ended), Failure> {
    let patience = PATIENCE + Duration::from_millis(events.wait_ms);
    let answer = ask(client, server, &Request::Events(events.clone()), patience)
        .await
        .map_err(NoAnswer::failure)?;
    let mut ended = answer.ended;
    Ok((ended.events.take().unwrap_or_default(), ended))
}

/// Returns all events of a session.
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
