//! Which servers there are, how one of them is, and which can be asked.

use std::collections::BTreeMap;
use std::time::Duration;

use farwire_keystore::Pin;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::outer::{Lookup, Record, ServerState};
use farwire_protocol::streams::control::Facts;
use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::{Client, Server};
use crate::fleet::{Fleet, MOMENT};
use crate::machine::unix_time;
use crate::runs::control;

/// How long the relay may take to say which servers there are, and a server to describe itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lists servers.
#[derive(Clone, Debug, Default)]
pub struct Servers {
    /// Part of a name, or labels such as `env=prod,role!=db`.
    pub query: Option<String>,
}

/// The servers that were asked for.
#[derive(Clone, Debug)]
pub struct ServersAnswer {
    /// Those that match, by name.
    pub servers: Vec<KnownServer>,
    /// How many there are in all.
    pub total: usize,
    /// Why the relay did not say how they are, if it did not.
    pub trouble: Option<Failure>,
}

impl Servers {
    /// Asks the relay, and chooses.
    ///
    /// # Errors
    ///
    /// A query that cannot be read, or a home that cannot.
    pub async fn carry_out(&self, client: &Client) -> Result<ServersAnswer, Failure> {
        let ServerList { mut servers, trouble } = list(client).await?;
        let total = servers.len();
        if let Some(query) = &self.query {
            let selector = Selector::parse(query)?;
            servers.retain(|server| selector.matches(server));
        }
        Ok(ServersAnswer { servers, total, trouble })
    }
}

/// Shows what the relay and this home know of one server.
#[derive(Clone, Debug)]
pub struct ShowServer {
    /// Its exact name.
    pub name: String,
}

/// One server as it is known here.
#[derive(Clone, Debug)]
pub struct ShowServerAnswer {
    /// The server.
    pub server: KnownServer,
    /// Why the relay did not say how it is, if it did not.
    pub trouble: Option<Failure>,
}

impl ShowServer {
    /// Asks the relay.
    ///
    /// # Errors
    ///
    /// `unknown_server`, or why the relay does not say whether there is one.
    pub async fn carry_out(&self, client: &Client) -> Result<ShowServerAnswer, Failure> {
        let ServerList { servers, trouble } = list(client).await?;
        let found = servers.into_iter().find(|server| server.name == self.name);
        let server = found.ok_or_else(|| match client.server(&self.name) {
            Err(failure) => trouble.clone().unwrap_or(failure),
            Ok(_) => {
                let text = format!("there is no server `{}`", self.name);
                Failure::new(Kind::UnknownServer, text)
            }
        })?;
        Ok(ShowServerAnswer { server, trouble })
    }
}

/// Asks a server to describe itself.
#[derive(Clone, Debug)]
pub struct DescribeServer {
    /// Its exact name.
    pub name: String,
}

/// A server as the relay, this home and the server itself describe it.
#[derive(Debug)]
pub struct DescribeServerAnswer {
    /// The server.
    pub server: Server,
    /// The version of the end-to-end handshake with it, if there is a link.
    pub link_version: Option<u16>,
    /// What the relay and this home know of it.
    pub known: Option<KnownServer>,
    /// Why the relay did not say how it is, if it did not.
    pub trouble: Option<Failure>,
    /// What it says itself; nothing if it did not answer within 5 s.
    pub facts: Option<Result<Facts, Failure>>,
}

impl DescribeServer {
    /// Asks the relay and the server.
    ///
    /// # Errors
    ///
    /// `unknown_server`.
    pub async fn carry_out(&self, client: &Client) -> Result<DescribeServerAnswer, Failure> {
        let server = client.find(&self.name).await?;
        let facts = timeout(PATIENCE, control::facts(client, &server));
        let (listed, facts) = tokio::join!(list(client), facts);
        let ServerList { servers, trouble } = listed?;
        let known = servers.into_iter().find(|known| known.name == server.name);
        let link_version = client.link_version(&server);
        Ok(DescribeServerAnswer { server, link_version, known, trouble, facts: facts.ok() })
    }
}

