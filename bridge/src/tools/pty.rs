//! The category `pty`: terminals by the names and with the rules of a PTY server.
//!
//! # Rules
//!
//! - Every call says for whom it acts, its `owner`, unless the process was told not to ask. A session with
//!   an owner is not there for anybody who names another.
//! - Where a client has attached, whatever takes output, types, resizes or closes needs its `client_id`;
//!   looking does not.
//! - Being attached grants nothing: the owner comes first.
//! - Each client reads with a cursor of its own, from the first byte that is kept.
//!
//! Terminals live with the agent; sessions with separate streams live with the agent, too, but their two
//! streams are told apart in this process alone (see `sessions/pipes.rs`).

pub mod admin;
pub mod danger;
pub mod lease;
pub mod look;
pub mod notes;
pub mod read;
pub mod said;
pub mod spawn;
pub mod until;
pub mod write;

use std::sync::Arc;
use std::time::Duration;

use farwire_keystore::{Class, ShortId};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::State;
use farwire_protocol::streams::session::{self as wire, LABEL_LIMIT};

pub(super) use self::look::{lease, person};
pub use self::notes::Notes;
use crate::client::Client;
use crate::sessions::control::{Found, reach, status};
use crate::sessions::pipes::{Pipe, Side};
use crate::sessions::window::{Window, window};
use crate::text::header::Call;
use crate::text::neutral::neutral_within;
use crate::tools::Group;
use crate::tools::{Desk, Entry};

/// The tools, in the order in which clients list them.
pub const ALL: &[Entry] = &[
    Entry::of::<spawn::PtySpawn>(),
    Entry::of::<look::PtyResume>(),
    Entry::of::<look::PtyRecover>(),
    Entry::of::<lease::PtyAttach>(),
    Entry::of::<lease::PtyDetach>(),
    Entry::of::<lease::PtyHandoff>(),
    Entry::of::<lease::PtyTakeover>(),
    Entry::of::<read::PtyRead>(),
    Entry::of::<read::PtyReadStdout>(),
    Entry::of::<read::PtyReadStderr>(),
    Entry::of::<read::PtyReadAt>(),
    Entry::of::<until::PtyReadUntil>(),
    Entry::of::<until::PtyReadUntilAny>(),
    Entry::of::<until::PtyReadQuiescent>(),
    Entry::of::<until::PtyPrompt>(),
    Entry::of::<danger::ConfirmDangerousCommand>(),
    Entry::of::<write::PtyWrite>(),
    Entry::of::<write::PtyResize>(),
    Entry::of::<write::PtyClose>(),
    Entry::of::<look::PtyStatus>(),
    Entry::of::<look::PtyWait>(),
    Entry::of::<look::PtyList>(),
    Entry::of::<write::PtySignal>().of_group(Group::Control),
    Entry::of::<admin::PtyCloseAll>().of_group(Group::Admin),
    Entry::of::<admin::SetDefaultCwd>().of_group(Group::Admin),
    Entry::of::<admin::GetDefaultCwd>().of_group(Group::Admin),
    Entry::of::<admin::SetLimits>().of_group(Group::Admin),
    Entry::of::<admin::GetLimits>().of_group(Group::Admin),
    Entry::of::<admin::PtyMetrics>().of_group(Group::Admin),
    Entry::of::<admin::PtyHealth>().of_group(Group::Admin),
];

/// A read that finds nothing waits so long where nobody said otherwise.
const READ: Duration = Duration::from_secs(1);

/// For whom a call acts, and as which client.
#[derive(Clone, Copy, Debug)]
struct Who<'a> {
    owner: Option<&'a str>,
    client: Option<&'a str>,
}

impl<'a> Who<'a> {
    fn of(
        desk: &Desk,
        owner: Option<&'a String>,
        client: Option<&'a String>,
    ) -> Result<Self, Failure> {
        let owner = label("owner", owner)?;
        if owner.is_none() && desk.settings.owner_required {
            return Err(Failure::new(Kind::InvalidArgument, "owner is missing")
                .with_hint("say in owner for whom you act; use the same owner in every call"));
        }
        Ok(Self { owner, client: label("client_id", client)? })
    }

    fn caller(self) -> wire::Caller {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        wire::Caller { client: owned(self.client), owner: owned(self.owner) }
    }
}

