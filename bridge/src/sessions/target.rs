//! The default session or server for calls that name none.
//!
//! The choice is kept in a file of the home, for all processes that use that home.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use farwire_keystore::{Home, ShortId};
use farwire_protocol::failure::{Failure, Kind};

use crate::client::{Client, Server};
use crate::handles::Handle;

/// The file, in the home.
const FILE: &str = "target";

/// A failure about several servers names at most this many of them.
const NAMED: usize = 8;

/// The choice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// A session by its id.
    Session(ShortId),
    /// The sessions of a server.
    Server(String),
}

impl Target {
    /// Reads the choice of this home, if there is one.
    pub fn load(home: &Home) -> Result<Option<Self>, Failure> {
        let path = place(home);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(&path, &error)),
        };
        // A damaged file means no choice: only a convenience is lost.
        Ok(Self::read(&text))
    }

    /// Makes it the choice of this home; `None` removes the choice.
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

/// The named server, the chosen one, or the only one.
///
/// # Errors
///
/// `unknown_server`, and `ambiguous_server` where several are pinned and none is chosen.
pub async fn chosen_server(client: &Client, asked: Option<&str>) -> Result<Server, Failure> {
    if let Some(name) = asked {
        return client.find(name).await;
    }
    match Target::load(&client.home)? {
        Some(Target::Server(name)) => return client.find(&name).await,
        Some(Target::Session(id)) => return Ok(Handle::find(client, &id.to_string())?.server),
        None => {}
    }
    only_server(client, "there are several servers, and none is chosen").map_err(|failure| {
        match failure.kind {
            Kind::AmbiguousServer => {
                failure.with_hint("name one in server, or choose one with session_set_active")
            }
            _ => failure,
        }
    })
}

/// The only server that is pinned.
///
/// # Errors
///
/// `unknown_server`, and `ambiguous_server` with these words and the names of those that are
/// pinned.
pub fn only_server(client: &Client, several: &str) -> Result<Server, Failure> {
    let mut all = client.home.pins().list()?.entries;
    let names = all.iter().take(NAMED).map(|(name, _)| name.as_str()).collect::<Vec<_>>();
    let ambiguous = format!("{several}: {}", names.join(", "));
    match (all.pop(), all.is_empty()) {
        (Some((name, pin)), true) => Ok(Server { name, pin }),
        (None, _) => Err(Failure::new(Kind::UnknownServer, "no server is enrolled yet")),
        (Some(_), false) => Err(Failure::new(Kind::AmbiguousServer, ambiguous)),
    }
}

fn place(home: &Home) -> PathBuf {
    home.path().join(FILE)
}

fn io(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Io, format!("{}: {error}", path.display()))
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