/// A server as this bridge knows it.
#[derive(Clone, Debug, Serialize)]
pub struct KnownServer {
    /// Its name here.
    pub name: String,
    /// The id of the relay's record, or zeros.
    pub id: String,
    /// Its state: `online`, `offline` and the like, or `unknown`.
    pub state: &'static str,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its fingerprint, once enrolled.
    pub fingerprint: Option<String>,
    /// Seconds since its agent was last connected.
    pub seen_ago: Option<u64>,
    /// The agent's program and version, as it says.
    pub build: Option<String>,
    /// Something that a person should look at.
    pub warning: Option<String>,
}

/// Servers that cannot be asked, and why.
pub type Away = Vec<(String, Failure)>;

/// The server of this name, or all that are online; and those that the relay lists as away.
///
/// # Errors
///
/// `unknown_server`, and those of the relay, without whose list nobody knows which are online.
pub async fn reachable(
    client: &Client,
    name: Option<&str>,
) -> Result<(Vec<Server>, Away), Failure> {
    if let Some(name) = name {
        return Ok((vec![client.find(name).await?], Away::new()));
    }
    let ServerList { servers, trouble } = list(client).await?;
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    let (mut online, mut away) = (Vec::new(), Away::new());
    for known in servers {
        let Ok(server) = client.server(&known.name) else { continue };
        if known.state == "online" {
            online.push(server);
        } else {
            let text = format!("it is {}", known.state);
            away.push((known.name, Failure::new(Kind::ServerOffline, text)));
        }
    }
    Ok((online, away))
}

/// A server that is asked, or several at once, and those that cannot be.
#[derive(Debug)]
pub struct Inquiry<'a, T> {
    /// The servers that are being asked.
    pub fleet: Fleet<'a, T>,
    /// The servers that the relay lists as away.
    pub away: Away,
}

/// All servers.
#[derive(Clone, Debug)]
pub struct ServerList {
    /// Those that are pinned, and those that are being enrolled, by name.
    pub servers: Vec<KnownServer>,
    /// Why the relay did not say how they are, if it did not: their state is unknown then.
    pub trouble: Option<Failure>,
}

