//! How a session is found by what the caller gives: its id, its name, its server and name, or
//! nothing.
//!
//! This is the one place that reads such words ([`SessionName`]). What an *id* stands for is in
//! [`crate::handles`]; the session that is the default for calls that name none is in
//! [`super::target`].

use farwire_keystore::{Class, ShortId};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::control::Job;
use farwire_protocol::streams::session::Status;

use super::target::Target;
use crate::client::{Client, Server};
use crate::fleet::{Fleet, Gathered};
use crate::handles::Handle;
use crate::runs::control;
use crate::text::neutral::neutral_within;

/// A failure about several candidates names at most this many of them.
const NAMED: usize = 8;

/// A session, and how its server describes it.
#[derive(Clone, Debug)]
pub struct KnownSession {
    /// Its short id.
    pub handle: Handle,
    /// Its program and its log.
    pub job: Job,
    /// Its terminal, and who uses it.
    pub status: Box<Status>,
}

impl KnownSession {
    /// A session as its server has listed it; `None` for a run. A job that was never seen before
    /// gets its id.
    pub fn of(client: &Client, server: &Server, mut job: Job) -> Result<Option<Self>, Failure> {
        let Some(status) = job.session.take() else { return Ok(None) };
        let handle = Handle::of_session(client, server, job.job)?;
        Ok(Some(Self { handle, job, status }))
    }

    /// The owner that it was opened for.
    pub fn owner(&self) -> Option<&str> {
        owner(&self.status)
    }

    /// Whether a client may change it now: nobody else holds the lease.
    ///
    /// # Errors
    ///
    /// `input_locked`, with the holder.
    pub fn free_for(&self, client: Option<&str>) -> Result<(), Failure> {
        let lease = self.status.typing.as_ref().and_then(|rights| rights.lease.as_ref());
        let Some(lease) = lease else { return Ok(()) };
        let holder = &lease.holder;
        if holder.client.is_some() && holder.client.as_deref() == client {
            return Ok(());
        }
        let who = holder.client.as_deref().unwrap_or("a person");
        let text = format!(
            "{} is attached to {who} ({}/{})",
            self.handle.id, holder.device, holder.surface
        );
        Err(Failure::new(Kind::InputLocked, text)
            .with_hint("wait, or ask for pty_handoff, or pty_takeover with a reason"))
    }
}

fn owner(status: &Status) -> Option<&str> {
    status.labels.as_ref()?.owner.as_deref()
}

/// Whether a session may be shown to a caller that acts for `asked`: one that has an owner is
/// hidden from callers that act for another.
fn is_visible(status: &Status, asked: Option<&str>) -> bool {
    match (owner(status), asked) {
        (Some(owner), Some(asked)) => owner == asked,
        _ => true,
    }
}

/// How a caller names a session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SessionName {
    /// Nothing: the chosen session, or the only one.
    Default,
    /// Its short id: `s3`.
    Id(ShortId),
    /// Its name, on whichever server has one of that name.
    Anywhere(String),
    /// Its server and its name: `web-1/main`.
    OnServer {
        /// The server.
        server: String,
        /// The name there.
        name: String,
    },
}

impl SessionName {
    /// Parses what the caller gave.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if text.is_empty() {
            return Self::Default;
        }
        if let Some(id) = text.parse::<ShortId>().ok().filter(|id| id.class == Class::Session) {
            return Self::Id(id);
        }
        match text.split_once('/') {
            Some((server, name)) => {
                Self::OnServer { server: server.to_owned(), name: name.to_owned() }
            }
            None => Self::Anywhere(text.to_owned()),
        }
    }

    /// Reads an argument that may have been left out.
    pub fn parse_optional(text: Option<&str>) -> Self {
        text.map_or(Self::Default, Self::parse)
    }

    /// A name on one server, or on whichever has one.
    pub fn new(server: Option<&str>, name: &str) -> Self {
        let name = name.to_owned();
        match server {
            Some(server) => Self::OnServer { server: server.to_owned(), name },
            None => Self::Anywhere(name),
        }
    }

    /// Finds it by its id, whether or not it is running, or by its name among the running sessions,
    /// and asks its server for its state. A session of another owner than `owner` is not found.
    ///
    /// # Errors
    ///
    /// `unknown_id`, `ambiguous_session` if several match, and why servers cannot be asked.
    pub async fn find(
        &self,
        client: &Client,
        owner: Option<&str>,
    ) -> Result<KnownSession, Failure> {
        match self {
            Self::Default => default(client).await,
            Self::Id(id) => by_id(client, &id.to_string(), owner).await,
            Self::Anywhere(name) => by_name(client, None, name, owner).await,
            Self::OnServer { server, name } => by_name(client, Some(server), name, owner).await,
        }
    }

    /// Finds it by its id, or by its server and name, also when it has ended. Of several with one
    /// name on a server, running ones are taken first, and of these those of this device; of ended
    /// ones of one opener, the latest.
    ///
    /// # Errors
    ///
    /// `unknown_id`, `ambiguous_session` where several fit, `unknown_server`, and why the server
    /// cannot be asked.
    pub async fn find_even_ended(&self, client: &Client) -> Result<Handle, Failure> {
        let unnamed = match self {
            Self::OnServer { server, name } => return latest_named(client, server, name).await,
            Self::Default => String::new(),
            Self::Id(id) => id.to_string(),
            Self::Anywhere(text) => text.clone(),
        };
        Handle::find_session(client, &unnamed).map_err(|failure| match failure.kind {
            Kind::UnknownId => failure.with_hint(
                "a session is s3 or SERVER/NAME; `farwire sessions --all` lists what there is",
            ),
            _ => failure,
        })
    }
}

