//! `servers`: which servers there are, and one in detail.

use farwire_protocol::failure::Failure;
use farwire_protocol::handshake::protection;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::render;
use crate::text::Word;
use crate::text::header::{Call, Header, Key};
use crate::text::neutral::LIMIT;
use crate::text::shown::Budget;
use crate::text::table::Table;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::servers::{self as verb, DescribeServer, DescribeServerAnswer, KnownServer};

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

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        if let Some(name) = self.server {
            let answer = DescribeServer { name }.carry_out(client).await?;
            return Ok(details(&answer));
        }
        let verb = verb::Servers { query: self.query };
        let answer = verb.carry_out(client).await?;
        let found = answer.servers;
        let mut header =
            Header::new(Word::Servers).words(format_args!("{} of {}", found.len(), answer.total));
        if let Some(trouble) = answer.trouble {
            header = header.field(Key::Relay, trouble.message);
        }
        if answer.total == 0 {
            let text = "No server is enrolled. A person adds one with: farwire server create NAME";
            return Ok(format!("{}\n{text}\n", header.end()));
        }
        let mut table = Table::new().limit(0, 64).limit(1, 64).limit(2, 200);
        for server in &found {
            let (state, labels) = (render::servers::state(server), render::servers::labels(server));
            table.row([&server.name, &state, &labels]);
        }
        let (text, rows) = table.within(Budget::default());
        let last = found.iter().take(rows).next_back();
        if let Some(last) = last.filter(|_| rows < found.len()) {
            let next = Call::new(Self::NAME).with("query", following(verb.query.as_deref(), last));
            return Ok(format!("{}\n{text}", header.field(Key::Shown, rows).next(&next)));
        }
        Ok(format!("{}\n{text}", header.end()))
    }
}

/// The query for the next page of a list, after this server.
fn following(query: Option<&str>, last: &KnownServer) -> String {
    let terms = query.unwrap_or_default().split(',').map(str::trim);
    let mut terms: Vec<&str> =
        terms.filter(|term| !term.is_empty() && !term.starts_with("after=")).collect();
    let after = format!("after={}", last.name);
    terms.push(&after);
    terms.join(",")
}

fn details(answer: &DescribeServerAnswer) -> String {
    let server = &answer.server;
    let mut table = Table::new().limit(1, LIMIT);
    table.row(["name", &server.name]);
    table.row(["fingerprint", &server.pin.fingerprint()]);
    if let Some(version) = answer.link_version {
        let text = format!("end to end, {} (version {version})", protection(version));
        table.row(["encryption", &text]);
    }
    if let Some(trouble) = &answer.trouble {
        table.row(["relay", &trouble.message]);
    }
    if let Some(known) = &answer.known {
        table.row(["state", &render::servers::state(known)]);
        table.row(["labels", &render::servers::labels(known)]);
        table.row(["agent", known.build.as_deref().unwrap_or_default()]);
    }
    match &answer.facts {
        Some(Ok(facts)) => {
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
        Some(Err(failure)) => table.row(["link", &failure.message]),
        None => table.row(["link", "no answer within 5 s"]),
    }
    let header = Header::new(Word::Server).field(Key::Name, &server.name);
    format!("{}\n{}", header.end(), table.text())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::verbs::servers::Selector;

    fn server(name: &str) -> KnownServer {
        KnownServer {
            name: name.to_owned(),
            id: String::new(),
            state: "unknown",
            labels: BTreeMap::new(),
            fingerprint: None,
            seen_ago: None,
            build: None,
            warning: None,
        }
    }

    #[test]
    fn a_list_goes_on_after_the_last_name_that_was_shown() {
        let last = server("web-1");
        assert_eq!(following(None, &last), "after=web-1");
        assert_eq!(following(Some(" env=prod , after=a"), &last), "env=prod,after=web-1");
        let rest = Selector::parse(&following(Some("web"), &last)).unwrap();
        let names = ["db", "web-0", "web-1", "web-2"];
        let matching = names.iter().filter(|name| rest.matches(&server(name)));
        assert_eq!(matching.collect::<Vec<_>>(), [&"web-2"]);
    }
}
