//! `servers`: which servers there are, and one in detail.

use std::collections::BTreeMap;
use std::time::Duration;

use farwire_keystore::Pin;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::handshake::protection;
use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::outer::{Lookup, Record, ServerState};
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::{Client, Server, unix_time};
use crate::fleet::MOMENT;
use crate::runs::control;
use crate::text::header::{Call, Header, Key};
use crate::text::neutral::LIMIT;
use crate::text::shown::Budget;
use crate::text::table::Table;
use crate::text::{Word, human};
use crate::tools::{Caller, Desk, Effect, Tool};

/// How long the relay may take to say which servers are there.
const PATIENCE: Duration = Duration::from_secs(5);

/// The arguments of `servers`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Servers {
    /// Part of a name, or labels such as env=prod,role!=db.
    pub query: Option<String>,
    /// Exact name: show its details.
    pub server: Option<String>,
}

impl Tool for Servers {
    const NAME: &'static str = "servers";
    const TITLE: &'static str = "List servers";
    const ABOUT: &'static str = "List the remote machines (servers, hosts) you can reach, or show one in \
        detail. Call first to get names.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        if let Some(name) = &self.server {
            return detail(client, name).await;
        }
        let (all, trouble) = list(client).await?;
        let found: Vec<&Known> = match &self.query {
            Some(query) => {
                let query = Selector::parse(query)?;
                all.iter().filter(|known| query.matches(known)).collect()
            }
            None => all.iter().collect(),
        };
        let count = format!("{} of {}", found.len(), all.len());
        let mut header = Header::new(Word::Servers).words(count);
        if let Some(trouble) = trouble {
            header = header.field(Key::Relay, trouble.message);
        }
        if found.is_empty() && all.is_empty() {
            let text = "No server is enrolled. A person adds one with: farwire server create NAME";
            return Ok(format!("{}\n{text}\n", header.end()));
        }
        let mut table = Table::new().limit(0, 64).limit(1, 64).limit(2, 200);
        found.iter().for_each(|known| table.row([&known.name, &known.state(), &known.labels()]));
        let (text, rows) = table.within(Budget::default());
        let last = found.iter().take(rows).next_back();
        if let Some(last) = last.filter(|_| rows < found.len()) {
            let next = Call::new(Self::NAME).with("query", following(self.query.as_deref(), last));
            return Ok(format!("{}\n{text}", header.field(Key::Shown, rows).next(&next)));
        }
        Ok(format!("{}\n{text}", header.end()))
    }
}

/// The selector that goes on with a list after this server.
fn following(query: Option<&str>, last: &Known) -> String {
    let terms = query.unwrap_or_default().split(',').map(str::trim);
    let mut terms: Vec<&str> =
        terms.filter(|term| !term.is_empty() && !term.starts_with("after=")).collect();
    let after = format!("after={}", last.name);
    terms.push(&after);
    terms.join(",")
}

/// A server as this bridge knows it.
#[derive(Clone, Debug, Serialize)]
pub struct Known {
    /// Its name here.
    pub name: String,
    /// The relay's record, or the beginning of its fingerprint.
    pub id: String,
    /// How it is.
    pub state: &'static str,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its fingerprint, once enrolled.
    pub fingerprint: Option<String>,
    /// Seconds since its agent was last there, if it is not there now.
    pub seen_ago: Option<u64>,
    /// The agent's program and version, as it says.
    pub build: Option<String>,
    /// Something that a person should look at.
    pub warning: Option<String>,
}

impl Known {
    /// How it is, since when, and what is wrong.
    pub fn state(&self) -> String {
        let mut state = self.state.to_owned();
        if let Some(ago) = self.seen_ago.filter(|_| self.state == "offline") {
            state = format!("{state} {}", human::duration(Duration::from_secs(ago)));
        }
        if let Some(warning) = &self.warning {
            state = format!("{state} ({warning})");
        }
        state
    }

