//! `session_connect`, `session_set_active`, `session_list` and `session_close`: which sessions there are,
//! and which is meant.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::Caller as Hand;
use farwire_protocol::streams::session::{Request, Size, Start};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{header, screen_text};
use crate::client::{Client, Server, random_nonce};
use crate::sessions::control::{Found, close, why};
use crate::sessions::target::{Target, session, sessions};
use crate::sessions::window::end;
use crate::sessions::{ask, id_of};
use crate::text::Word;
use crate::text::header::{Call, Fate, Header, Key};
use crate::text::shown::Budget;
use crate::text::table::Table;
use crate::tools::pty::lease;
use crate::tools::{Caller, Desk, Effect, Tool, fate};

/// How long a session may take to open.
const PATIENCE: Duration = Duration::from_secs(25);

/// Longer than HUP, TERM and KILL take.
const LADDER: Duration = Duration::from_secs(12);

/// The arguments of `session_connect`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionConnect {
    /// Server name; default: the active one, or the only one.
    pub server: Option<String>,
    /// Session name (default main).
    pub name: Option<String>,
    /// Make it the default of later calls.
    pub active: Option<bool>,
}

impl Tool for SessionConnect {
    const NAME: &'static str = "session_connect";
    const TITLE: &'static str = "Quick connect";
    const ABOUT: &'static str = "Quick connect: take up the named session of a server, or open it, in one call. The \
        same name is the same session, also for people.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: false, idempotent: true, open_world: true };

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let server = server(client, self.server.as_deref()).await?;
        let start = Start {
            request: random_nonce()?,
            instance: client.instance(&server).await?,
            name: Some(self.name.unwrap_or_else(|| "main".to_owned())),
            program: None,
            cwd: None,
            env: None,
            user: None,
            size: Size { cols: 120, rows: 40 },
            attach: None,
            new: None,
            timeout_ms: None,
            caller: None,
            labels: None,
            limits: None,
        };
        let answer = ask(client, &server, &Request::Open(start), PATIENCE).await.map_err(why)?;
        let status = &answer.ended.status;
        let id = id_of(client, &server, status.session)?;
        desk.shown(status.session, answer.ended.offset);
        if self.active == Some(true) {
            Target::save(&client.home, Some(&Target::Session(id)))?;
        }
        let header = header(id, &answer.ended).field(Key::Server, &server.name);
        let header = header.field(Key::Name, &status.name);
        let header = header.field(Key::Reused, status.known == Some(true));
        Ok(format!("{}\n{}", header.end(), screen_text(&answer, Budget::new(3_000))))
    }
}

/// The server that is meant: the named one, the one that was chosen, or the only one.
pub(super) async fn server(client: &Client, asked: Option<&str>) -> Result<Server, Failure> {
    if let Some(name) = asked {
        return client.find(name).await;
    }
    match Target::load(&client.home)? {
        Some(Target::Server(name)) => return client.find(&name).await,
        Some(Target::Session(id)) => return Ok(crate::runs::find(client, &id.to_string())?.1),
        None => {}
    }
    let mut all = client.home.pins().list()?.entries;
    let names = all.iter().take(8).map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    match (all.pop(), all.is_empty()) {
        (Some((name, pin)), true) => Ok(Server { name, pin }),
        (None, _) => Err(Failure::new(Kind::UnknownServer, "there is no server yet")),
        (Some(_), false) => {
            let text = format!("several servers fit, and none is chosen: {names}");
            Err(Failure::new(Kind::AmbiguousServer, text)
                .with_hint("name one in server, or choose one with session_set_active"))
        }
    }
}

/// The arguments of `session_set_active`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionSetActive {
    /// Session id, server/name or name.
    pub session: Option<String>,
    /// Or a server: its only session is meant.
    pub server: Option<String>,
}

impl Tool for SessionSetActive {
    const NAME: &'static str = "session_set_active";
    const TITLE: &'static str = "Choose default session";
    const ABOUT: &'static str = "Choose the default session, or the default server, of calls that name none; with \
        neither, choose nothing. Kept for everybody who uses this installation.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: false, idempotent: true, open_world: false };

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let target = match (self.session, self.server) {
            (Some(_), Some(_)) => {
                return Err(Failure::new(
                    Kind::InvalidArgument,
                    "name a session or a server, not both",
                ));
            }
            (Some(name), None) => Some(Target::Session(session(client, Some(&name)).await?.id)),
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
    /// Those that have ended or are lost, too.
    pub all: Option<bool>,
}

impl Tool for SessionList {
    const NAME: &'static str = "session_list";
    const TITLE: &'static str = "List terminals";
    const ABOUT: &'static str = "List terminal sessions on all servers: id, server/name, state, who is attached or has the \
        lease, command; * is the default one.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let all = self.all.unwrap_or(false);
        let (found, trouble) = sessions(client, self.server.as_deref(), all).await?;
        let active = Target::load(&client.home)?;
        let plural = if found.len() == 1 { "" } else { "s" };
        let mut header =
            Header::new(Word::Open).words(format_args!("{} session{plural}", found.len()));
        if !trouble.is_empty() {
            let failed = trouble.iter().map(|(name, failure)| format!("{name}:{}", failure.kind));
            header = header.field(Key::Failed, failed.collect::<Vec<_>>().join(","));
        }
        let mut table = Table::new().limit(1, 130).limit(5, 100);
        for one in &found {
            let status = one.status()?;
            let state = match (status.lost, one.job.state.is_open()) {
                (Some(lost), _) => format!("lost {}", lost.name()),
                (None, true) => Fate::Doing(status.doing, None).to_string(),
                (None, false) => fate(&one.job.state).to_string(),
            };
            let mark = if is_active(active.as_ref(), one) { "*" } else { "" };
            let id = format!("{}{mark}", one.id);
            let name = format!("{}/{}", one.server.name, status.name);
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

fn is_active(active: Option<&Target>, found: &Found) -> bool {
    match active {
        Some(Target::Session(id)) => *id == found.id,
        Some(Target::Server(name)) => *name == found.server.name,
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

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let found = session(client, Some(&self.session)).await?;
        found.free_for(None)?;
        let id = found.id;
        close(client, (&found.server, found.session), &Hand::default()).await?;
        let state = end(client, (&found.server, found.session), LADDER).await?;
        if Target::load(&client.home)? == Some(Target::Session(id)) {
            Target::save(&client.home, None)?;
        }
        let header = crate::tools::run::header(id, &state);
        match state.is_open() {
            true => Ok(format!(
                "{}\n",
                header.next(&Call::new("session_diagnostics").with("session", id))
            )),
            false => Ok(format!("{}\n", header.end())),
        }
    }
}
