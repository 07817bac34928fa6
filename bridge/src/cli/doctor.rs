//! `farwire doctor`: checks everything between here and the servers, and names the next step for
//! each problem.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use farwire_keystore::{Home, Ticket, TicketState};
use farwire_link::outer::dial::blocked;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Kind as IdKind;
use farwire_protocol::streams::control::Facts;
use farwire_protocol::streams::files::Root;
use farwire_protocol::surface::Surface;
use serde::Serialize;
use tokio::time::timeout;

use crate::cli::output::{Json, print, print_json};
use crate::cli::runtime::{ENDING, runtime, until_signal};
use crate::client::{Client, Server};
use crate::files::place::served;
use crate::fleet::{Fleet, Gathered};
use crate::machine::unix_time;
use crate::runs::control;
use crate::text::human;
use crate::text::neutral::neutral_within;

/// How far clocks may differ before it is worth mentioning, in seconds.
const SKEW: u64 = 60;

/// How long one network check may take.
const PATIENCE: Duration = Duration::from_secs(7);

/// How long one root may take to be served.
const ROOT: Duration = Duration::from_secs(3);

/// At most this many servers are checked.
const SERVERS: usize = 20;

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// Check only this server
    server: Option<String>,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// The result of one check.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    ok: bool,
    message: String,
    hint: Option<String>,
    kind: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Findings(Vec<Check>);

impl Findings {
    fn good(&mut self, name: &str, message: impl Into<String>) {
        let message = message.into();
        self.0.push(Check { name: name.to_owned(), ok: true, message, hint: None, kind: None });
    }

    fn bad(&mut self, name: &str, failure: &Failure) {
        self.0.push(Check {
            name: name.to_owned(),
            ok: false,
            message: neutral_within(&failure.message, 400),
            hint: Some(neutral_within(failure.hint(), 400)),
            kind: Some(failure.kind.name()),
        });
    }
}

impl Doctor {
    pub(crate) fn carry_out(&self, place: &Path) -> Result<u8, Failure> {
        let mut findings = Findings::default();
        match open(place) {
            Ok(client) => {
                files(&client, &mut findings);
                let looking = async {
                    self.network(&client, &mut findings).await;
                    client.close().await;
                };
                runtime()?.block_on(until_signal(&ENDING, client.leave(), looking))?;
            }
            Err(failure) => findings.bad("keys", &failure),
        }
        let well = findings.0.iter().all(|check| check.ok);
        if self.json.json {
            print_json(&findings.0)?;
        } else {
            for check in &findings.0 {
                let mark = if check.ok { "ok  " } else { "BAD " };
                print(&format!("{mark} {}: {}\n", check.name, check.message))?;
                if let Some(hint) = &check.hint {
                    print(&format!("       {hint}\n"))?;
                }
            }
        }
        Ok(if well { 0 } else { 69 })
    }

    async fn network(&self, client: &Client, findings: &mut Findings) {
        let relay = &client.network.workspace.relay;
        let welcome = timeout(PATIENCE, client.network.welcome()).await;
        let silent = || {
            let all = relay.addresses.join(", ");
            Failure::new(Kind::RelayUnreachable, format!("the relay at {all} does not answer"))
        };
        match welcome.unwrap_or_else(|_| Err(silent())) {
            Ok(welcome) => {
                let observed = neutral_within(&welcome.observed, 60);
                findings.good(
                    "relay",
                    format!("{} answers, and sees us as {observed}", relay.addresses.join(", ")),
                );
                clock(findings, "clock", "the relay's", welcome.time);
            }
            Err(mut failure) => {
                if failure.kind == Kind::RelayUnreachable && failure.hint.is_none() {
                    failure.hint = relay.addresses.last().map(|address| blocked(address));
                }
                findings.bad("relay", &failure);
                return;
            }
        }
        self.servers(client, findings).await;
    }

    async fn servers(&self, client: &Client, findings: &mut Findings) {
        let pins = match client.home.pins().list() {
            Ok(pins) => pins,
            Err(failure) => return findings.bad("servers", &failure),
        };
        for warning in &pins.warnings {
            findings.bad("servers", &warning.failure);
        }
        let wanted = pins.entries.iter();
        let wanted =
            wanted.filter(|(name, _)| self.server.as_ref().is_none_or(|only| only == name));
        let servers: Vec<Server> = wanted
            .take(SERVERS)
            .map(|(name, pin)| Server { name: name.clone(), pin: pin.clone() })
            .collect();
        let asked = Fleet::ask_for(PATIENCE, servers, |server| look_at(client, server));
        let Gathered { known, trouble } = asked.all().await;
        for Looked { server, facts, roots } in known {
            let label = format!("server {}", server.name);
            let host = neutral_within(&facts.hostname, 60);
            let pinned = server.pin.fingerprint();
            findings.good(&label, format!("{host} holds the pinned key, {pinned}"));
            clock(findings, &format!("{label} clock"), "the server's", facts.time);
            for (root, served) in roots {
                check_root(findings, &label, &root, served);
            }
        }
        for (name, failure) in &trouble {
            findings.bad(&format!("server {name}"), failure);
        }
        if let Some(only) = &self.server
            && !pins.entries.iter().any(|(name, _)| name == only)
        {
            let message = format!("there is no server `{}` here", neutral_within(only, 64));
            findings.bad("server", &Failure::new(Kind::UnknownServer, message));
        }
    }
}

