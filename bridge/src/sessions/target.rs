//! Which session is meant when none is named: the chosen one, or the only one there is.
//!
//! What was chosen is kept in a file of the home, for all processes of it. Another home has another.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use farwire_keystore::{Class, Home, ShortId};
use farwire_protocol::failure::{Failure, Kind};

use super::control::{Found, known_to, reach, status};
use super::id_of;
use crate::client::{Client, Server};
use crate::fleet::{Fleet, Gathered};
use crate::runs::control;
use crate::text::neutral::neutral_within;

/// The file, in the home.
const FILE: &str = "target";

/// So many candidates are named.
const NAMED: usize = 8;

/// What was chosen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// A session by its id.
    Session(ShortId),
    /// The sessions of a server.
    Server(String),
}

impl Target {
    /// What was chosen in this home, if anything was.
    pub fn load(home: &Home) -> Result<Option<Self>, Failure> {
        let path = place(home);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(&path, &error)),
        };
        // A file that makes no sense chooses nothing: nothing but a convenience is lost.
        Ok(Self::read(&text))
    }

    /// Chooses it, or nothing.
    pub fn save(home: &Home, target: Option<&Self>) -> Result<(), Failure> {
        let _guard = home.lock()?;
        let path = place(home);
        let Some(target) = target else {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(io(&path, &error)),
                _ => Ok(()),
            };
        };
        let fresh = path.with_extension("new");
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .and_then(|mut file| file.write_all(target.text().as_bytes()))
            .and_then(|()| fs::rename(&fresh, &path));
        written.map_err(|error| io(&path, &error))
    }

    fn read(text: &str) -> Option<Self> {
        match text.trim().split_once(' ')? {
            ("session", id) => Some(Self::Session(id.parse().ok()?)),
            ("server", name) => Some(Self::Server(name.to_owned())),
            _ => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Session(id) => format!("session {id}\n"),
            Self::Server(name) => format!("server {name}\n"),
        }
    }
}

fn place(home: &Home) -> PathBuf {
    home.path().join(FILE)
}

fn io(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Io, format!("{}: {error}", path.display()))
}

/// Asks a server, or all that are known, which sessions there are; with `all` also those that ended.
async fn ask<'a>(
    client: &'a Client,
    server: Option<&str>,
    all: bool,
) -> Result<Fleet<'a, Vec<Found>>, Failure> {
    let servers = match server {
        Some(name) => vec![client.find(name).await?],
        None => {
            let pins = client.home.pins().list()?.entries;
            pins.into_iter().map(|(name, pin)| Server { name, pin }).collect()
        }
    };
    Ok(Fleet::ask(servers, move |server| async move {
        let jobs = control::jobs(client, &server, !all).await?;
        let sessions = jobs.into_iter().filter(|job| job.session.is_some());
        let found = sessions.map(|job| {
            let id = id_of(client, &server, job.job)?;
            Ok(Found { id, server: server.clone(), session: job.job, job })
        });
        found.collect::<Result<Vec<_>, Failure>>()
    }))
}

fn sorted(gathered: Gathered<Vec<Found>>) -> (Vec<Found>, Vec<(String, Failure)>) {
    let mut found: Vec<Found> = gathered.known.into_iter().flatten().collect();
    found.sort_by_key(|found| found.id.number);
    (found, gathered.trouble)
}

/// The sessions of a server, or of all that answer within a moment; and which did not.
pub async fn sessions(
    client: &Client,
    server: Option<&str>,
    all: bool,
) -> Result<(Vec<Found>, Vec<(String, Failure)>), Failure> {
    Ok(sorted(ask(client, server, all).await?.shortly().await))
}

/// The sessions that run, of all servers that answer at all: whoever chooses among them, or ends all,
/// waits for more than a moment.
pub async fn every_session(
    client: &Client,
    server: Option<&str>,
) -> Result<(Vec<Found>, Vec<(String, Failure)>), Failure> {
    Ok(sorted(ask(client, server, false).await?.all().await))
}

