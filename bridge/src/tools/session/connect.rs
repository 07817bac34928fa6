//! `session_connect`, `session_set_active`, `session_list` and `session_close`: which sessions
//! there are, and which is the default.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::Caller as Hand;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::fleet::Gathered;
use crate::handles::Handle;
use crate::sessions::control::close;
use crate::sessions::find::{KnownSession, SessionName, list};
use crate::sessions::target::{Target, chosen_server};
use crate::sessions::window::end;
use crate::text::Word;
use crate::text::header::{Call, Fate, Header, Key};
use crate::text::shown::Budget;
use crate::text::table::Table;
use crate::tools::answer::lease::lease;
use crate::tools::answer::run;
use crate::tools::answer::session::{header, screen_text};
use crate::tools::answer::with_failures;
use crate::tools::caller::Caller;
use crate::tools::names;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::session::open::{OpenSession, Opened};
use crate::verbs::stop::LADDER;

/// The arguments of `session_connect`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionConnect {
    /// Server name; default: the active one, or the only one.
    pub server: Option<String>,
    /// Session name (default main).
    pub name: Option<String>,
    /// Make it the default for later calls.
    pub active: Option<bool>,
}

impl Tool for SessionConnect {
    const NAME: &'static str = "session_connect";
    const TITLE: &'static str = "Quick connect";
    const ABOUT: &'static str = "Quick connect: resume the named session of a server, or open it, \
        in one call. The same name is the same session, for people too.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: false, idempotent: true, open_world: true };

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let server = chosen_server(client, self.server.as_deref()).await?;
        let name = Some(self.name.unwrap_or_else(|| "main".to_owned()));
        let open = OpenSession { name, ..OpenSession::default() };
        let Opened { handle, answer } = open.carry_out(client, &server).await?;
        seat.set_cursor(handle.job, answer.ended.offset);
        if self.active == Some(true) {
            Target::save(&client.home, Some(&Target::Session(handle.id)))?;
        }
        let status = &answer.ended.status;
        let header = header(handle.id, &answer.ended).field(Key::Server, &server.name);
        let header = header.field(Key::Name, &status.name);
        let header = header.field(Key::Reused, status.known == Some(true));
        Ok(format!("{}\n{}", header.end(), screen_text(&answer, Budget::new(3_000))))
    }
}

/// The arguments of `session_set_active`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionSetActive {
    /// Session id, server/name or name.
    pub session: Option<String>,
    /// Or a server, whose only session becomes the default.
    pub server: Option<String>,
}

impl Tool for SessionSetActive {
    const NAME: &'static str = "session_set_active";
    const TITLE: &'static str = "Choose default session";
    const ABOUT: &'static str = "Choose the default session or server for calls that name none; \
        with neither, clear the choice. Kept for everybody who uses this installation.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: false, idempotent: true, open_world: false };

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let target = match (self.session, self.server) {
            (Some(_), Some(_)) => {
                return Err(Failure::new(
                    Kind::InvalidArgument,
                    "name a session or a server, not both",
                ));
            }
            (Some(name), None) => {
                let found = SessionName::parse(&name).find(client, None).await?;
                Some(Target::Session(found.handle.id))
            }
            (None, Some(name)) => Some(Target::Server(client.find(&name).await?.name)),
            (None, None) => None,
        };
        Target::save(&client.home, target.as_ref())?;
        let active = match &target {
            Some(Target::Session(id)) => id.to_string(),
            Some(Target::Server(name)) => name.clone(),
            None => "none".to_owned(),
        };
        Ok(format!("{}\n", Header::new(Word::Status).field(Key::Active, active).end()))
    }
}

/// The arguments of `session_list`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionList {
    /// Only on this server.
    pub server: Option<String>,
    /// Include those that have ended or are lost.
    pub all: Option<bool>,
}

impl Tool for SessionList {
    const NAME: &'static str = "session_list";
    const TITLE: &'static str = "List terminals";
    const ABOUT: &'static str = "List terminal sessions on all servers: id, server/name, state, who is attached or has the \
        lease, command; * is the default one.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let all = self.all.unwrap_or(false);
        let Gathered { known: found, trouble } = list(client, self.server.as_deref(), all).await?;
        let active = Target::load(&client.home)?;
        let plural = if found.len() == 1 { "" } else { "s" };
        let mut header =
            Header::new(Word::Open).words(format_args!("{} session{plural}", found.len()));
        header = with_failures(header, &trouble);
        let mut table = Table::new().limit(1, 130).limit(5, 100);
        for one in &found {
            let status = &one.status;
            let state = match (status.lost, one.job.state.is_open()) {
                (Some(lost), _) => format!("lost {}", lost.name()),
                (None, true) => Fate::Doing(status.doing, None).to_string(),
                (None, false) => Fate::of(&one.job.state).to_string(),
            };
            let mark = if is_active(active.as_ref(), one) { "*" } else { "" };
            let id = format!("{}{mark}", one.handle.id);
            let name = format!("{}/{}", one.handle.server.name, status.name);
            let attached = format!("attached={}", status.attached);
            let lease = lease(status).unwrap_or_default();
            table.row([&id, &name, &state, &attached, &lease, &one.job.command]);
        }
        let (text, rows) = table.within(Budget::default());
        if rows < found.len() {
            header = header.field(Key::Shown, rows);
        }
        Ok(format!("{}\n{text}", header.end()))
    }
}

fn is_active(active: Option<&Target>, found: &KnownSession) -> bool {
    match active {
        Some(Target::Session(id)) => *id == found.handle.id,
        Some(Target::Server(name)) => *name == found.handle.server.name,
        None => false,
    }
}

/// The arguments of `session_close`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionClose {
    /// Session id or server/name; must be named.
    pub session: String,
}

impl Tool for SessionClose {
    const NAME: &'static str = "session_close";
    const TITLE: &'static str = "Close terminal";
    const ABOUT: &'static str = "Close a session for everybody, and end its programs: HUP, then TERM, then KILL, 5 s apart.";
    const EFFECT: Effect = Effect::ENDS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let found = SessionName::parse(&self.session).find(client, None).await?;
        found.free_for(None)?;
        let Handle { id, server, job } = &found.handle;
        close(client, server, *job, &Hand::default()).await?;
        let state = end(client, server, *job, LADDER).await?;
        if Target::load(&client.home)? == Some(Target::Session(*id)) {
            Target::save(&client.home, None)?;
        }
        let header = run::header(*id, &state);
        let line = match state.is_open() {
            true => header.next(&Call::new(names::SESSION_DIAGNOSTICS).with("session", id)),
            false => header.end(),
        };
        Ok(format!("{line}\n"))
    }
}