/// Lists all servers: those that are pinned, and those that are being enrolled.
pub async fn list(client: &Client) -> Result<ServerList, Failure> {
    let deadline = Instant::now() + PATIENCE;
    // An agent that waits to be let in may be one of them in a moment.
    let mail = client.network.look_after_mail(MOMENT);
    let (answer, _) = tokio::join!(timeout_at(deadline, client.network.records()), mail);
    let silent = || Failure::new(Kind::RelayUnreachable, "the relay does not answer");
    let (records, mut trouble) = match answer.unwrap_or_else(|_| Err(silent())) {
        Ok(records) => (records, None),
        Err(failure) => (Vec::new(), Some(failure)),
    };
    let pins = client.home.pins().list()?;
    for warning in &pins.warnings {
        tracing::warn!("{warning}");
    }
    let lookups = pins.entries.iter().map(async |(_, pin)| {
        let agent = pin.bundle.id;
        match records.iter().find(|record| record.agent == Some(agent)) {
            Some(record) => Ok(Some(record.clone())),
            None if trouble.is_some() => Ok(None),
            None => {
                let answer = timeout_at(deadline, lookup(client, agent)).await;
                answer.unwrap_or_else(|_| Err(silent()))
            }
        }
    });
    let looked_up = join_all(lookups).await;
    let tickets = client.home.tickets().list()?.entries;
    let mut all: Vec<KnownServer> = Vec::new();
    for ((name, pin), record) in pins.entries.iter().zip(looked_up) {
        let record = record.unwrap_or_else(|failure| {
            trouble.get_or_insert(failure);
            None
        });
        let replaced = records
            .iter()
            .find(|record| record.name == *name && record.agent != Some(pin.bundle.id));
        let mut known = describe(name, Some(pin), record.as_ref(), trouble.is_some());
        if replaced.is_some_and(|record| record.agent.is_some()) {
            known.warning = Some("the relay names another key for it".to_owned());
        }
        if tickets.iter().any(|(_, ticket)| ticket.was_stolen_from(&pin.bundle.id)) {
            let text = "another agent used its token too: see `farwire doctor`";
            known.warning = Some(match known.warning {
                Some(warning) => format!("{warning}; {text}"),
                None => text.to_owned(),
            });
        }
        all.push(known);
    }
    for record in records.iter().filter(|record| record.agent.is_none()) {
        if !pins.entries.iter().any(|(name, _)| *name == record.name) {
            all.push(describe(&record.name, None, Some(record), false));
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(ServerList { servers: all, trouble })
}

/// A server that was added by hand is in another workspace's records, or in none.
async fn lookup(client: &Client, agent: Id) -> Result<Option<Record>, Failure> {
    match client.network.call(&Lookup { agent }).await {
        Ok(record) => Ok(Some(record)),
        Err(failure) if failure.kind == Kind::RelayUnreachable => Err(failure),
        Err(_) => Ok(None),
    }
}

fn describe(name: &str, pin: Option<&Pin>, record: Option<&Record>, unknown: bool) -> KnownServer {
    let id = record.map(|record| record.id).or_else(|| pin.and_then(|pin| pin.record));
    let state = match record {
        Some(record) => record.state.name(),
        None if unknown => "unknown",
        None => ServerState::Offline.name(),
    };
    KnownServer {
        name: name.to_owned(),
        id: id.unwrap_or(Nonce::ZERO).to_string(),
        state,
        labels: record.map(|record| record.labels.clone()).unwrap_or_default(),
        fingerprint: pin.map(Pin::fingerprint),
        seen_ago: record
            .and_then(|record| record.seen)
            .map(|seen| unix_time().saturating_sub(seen)),
        build: record.and_then(|record| record.build.clone()),
        warning: record
            .and_then(|record| record.duplicate)
            .map(|_| "two agents hold its identity".to_owned()),
    }
}

/// Chooses servers: `part-of-a-name`, `key=value`, `key!=value`, several with commas.
#[derive(Clone, Debug)]
pub struct Selector(Vec<Term>);

#[derive(Clone, Debug)]
enum Term {
    Name(String),
    Label {
        key: String,
        value: String,
        equal: bool,
    },
    /// Names after this one: the next page of a list.
    After(String),
}

impl Selector {
    /// Reads a selector.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        if text.len() > 1024 {
            return Err(Failure::new(Kind::TooLarge, "a selector has at most 1024 characters"));
        }
        let terms = text.split(',').map(str::trim).filter(|term| !term.is_empty());
        let term = |term: &str| match term.split_once('=') {
            None => Term::Name(term.to_lowercase()),
            Some(("after", name)) => Term::After(name.trim().to_owned()),
            Some((key, value)) => {
                let (key, equal) = key.strip_suffix('!').map_or((key, true), |key| (key, false));
                Term::Label { key: key.trim().to_owned(), value: value.trim().to_owned(), equal }
            }
        };
        Ok(Self(terms.map(term).collect()))
    }

    /// Whether it chooses a server.
    pub fn matches(&self, known: &KnownServer) -> bool {
        self.0.iter().all(|term| match term {
            Term::Name(part) => {
                let label = |(key, value): (&String, &String)| {
                    key.contains(part.as_str()) || value.contains(part.as_str())
                };
                known.name.to_lowercase().contains(part) || known.labels.iter().any(label)
            }
            Term::After(name) => known.name > *name,
            Term::Label { key, value, equal } => {
                let found = match key.as_str() {
                    "state" | "status" => Some(known.state),
                    "name" => Some(known.name.as_str()),
                    key => known.labels.get(key).map(String::as_str),
                };
                (found == Some(value.as_str())) == *equal
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_asks_for_labels_states_and_parts_of_names() {
        let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        let server = KnownServer { labels, ..describe("web-1", None, None, true) };
        let matches = |text: &str| Selector::parse(text).unwrap().matches(&server);
        for yes in ["", "web", "env=prod", "role!=db", "WEB,env=prod", "state=unknown", "prod"] {
            assert!(matches(yes), "{yes}");
        }
        for no in ["db", "env=dev", "env!=prod", "web,env=dev", "role=db"] {
            assert!(!matches(no), "{no}");
        }
        assert!(matches("after=web-0") && !matches("after=web-1") && !matches("after=web-2"));
    }
}