/// The session with this name, on one server or on all that can be asked.
pub async fn named(
    client: &Client,
    (server, name): (Option<&str>, &str),
    owner: Option<&str>,
) -> Result<Found, Failure> {
    let (mut found, _) = every_session(client, server).await?;
    found.retain(|found| {
        status(&found.job).is_some_and(|status| status.name == name && known_to(status, owner))
    });
    if owner.is_some() {
        // One that is for whoever asks goes before one that is for nobody.
        let own = found.iter().any(|found| found.owner() == owner);
        found.retain(|found| !own || found.owner() == owner);
    }
    one(found, || {
        let shown = neutral_within(name, 64);
        Failure::new(Kind::UnknownId, format!("no session `{shown}` runs"))
            .with_hint("a list of sessions shows the names")
    })
}

/// The session that is meant: by its id, by `server/name`, as it was chosen, or as the only one.
pub async fn session(client: &Client, asked: Option<&str>) -> Result<Found, Failure> {
    if let Some(asked) = asked.map(str::trim).filter(|asked| !asked.is_empty()) {
        let id = asked.parse::<ShortId>().is_ok_and(|id| id.class == Class::Session);
        return match asked.rsplit_once('/') {
            _ if id => reach(client, asked, None).await,
            Some((server, name)) => named(client, (Some(server), name), None).await,
            None => named(client, (None, asked), None).await,
        };
    }
    let server = match Target::load(&client.home)? {
        Some(Target::Session(id)) => match reach(client, &id.to_string(), None).await {
            Ok(found) if found.job.state.is_open() => return Ok(found),
            // It has ended: what else there is decides.
            Ok(_) => None,
            Err(failure) if matches!(failure.kind, Kind::UnknownId | Kind::Expired) => None,
            Err(failure) => return Err(failure),
        },
        Some(Target::Server(name)) => Some(name),
        None => None,
    };
    let (found, trouble) = every_session(client, server.as_deref()).await?;
    if let ([], Some((name, failure))) = (found.as_slice(), trouble.first()) {
        let message = format!("`{name}`: {}", failure.message);
        return Err(Failure { kind: failure.kind, message, hint: failure.hint.clone() });
    }
    one(found, || {
        Failure::new(Kind::UnknownId, "no session is open").with_hint("session_connect opens one")
    })
}

/// The only one, or why there is none.
fn one(mut found: Vec<Found>, none: impl FnOnce() -> Failure) -> Result<Found, Failure> {
    match found.len() {
        0 => Err(none()),
        1 => found.pop().ok_or_else(none),
        count => {
            let names = found.iter().take(NAMED).map(|found| {
                let name = status(&found.job).map_or("", |status| status.name.as_str());
                format!("{} ({}/{name})", found.id, found.server.name)
            });
            let names = names.collect::<Vec<_>>().join(", ");
            let more = if count > NAMED { " and more" } else { "" };
            Err(Failure::new(Kind::AmbiguousSession, format!("several fit: {names}{more}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_is_chosen_for_the_home_and_nowhere_else() {
        let temp = tempfile::tempdir().unwrap();
        let [one, other] =
            ["one", "other"].map(|name| Home::create(&temp.path().join(name)).unwrap());
        assert_eq!(Target::load(&one).unwrap(), None);
        for target in [Target::Session("s3".parse().unwrap()), Target::Server("web-1".to_owned())] {
            Target::save(&one, Some(&target)).unwrap();
            assert_eq!(Target::load(&one).unwrap(), Some(target));
            assert_eq!(Target::load(&other).unwrap(), None);
        }
        Target::save(&one, None).unwrap();
        Target::save(&one, None).unwrap();
        assert_eq!(Target::load(&one).unwrap(), None);
        fs::write(one.path().join(FILE), "nonsense").unwrap();
        assert_eq!(Target::load(&one).unwrap(), None);
    }
}
