//! `pty_attach`, `pty_detach`, `pty_handoff` and `pty_takeover`: which client may type.
//!
//! The agent keeps the lease; this process renews it for as long as it lives. The sessions of a
//! group move together.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::Ended;
use farwire_protocol::streams::session::{Action, Heir, REASON_LIMIT};
use schemars::JsonSchema;
use serde::Deserialize;

use super::session::{PtySession, Who, label};
use crate::sessions::control::act;
use crate::sessions::find::KnownSession;
use crate::sessions::leases::TTL_MS;
use crate::text::header::{Fate, Header, Key};
use crate::tools::answer::lease::lease;
use crate::tools::answer::word;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};

/// Changes only who may type.
const MOVES: Effect =
    Effect { read_only: false, destructive: false, idempotent: true, open_world: false };

/// The arguments of `pty_attach`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyAttach {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// Your client: any name.
    pub client_id: String,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
}

impl Tool for PtyAttach {
    const NAME: &'static str = "pty_attach";
    const TITLE: &'static str = "Attach client";
    const ABOUT: &'static str = "Claim a session for one client (lease, lock): until it detaches, nobody \
        else can read on, type, resize or close. Attaching again renews the lease.";
    const EFFECT: Effect = MOVES;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = named_client(seat, self.owner.as_ref(), &self.client_id)?;
        let place = PtySession::find(seat, &self.session_id, who).await?;
        let found = place.terminal()?;
        place.open()?;
        found.free_for(who.client)?;
        let ended = change(seat, found, who, Action::Acquire(TTL_MS)).await?;
        let client = seat.shared_client().await?;
        seat.leases.hold(client, &found.handle.server, found.handle.job, &who.caller())?;
        Ok(answer(found, &ended))
    }
}

/// The arguments of `pty_detach`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyDetach {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// Your client.
    pub client_id: String,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
}

impl Tool for PtyDetach {
    const NAME: &'static str = "pty_detach";
    const TITLE: &'static str = "Detach client";
    const ABOUT: &'static str =
        "Release a session (its lease) that your client is attached to. Its programs keep running.";
    const EFFECT: Effect = MOVES;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = named_client(seat, self.owner.as_ref(), &self.client_id)?;
        let place = PtySession::find(seat, &self.session_id, who).await?;
        let found = place.terminal()?;
        found.free_for(who.client)?;
        let ended = change(seat, found, who, Action::Release).await?;
        seat.leases.forget(found.handle.job, who.client);
        Ok(answer(found, &ended))
    }
}

/// The arguments of `pty_handoff`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyHandoff {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// Your client: the one that is attached.
    pub client_id: String,
    /// The client that gets it.
    pub target_client_id: String,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Why; recorded.
    pub reason: Option<String>,
}

impl Tool for PtyHandoff {
    const NAME: &'static str = "pty_handoff";
    const TITLE: &'static str = "Hand over";
    const ABOUT: &'static str =
        "Hand a session over from your attached client to another one; the reason is recorded.";
    const EFFECT: Effect = MOVES;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = named_client(seat, self.owner.as_ref(), &self.client_id)?;
        let target = label("target_client_id", Some(&self.target_client_id))?
            .ok_or_else(|| Failure::new(Kind::InvalidArgument, "target_client_id is empty"))?;
        let place = PtySession::find(seat, &self.session_id, who).await?;
        let found = place.terminal()?;
        place.open()?;
        found.free_for(who.client)?;
        let to = Heir { surface: None, client: Some(target.to_owned()) };
        let action = Action::HandOver { to, reason: reason(self.reason)? };
        let ended = change(seat, found, who, action).await?;
        seat.leases.forget(found.handle.job, who.client);
        Ok(answer(found, &ended))
    }
}

/// The arguments of `pty_takeover`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyTakeover {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// Your client.
    pub client_id: String,
    /// The client that is attached now.
    pub from_client_id: String,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Why; recorded.
    pub reason: Option<String>,
}

impl Tool for PtyTakeover {
    const NAME: &'static str = "pty_takeover";
    const TITLE: &'static str = "Take over";
    const ABOUT: &'static str = "Take a session from the attached client, which must be named; the \
        reason is recorded. Cannot take it from a person.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: true, idempotent: false, open_world: false };

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = named_client(seat, self.owner.as_ref(), &self.client_id)?;
        let from = label("from_client_id", Some(&self.from_client_id))?.map(str::to_owned);
        if from.is_none() {
            return Err(Failure::new(Kind::InvalidArgument, "from_client_id is empty")
                .with_hint("pty_status shows who is attached"));
        }
        let place = PtySession::find(seat, &self.session_id, who).await?;
        let found = place.terminal()?;
        place.open()?;
        let before = from.clone();
        let action = Action::TakeOver { from, reason: reason(self.reason)?, for_ms: TTL_MS };
        let ended = change(seat, found, who, action).await?;
        seat.leases.forget(found.handle.job, before.as_deref());
        let client = seat.shared_client().await?;
        seat.leases.hold(client, &found.handle.server, found.handle.job, &who.caller())?;
        Ok(answer(found, &ended))
    }
}

/// The caller, which must give a client id.
fn named_client<'a>(
    seat: &Seat,
    owner: Option<&'a String>,
    client: &'a String,
) -> Result<Who<'a>, Failure> {
    let who = Who::of(seat, owner, Some(client))?;
    match who.client {
        Some(_) => Ok(who),
        None => Err(Failure::new(Kind::InvalidArgument, "client_id is empty")),
    }
}

fn reason(reason: Option<String>) -> Result<Option<String>, Failure> {
    if reason.as_ref().is_some_and(|reason| reason.len() > REASON_LIMIT) {
        let text = format!("reason: at most {REASON_LIMIT} bytes");
        return Err(Failure::new(Kind::TooLarge, text));
    }
    Ok(reason)
}

async fn change(
    seat: &Seat,
    found: &KnownSession,
    who: Who<'_>,
    action: Action,
) -> Result<Ended, Failure> {
    act(seat.client().await?, &found.handle.server, found.handle.job, &who.caller(), action).await
}

/// Adds who holds the lease now.
fn answer(found: &KnownSession, ended: &Ended) -> String {
    let header =
        Header::ending(word(found.handle.id), &found.handle.id.to_string(), Fate::of(&ended.state));
    let header =
        header.field(Key::Lease, lease(&ended.status).unwrap_or_else(|| "none".to_owned()));
    format!("{}\n", header.end())
}