/// What one server reports about itself.
struct Looked {
    server: Server,
    facts: Facts,
    roots: Vec<(Root, Result<Root, Failure>)>,
}

async fn look_at(client: &Client, server: Server) -> Result<Looked, Failure> {
    let facts = control::facts(client, &server).await?;
    let mut roots = Vec::new();
    for root in facts.roots.iter().flatten() {
        let served = timeout(ROOT, served(client, &server, root)).await;
        let silent = || Err(Failure::new(Kind::TimedOut, "the worker did not answer"));
        roots.push((root.clone(), served.unwrap_or_else(|_| silent())));
    }
    Ok(Looked { server, facts, roots })
}

/// Reads every file that any command reads: damage is better known before the file is needed.
fn files(client: &Client, findings: &mut Findings) {
    let before = findings.0.len();
    let keys = client.home.identity().and_then(|identity| {
        let Some(identity) = identity else { return Ok(()) };
        identity.open_signing()?;
        identity.open_transport()?;
        for surface in [Surface::Human, Surface::AiLocal] {
            identity.open_surface(&surface)?;
        }
        client.home.genesis().map(drop)
    });
    if let Err(failure) = keys {
        findings.bad("keys", &failure);
    }
    match client.home.tickets().list() {
        Ok(tickets) => {
            tickets.warnings.iter().for_each(|warning| findings.bad("tickets", &warning.failure));
            let entries = tickets.entries.iter();
            entries.filter_map(|(_, ticket)| misuse(ticket)).for_each(|(name, failure)| {
                findings.bad(&name, &failure);
            });
        }
        Err(failure) => findings.bad("tickets", &failure),
    }
    match client.ids.damaged() {
        Ok(0) => {}
        Ok(lines) => {
            let message = format!("the list of runs has {lines} damaged lines");
            let failure = Failure::new(Kind::KeystoreCorrupt, message);
            findings.bad("ids", &failure.with_hint("`farwire status --all` finds the runs again"));
        }
        Err(failure) => findings.bad("ids", &failure),
    }
    if findings.0.len() == before {
        findings.good("keys", format!("{} is private and whole", client.home.path().display()));
    }
}

/// The misuse of a token that was used more than once, if it was.
fn misuse(ticket: &Ticket) -> Option<(String, Failure)> {
    let name = format!("token of {}", neutral_within(&ticket.name, 64));
    let failure = |text: String| Failure::new(Kind::TokenUsed, text);
    let failure = match &ticket.state {
        TicketState::Answered(answered) => {
            let thief = answered.reused_by?.fingerprint(IdKind::Agent);
            failure(format!(
                "another agent, {thief}, used the token after its server had enrolled; it was refused"
            ))
            .with_hint(format!(
                "unless you enrolled it twice yourself, somebody else has the token; if {} is not the server's own key, remove the server",
                answered.agent.id.fingerprint(IdKind::Agent)
            ))
        }
        TicketState::Alarmed { agents, .. } => failure(format!(
            "{} different agents used the token; all were refused",
            agents.len()
        ))
        .with_hint(
            "find out who has the token; then `farwire server rm`, and create the server again",
        ),
        TicketState::Open | TicketState::Late(_) => return None,
    };
    Some((name, failure))
}

fn open(place: &Path) -> Result<Client, Failure> {
    Client::open(Home::open(place)?, &Surface::Human)
}

/// Checks that a root is served, and that the server's kernel confines the worker to it.
fn check_root(findings: &mut Findings, label: &str, root: &Root, served: Result<Root, Failure>) {
    let name = format!("{label} root {}", neutral_within(&root.name, 40));
    match served.map(|root| root.confined) {
        Ok(Some(by)) => {
            findings
                .good(&name, format!("its worker is confined to it by {}", neutral_within(&by, 40)));
        }
        Ok(None) => findings.bad(
            &name,
            &Failure::new(Kind::Unsupported, "its worker is not confined by the kernel").with_hint(
                "paths are still checked to stay inside the root; Linux 5.13 and later can confine it with Landlock",
            ),
        ),
        Err(failure) => findings.bad(&name, &failure),
    }
}

fn clock(findings: &mut Findings, name: &str, whose: &str, theirs: u64) {
    let ours = unix_time();
    let apart = ours.abs_diff(theirs);
    if apart <= SKEW {
        findings.good(name, format!("{whose} clock is {apart} s from ours"));
        return;
    }
    let apart = human::duration(Duration::from_secs(apart));
    let by = if theirs > ours { "ahead of" } else { "behind" };
    let message = format!("{whose} clock is {apart} {by} ours");
    let failure = Failure::new(Kind::TimedOut, message)
        .with_hint("set the clock that is wrong; only the expiry of tokens depends on it");
    findings.bad(name, &failure);
}