/// A name that somebody gave, if it is one.
fn label<'a>(what: &str, text: Option<&'a String>) -> Result<Option<&'a str>, Failure> {
    let text = text.map(|text| text.trim()).filter(|text| !text.is_empty());
    let wrong =
        text.is_some_and(|text| text.len() > LABEL_LIMIT || text.chars().any(char::is_control));
    if wrong {
        let text = format!("{what}: at most {LABEL_LIMIT} bytes, and no control characters");
        return Err(Failure::new(Kind::InvalidArgument, text));
    }
    Ok(text)
}

/// What a session id leads to.
#[derive(Debug)]
enum Place {
    /// A terminal.
    Terminal(Box<Found>),
    /// A program with separate streams.
    Pipe(Arc<Pipe>),
}

impl Place {
    /// Finds it, for somebody who only looks.
    async fn find(desk: &Desk, id: &str, who: Who<'_>) -> Result<Self, Failure> {
        if let Some(pipe) = desk.pipes.find(id, who.owner) {
            return Ok(Self::Pipe(pipe));
        }
        if id.trim().parse::<ShortId>().is_ok_and(|id| id.class != Class::Session) {
            let shown = neutral_within(id, 40);
            let text = format!("no session `{shown}` was opened by this process for this owner");
            return Err(Failure::new(Kind::UnknownId, text));
        }
        Ok(Self::Terminal(Box::new(reach(desk.client().await?, id, who.owner).await?)))
    }

    /// Finds it, for somebody who changes something: nobody else is attached.
    async fn claim(desk: &Desk, id: &str, who: Who<'_>) -> Result<Self, Failure> {
        let place = Self::find(desk, id, who).await?;
        if let Self::Terminal(found) = &place {
            found.free_for(who.client)?;
            let leased =
                status(&found.job).and_then(|status| status.typing.as_ref()?.lease.as_ref());
            if leased.is_some() {
                // A client that was given the lease acts through us now: we keep it for it.
                let client = desk.shared_client().await?;
                desk.leases.hold(client, (&found.server, found.session), &who.caller())?;
            }
        }
        Ok(place)
    }

    fn id(&self) -> ShortId {
        match self {
            Self::Terminal(found) => found.id,
            Self::Pipe(pipe) => pipe.id,
        }
    }

    fn job(&self) -> Nonce {
        match self {
            Self::Terminal(found) => found.session,
            Self::Pipe(pipe) => pipe.job,
        }
    }

    fn state(&self) -> State {
        match self {
            Self::Terminal(found) => found.job.state.clone(),
            Self::Pipe(pipe) => pipe.state(),
        }
    }

    /// Where a stream ends now, as far as that is known.
    fn end(&self, side: Side) -> u64 {
        match self {
            Self::Terminal(found) => found.job.state.bytes,
            Self::Pipe(pipe) => pipe.end_of(side),
        }
    }

    /// That it is a terminal.
    fn terminal(&self) -> Result<&Found, Failure> {
        match self {
            Self::Terminal(found) => Ok(found),
            Self::Pipe(pipe) => Err(Failure::new(
                Kind::InvalidArgument,
                format!("{} has separate streams, and no terminal", pipe.id),
            )),
        }
    }

    /// That it has not ended.
    fn open(&self) -> Result<(), Failure> {
        let state = self.state();
        if state.is_open() {
            return Ok(());
        }
        let text = format!("{} has ended: {}", self.id(), crate::tools::fate(&state));
        Err(Failure::new(Kind::AlreadyEnded, text).with_hint("pty_read still reads what it said"))
    }

    /// A part of what it said.
    async fn window(
        &self,
        client: &Client,
        (side, from): (Side, u64),
        limit: u32,
        wait: Duration,
    ) -> Result<Window, Failure> {
        match self {
            Self::Pipe(pipe) => pipe.window(side, from, limit, wait).await,
            Self::Terminal(found) => {
                window(client, (&found.server, found.session), from, limit, wait).await
            }
        }
    }
}

/// The call for the same owner.
fn for_owner(call: Call, owner: Option<&str>) -> Call {
    match owner {
        Some(owner) => call.with("owner", owner),
        None => call,
    }
}

/// A duration that was asked for in milliseconds, within what a call may wait.
fn millis(desk: &Desk, asked: Option<u64>, default: Duration) -> Duration {
    asked.map_or(default, Duration::from_millis).min(desk.settings.max_wait)
}
