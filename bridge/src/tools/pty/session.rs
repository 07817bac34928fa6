//! The caller of a tool of category `pty`, and what a session id stands for: a terminal, or a
//! program with separate streams.

use std::sync::Arc;
use std::time::Duration;

use farwire_keystore::{Class, ShortId};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::State;
use farwire_protocol::streams::session::{self as wire, LABEL_LIMIT};

use crate::client::Client;
use crate::sessions::find::{KnownSession, by_id};
use crate::sessions::pipes::{Pipe, Side};
use crate::sessions::window::{Span, Window, window};
use crate::text::header::{Call, Fate};
use crate::text::neutral::neutral_within;
use crate::tools::seat::Seat;

/// The owner that a call acts for, and the client id that it gives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) owner: Option<&'a str>,
    pub(super) client: Option<&'a str>,
}

impl<'a> Who<'a> {
    pub(super) fn of(
        seat: &Seat,
        owner: Option<&'a String>,
        client: Option<&'a String>,
    ) -> Result<Self, Failure> {
        let owner = label("owner", owner)?;
        if owner.is_none() && seat.settings.owner_required {
            return Err(Failure::new(Kind::InvalidArgument, "owner is missing").with_hint(
                "name the user or task you act for in owner; use the same owner in every call",
            ));
        }
        Ok(Self { owner, client: label("client_id", client)? })
    }

    pub(super) fn caller(self) -> wire::Caller {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        wire::Caller { client: owned(self.client), owner: owned(self.owner) }
    }
}

/// Checks a name that a caller gave. An empty one counts as missing.
pub(super) fn label<'a>(what: &str, text: Option<&'a String>) -> Result<Option<&'a str>, Failure> {
    let text = text.map(|text| text.trim()).filter(|text| !text.is_empty());
    let wrong =
        text.is_some_and(|text| text.len() > LABEL_LIMIT || text.chars().any(char::is_control));
    if wrong {
        let text = format!("{what}: at most {LABEL_LIMIT} bytes, and no control characters");
        return Err(Failure::new(Kind::InvalidArgument, text));
    }
    Ok(text)
}

/// The session that an id stands for.
#[derive(Debug)]
pub(super) enum PtySession {
    /// A terminal.
    Terminal(Box<KnownSession>),
    /// A program with separate streams.
    Pipe(Arc<Pipe>),
}

impl PtySession {
    /// Finds a session for a caller that only looks.
    pub(super) async fn find(seat: &Seat, id: &str, who: Who<'_>) -> Result<Self, Failure> {
        if let Some(pipe) = seat.pipes.find(id, who.owner) {
            return Ok(Self::Pipe(pipe));
        }
        if id.trim().parse::<ShortId>().is_ok_and(|id| id.class != Class::Session) {
            let shown = neutral_within(id, 40);
            let text = format!("no session `{shown}` was opened by this process for this owner");
            return Err(Failure::new(Kind::UnknownId, text));
        }
        Ok(Self::Terminal(Box::new(by_id(seat.client().await?, id, who.owner).await?)))
    }

    /// Finds a session for a caller that changes something: no other client is attached.
    pub(super) async fn claim(seat: &Seat, id: &str, who: Who<'_>) -> Result<Self, Failure> {
        let place = Self::find(seat, id, who).await?;
        if let Self::Terminal(found) = &place {
            found.free_for(who.client)?;
            let rights = found.status.typing.as_ref();
            if rights.is_some_and(|rights| rights.lease.is_some()) {
                // A client that was given the lease acts through us now: we renew it on its behalf.
                let client = seat.shared_client().await?;
                seat.leases.hold(client, &found.handle.server, found.handle.job, &who.caller())?;
            }
        }
        Ok(place)
    }

    pub(super) fn id(&self) -> ShortId {
        match self {
            Self::Terminal(found) => found.handle.id,
            Self::Pipe(pipe) => pipe.id,
        }
    }

    pub(super) fn job(&self) -> Nonce {
        match self {
            Self::Terminal(found) => found.handle.job,
            Self::Pipe(pipe) => pipe.job,
        }
    }

    pub(super) fn state(&self) -> State {
        match self {
            Self::Terminal(found) => found.job.state.clone(),
            Self::Pipe(pipe) => pipe.state(),
        }
    }

    /// Where a stream ends now, as far as this process knows.
    pub(super) fn end(&self, side: Side) -> u64 {
        match self {
            Self::Terminal(found) => found.job.state.bytes,
            Self::Pipe(pipe) => pipe.end_of(side),
        }
    }

    /// The terminal; a failure for separate streams.
    pub(super) fn terminal(&self) -> Result<&KnownSession, Failure> {
        match self {
            Self::Terminal(found) => Ok(found),
            Self::Pipe(pipe) => Err(Failure::new(
                Kind::InvalidArgument,
                format!("{} has separate streams, and no terminal", pipe.id),
            )),
        }
    }

    /// Fails if it has ended.
    pub(super) fn open(&self) -> Result<(), Failure> {
        let state = self.state();
        if state.is_open() {
            return Ok(());
        }
        let text = format!("{} has ended: {}", self.id(), Fate::of(&state));
        Err(Failure::new(Kind::AlreadyEnded, text).with_hint("pty_read still reads its output"))
    }

    /// Reads a part of its output.
    pub(super) async fn window(
        &self,
        client: &Client,
        side: Side,
        span: Span,
    ) -> Result<Window, Failure> {
        match self {
            Self::Pipe(pipe) => pipe.window(side, span).await,
            Self::Terminal(found) => {
                window(client, &found.handle.server, found.handle.job, span).await
            }
        }
    }
}

/// Adds the owner to a call, if there is one.
pub(super) fn for_owner(call: Call, owner: Option<&str>) -> Call {
    match owner {
        Some(owner) => call.with("owner", owner),
        None => call,
    }
}

/// The requested wait in milliseconds, limited to the longest wait of a call.
pub(super) fn millis(seat: &Seat, asked: Option<u64>, default: Duration) -> Duration {
    asked.map_or(default, Duration::from_millis).min(seat.settings.max_wait)
}