    /// Its labels: `env=prod,role=web`.
    pub fn labels(&self) -> String {
        let labels = self.labels.iter().map(|(key, value)| format!("{key}={value}"));
        labels.collect::<Vec<_>>().join(",")
    }
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
    let (known, trouble) = list(client).await?;
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    let (mut online, mut away) = (Vec::new(), Away::new());
    for known in known {
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

/// All servers: those that are pinned, and those that are being enrolled. When the relay does not
/// answer, their state is unknown, and why is given.
pub async fn list(client: &Client) -> Result<(Vec<Known>, Option<Failure>), Failure> {
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
    let mut all: Vec<Known> = Vec::new();
    for ((name, pin), record) in pins.entries.iter().zip(looked_up) {
        let record = record.unwrap_or_else(|failure| {
            trouble.get_or_insert(failure);
            None
        });
        let replaced = records
            .iter()
            .find(|record| record.name == *name && record.agent != Some(pin.bundle.id));
        let mut known = known(name, Some(pin), record.as_ref(), trouble.is_some());
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
            all.push(known(&record.name, None, Some(record), false));
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((all, trouble))
}

/// A server that was added by hand is in another workspace's records, or in none.
async fn lookup(client: &Client, agent: Id) -> Result<Option<Record>, Failure> {
    match client.network.call(&Lookup { agent }).await {
        Ok(record) => Ok(Some(record)),
        Err(failure) if failure.kind == Kind::RelayUnreachable => Err(failure),
        Err(_) => Ok(None),
    }
}

fn known(name: &str, pin: Option<&Pin>, record: Option<&Record>, unknown: bool) -> Known {
    let id = record.map(|record| record.id).or_else(|| pin.and_then(|pin| pin.record));
    let state = match record {
        Some(record) => record.state.name(),
        None if unknown => "unknown",
        None => ServerState::Offline.name(),
    };
    Known {
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

async fn detail(client: &Client, name: &str) -> Result<String, Failure> {
    let server = client.find(name).await?;
    let facts = timeout(PATIENCE, control::facts(client, &server));
    let (listed, facts) = tokio::join!(list(client), facts);
    let (all, trouble) = listed?;
    let known = all.iter().find(|known| known.name == server.name);
    let mut table = Table::new().limit(1, LIMIT);
    table.row(["name", &server.name]);
    table.row(["fingerprint", &server.pin.fingerprint()]);
    if let Some(version) = client.link_version(&server) {
        let text = format!("end to end, {} (version {version})", protection(version));
        table.row(["encryption", &text]);
    }
    if let Some(trouble) = &trouble {
        table.row(["relay", &trouble.message]);
    }
    if let Some(known) = known {
        table.row(["state", &known.state()]);
        table.row(["labels", &known.labels()]);
        table.row(["agent", known.build.as_deref().unwrap_or_default()]);
    }
    match facts {
        Ok(Ok(facts)) => {
            table.row(["host", &facts.hostname]);
            table.row(["os", &format!("{}, {}", facts.os, facts.arch)]);
            table.row(["user", &format!("{}, shell {}", facts.user, facts.shell)]);
            table.row(["runs", &format!("{} now", facts.running)]);
            for root in facts.roots.iter().flatten() {
                let mode = if root.writable { "rw" } else { "ro" };
                let path = String::from_utf8_lossy(&root.path);
                table.row(["files", &format!("{}={path} {mode}", root.name)]);
            }
        }
        Ok(Err(failure)) => table.row(["link", &failure.message]),
        Err(_) => table.row(["link", "no answer in 5 s"]),
    }
    let header = Header::new(Word::Server).field(Key::Name, &server.name);
    Ok(format!("{}\n{}", header.end(), table.text()))
}

/// Which servers are meant: `part-of-a-name`, `key=value`, `key!=value`, several with commas.
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
    /// Names that come later in a list: how a list is gone on with.
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

    /// Whether a server is meant.
    pub fn matches(&self, known: &Known) -> bool {
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
        let server = Known { labels, ..known("web-1", None, None, true) };
        let matches = |text: &str| Selector::parse(text).unwrap().matches(&server);
        for yes in ["", "web", "env=prod", "role!=db", "WEB,env=prod", "state=unknown", "prod"] {
            assert!(matches(yes), "{yes}");
        }
        for no in ["db", "env=dev", "env!=prod", "web,env=dev", "role=db"] {
            assert!(!matches(no), "{no}");
        }
        assert!(matches("after=web-0") && !matches("after=web-1") && !matches("after=web-2"));
    }

    #[test]
    fn a_list_goes_on_after_the_last_name_that_was_shown() {
        let last = known("web-1", None, None, true);
        assert_eq!(following(None, &last), "after=web-1");
        assert_eq!(following(Some(" env=prod , after=a"), &last), "env=prod,after=web-1");
        let rest = Selector::parse(&following(Some("web"), &last)).unwrap();
        let names = ["db", "web-0", "web-1", "web-2"];
        let matching = names.iter().filter(|name| rest.matches(&known(name, None, None, true)));
        assert_eq!(matching.collect::<Vec<_>>(), [&"web-2"]);
    }
}