/// Finds a session by its short id, for a caller that acts for `owner`.
pub async fn by_id(
    client: &Client,
    id: &str,
    owner: Option<&str>,
) -> Result<KnownSession, Failure> {
    let handle = Handle::find_session(client, id)?;
    let mut job = control::inspect(client, &handle.server, handle.job).await?;
    match job.session.take().filter(|status| is_visible(status, owner)) {
        Some(status) => Ok(KnownSession { handle, job, status }),
        None => {
            let text = format!("there is no session `{}`", handle.id);
            Err(Failure::new(Kind::UnknownId, text))
        }
    }
}

/// Finds the session of a name that runs on a server: one of this device before those of others.
///
/// # Errors
///
/// `unknown_id`, `ambiguous_session` where several fit, and why the server cannot be asked.
pub async fn running_on(
    client: &Client,
    server: &Server,
    name: &str,
) -> Result<KnownSession, Failure> {
    let mut found = on_server(client, server, false).await?;
    found.retain(|one| one.status.name == name);
    only_one(nearest(found), || {
        let shown = neutral_within(name, 64);
        Failure::new(
            Kind::UnknownId,
            format!("no session `{shown}` is running on `{}`", server.name),
        )
        .with_hint("`farwire status` lists what is open")
    })
}

/// Those of several sessions of one name that are meant where nothing else is said: those that this
/// device has opened before those of others, and of these those of this surface.
fn nearest(mut found: Vec<KnownSession>) -> Vec<KnownSession> {
    let nearer: [fn(&KnownSession) -> bool; 2] =
        [|one| one.job.mine || one.job.own_device == Some(true), |one| one.job.mine];
    for near in nearer {
        if found.iter().any(near) {
            found.retain(near);
        }
    }
    found
}

async fn by_name(
    client: &Client,
    server: Option<&str>,
    name: &str,
    owner: Option<&str>,
) -> Result<KnownSession, Failure> {
    let mut found = all_running(client, server).await?.known;
    found.retain(|one| one.status.name == name && is_visible(&one.status, owner));
    if owner.is_some() && found.iter().any(|one| one.owner() == owner) {
        // A session that was opened for this owner takes precedence over one without an owner.
        found.retain(|one| one.owner() == owner);
    }
    only_one(found, || {
        let shown = neutral_within(name, 64);
        Failure::new(Kind::UnknownId, format!("no session `{shown}` is running"))
            .with_hint("list the sessions to see their names")
    })
}

async fn latest_named(client: &Client, server: &str, name: &str) -> Result<Handle, Failure> {
    let server = client.find(server).await?;
    let mut found = on_server(client, &server, true).await?;
    found.retain(|one| one.status.name == name);
    if found.iter().any(|one| one.job.state.is_open()) {
        found.retain(|one| one.job.state.is_open());
    }
    let mut found = nearest(found);
    // The newest comes first. Of what has ended none is mistaken for that of somebody else.
    let opener = |one: &KnownSession| (one.job.device.clone(), one.job.surface.clone());
    let same = found.windows(2).all(|two| two.first().map(opener) == two.last().map(opener));
    if same && found.iter().all(|one| !one.job.state.is_open()) {
        found.truncate(1);
    }
    let found = only_one(found, || {
        let shown = neutral_within(name, 64);
        let text = format!("no session on `{}` is called `{shown}`", server.name);
        Failure::new(Kind::UnknownId, text).with_hint(format!(
            "`farwire sessions {0} --all` lists what there is; `farwire attach {0}/{shown}` opens it",
            server.name
        ))
    })?;
    Ok(found.handle)
}

/// The default session when none is named: the chosen one, or the only running one.
async fn default(client: &Client) -> Result<KnownSession, Failure> {
    let server = match Target::load(&client.home)? {
        Some(Target::Session(id)) => match by_id(client, &id.to_string(), None).await {
            Ok(found) if found.job.state.is_open() => return Ok(found),
            // It has ended: fall back to the running sessions.
            Ok(_) => None,
            Err(failure) if matches!(failure.kind, Kind::UnknownId | Kind::Expired) => None,
            Err(failure) => return Err(failure),
        },
        Some(Target::Server(name)) => Some(name),
        None => None,
    };
    let Gathered { known, trouble } = all_running(client, server.as_deref()).await?;
    if let ([], Some((name, failure))) = (known.as_slice(), trouble.first()) {
        let message = format!("`{name}`: {}", failure.message);
        return Err(Failure { kind: failure.kind, message, hint: failure.hint.clone() });
    }
    only_one(known, || {
        Failure::new(Kind::UnknownId, "no session is open").with_hint("session_connect opens one")
    })
}

fn only_one(
    mut found: Vec<KnownSession>,
    none: impl FnOnce() -> Failure,
) -> Result<KnownSession, Failure> {
    match found.len() {
        0 => Err(none()),
        1 => found.pop().ok_or_else(none),
        count => {
            let names = found.iter().take(NAMED).map(|one| {
                let (id, server) = (one.handle.id, &one.handle.server.name);
                let by = neutral_within(&format!("{} on {}", one.job.surface, one.job.device), 64);
                format!("{id} ({server}/{}, {by})", one.status.name)
            });
            let names = names.collect::<Vec<_>>().join(", ");
            let more = if count > NAMED { " and more" } else { "" };
            Err(Failure::new(Kind::AmbiguousSession, format!("several match: {names}{more}")))
        }
    }
}

/// The sessions of one server, or of all pinned servers that answer within a moment; with `all`
/// also those that have ended.
pub async fn list(
    client: &Client,
    server: Option<&str>,
    all: bool,
) -> Result<Gathered<KnownSession>, Failure> {
    Ok(by_number(ask(client, server, all).await?.shortly().await))
}

/// The running sessions on one server, or on all pinned servers that answer at all: a caller that
/// chooses among them, or ends them all, waits for slow servers.
pub async fn all_running(
    client: &Client,
    server: Option<&str>,
) -> Result<Gathered<KnownSession>, Failure> {
    Ok(by_number(ask(client, server, false).await?.all().await))
}

async fn ask<'a>(
    client: &'a Client,
    server: Option<&str>,
    all: bool,
) -> Result<Fleet<'a, Vec<KnownSession>>, Failure> {
    let servers = match server {
        Some(name) => vec![client.find(name).await?],
        None => {
            let pins = client.home.pins().list()?.entries;
            pins.into_iter().map(|(name, pin)| Server { name, pin }).collect()
        }
    };
    Ok(Fleet::ask(servers, move |server| async move { on_server(client, &server, all).await }))
}

/// The sessions of one server, newest first; with `all` also those that have ended.
pub async fn on_server(
    client: &Client,
    server: &Server,
    all: bool,
) -> Result<Vec<KnownSession>, Failure> {
    let jobs = control::jobs(client, server, !all).await?;
    let sessions = jobs.into_iter().map(|job| KnownSession::of(client, server, job));
    sessions.filter_map(Result::transpose).collect()
}

fn by_number(gathered: Gathered<Vec<KnownSession>>) -> Gathered<KnownSession> {
    let mut known: Vec<KnownSession> = gathered.known.into_iter().flatten().collect();
    known.sort_by_key(|one| one.handle.id.number);
    Gathered { known, trouble: gathered.trouble }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_by_its_id_its_name_its_server_or_not_at_all() {
        let on = |server: &str, name: &str| SessionName::new(Some(server), name);
        for (text, wanted) in [
            ("", SessionName::Default),
            ("  ", SessionName::Default),
            ("s3", SessionName::Id("s3".parse().unwrap())),
            (" s3 ", SessionName::Id("s3".parse().unwrap())),
            ("r3", SessionName::new(None, "r3")),
            ("main", SessionName::new(None, "main")),
            ("web-1/main", on("web-1", "main")),
            ("s3/main", on("s3", "main")),
            ("web-1/", on("web-1", "")),
        ] {
            assert_eq!(SessionName::parse(text), wanted, "{text:?}");
        }
        assert_eq!(SessionName::parse_optional(None), SessionName::Default);
    }
}
