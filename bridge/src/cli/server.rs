//! `farwire server`: enroll, list and change servers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use farwire_keystore::{Pin, Ticket, TicketState};
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::enroll::Request;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Kind as IdKind;
use farwire_protocol::outer::{ServerCreate, ServerRemove, ServerUpdate, valid_label, valid_name};
use farwire_protocol::token::Token;
use zeroize::Zeroizing;

use crate::cli::jobs::online;
use crate::cli::output::{Json, print, print_json, say_failure};
use crate::client::Client;
use crate::machine::{random_nonce, unix_time};
use crate::mail;
use crate::render;
use crate::text::neutral::{LIMIT, neutral};
use crate::text::table::Table;
use crate::verbs::servers::{Servers, ShowServer, ShowServerAnswer};

#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Create a server and print the command that enrolls it
    Create(Create),
    /// List servers
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Show one server with its fingerprint
    Show(Named),
    /// Change a server's name, labels or suspension
    Update(Update),
    /// Block all streams to a server until `server update NAME --resume`
    Suspend(Named),
    /// Remove a server from the relay's records and from this device
    #[command(visible_alias = "rm")]
    Remove(Named),
    /// Trust a server by its bundle, which `farwire-agent fingerprint --bundle` prints there
    Add(AddServer),
    /// Replace a server's pinned key, after comparing fingerprints with somebody at the server
    Repin(AddServer),
    /// Accept an enrollment that arrived after its token had expired
    Accept(Accept),
}

/// The command that enrolls a server. The token goes through standard input, so that no process
/// list shows it; the leading space keeps the command out of the history of shells with the usual
/// settings.
fn enrolling(token: &str) -> String {
    format!(" echo {token} | sudo farwire-agent enroll --token -")
}

#[derive(Args, Debug)]
pub(crate) struct Create {
    /// The server's name
    name: String,
    /// A label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// How long the token is valid, such as 30m or 1h; at most 7d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    expires: Duration,
    #[command(flatten)]
    json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// Part of a name, or labels such as env=prod,role!=db
    query: Option<String>,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Named {
    /// The server
    name: String,
    #[command(flatten)]
    json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Update {
    /// The server
    name: String,
    /// Its new name
    #[arg(long, value_name = "NAME")]
    rename: Option<String>,
    /// Set a label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Remove a label; may be given several times
    #[arg(long, value_name = "KEY")]
    unlabel: Vec<String>,
    /// Unblock a suspended server
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct AddServer {
    /// The server's name on this device
    name: String,
    /// The file with the bundle; `-` reads it from standard input
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    #[command(flatten)]
    json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Accept {
    /// The server
    name: String,
    /// Accept the agent with this fingerprint; without this option, the fingerprint is shown
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<String>,
    #[command(flatten)]
    json: Json,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label has the form KEY=VALUE")?;
    if valid_label(key, value) {
        return Ok((key.to_owned(), value.to_owned()));
    }
    Err("a label's key follows the rules for names, and its value has no `,` or `=`".to_owned())
}

/// Parses 90s, 30m, 1h, 7d.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let forms = "use a number with s, m, h or d, such as 30s, 5m, 1h or 7d";
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| forms)?;
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(forms.to_owned()),
    };
    let seconds =
        number.checked_mul(factor).filter(|&seconds| seconds > 0 && seconds <= 366 * 86_400);
    seconds.map(Duration::from_secs).ok_or_else(|| format!("not in range; {forms}"))
}

impl ServerCommand {
    pub(crate) fn wants_json(&self) -> bool {
        let json = match self {
            Self::Create(options) => options.json,
            Self::Ls(options) => options.json,
            Self::Show(options) | Self::Suspend(options) | Self::Remove(options) => options.json,
            Self::Update(options) => options.json,
            Self::Add(options) | Self::Repin(options) => options.json,
            Self::Accept(options) => options.json,
        };
        json.json
    }

    pub(crate) fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        match self {
            Self::Create(options) => options.carry_out(client),
            Self::Ls(options) => return options.carry_out(client),
            Self::Show(options) => return show(client, options),
            Self::Update(options) => options.carry_out(client),
            Self::Suspend(options) => suspend(client, options),
            Self::Remove(options) => remove(client, options),
            Self::Add(options) => options.add(client),
            Self::Repin(options) => options.repin(client),
            Self::Accept(options) => options.carry_out(client),
        }
        .map(|()| 0)
    }
}

impl Create {
    fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        if !valid_name(&self.name) {
            let message =
                format!("`{}` is not a valid name for a server", self.name.escape_default());
            return Err(Failure::new(Kind::InvalidArgument, message).with_hint(
                "use 1 to 64 letters, digits, `-`, `_` or `.`, beginning with a letter or a digit",
            ));
        }
        let labels: BTreeMap<_, _> = self.labels.iter().cloned().collect();
        let lifetime = u32::try_from(self.expires.as_secs()).unwrap_or(u32::MAX);
        if lifetime > 7 * 86_400 {
            return Err(Failure::new(Kind::InvalidArgument, "--expires: at most 7d"));
        }
        let ticket = self.mint(client, labels.clone())?;
        let text = ticket.token.encode();
        let enrollment = ticket.token.enrollment;
        client.home.tickets().create(&client.home.lock()?, &ticket)?;
        let created = online(client, async {
            client
                .network
                .call(&ServerCreate { name: self.name.clone(), labels, enrollment, lifetime })
                .await
        });
        if let Err(failure) = created {
            client.home.tickets().remove(&client.home.lock()?, &enrollment)?;
            return Err(failure);
        }
        if self.json.json {
            return print_json(&serde_json::json!({
                "server": self.name, "token": *text, "command": enrolling(&text),
            }));
        }
        let minutes = self.expires.as_secs() / 60;
        note!("server `{}` is created; run this on it within {minutes} minutes:", self.name);
        print(&format!("{}\n", enrolling(&text)))
    }

    fn mint(&self, client: &Client, labels: BTreeMap<String, String>) -> Result<Ticket, Failure> {
        let none = || Failure::new(Kind::NotInitialized, "this installation has no identity yet");
        let identity = client.home.identity()?.ok_or_else(none)?;
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret).map_err(|error| {
            Failure::new(Kind::ResourceExhausted, format!("no random numbers: {error}"))
        })?;
        let token = Token {
            relay: client.network.workspace.relay.clone(),
            trust_domain: client.network.workspace.trust_domain,
            inviter: identity.open_public()?.id,
            enrollment: random_nonce()?,
            secret,
            expires: unix_time() + self.expires.as_secs(),
        };
        Ticket::mint(token, &self.name, labels, &identity.open_signing()?, unix_time())
    }
}

impl Ls {
    /// Lists the known servers. The exit code says whether the relay answered, without which their
    /// states are not known.
    pub(crate) fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let verb = Servers { query: self.query.clone() };
        let answer = online(client, verb.carry_out(client))?;
        let trouble = answer.trouble;
        if self.json.json {
            print_json(&answer.servers)?;
            return Ok(trouble.map_or(0, |trouble| say_failure(&trouble)));
        }
        if answer.servers.is_empty() && trouble.is_none() {
            note!("no servers; `farwire server create NAME` makes one");
        }
        let mut table = Table::new().limit(0, 64).limit(1, 64).limit(2, LIMIT).limit(3, 64);
        for server in &answer.servers {
            let (state, labels) = (render::servers::state(server), render::servers::labels(server));
            let build = server.build.as_deref().unwrap_or_default();
            table.row([&server.name, &state, &labels, build]);
        }
        print(&table.text())?;
        Ok(trouble.map_or(0, |trouble| say_failure(&trouble)))
    }
}

fn show(client: &Client, options: &Named) -> Result<u8, Failure> {
    let verb = ShowServer { name: options.name.clone() };
    let ShowServerAnswer { server, trouble } = online(client, verb.carry_out(client))?;
    if options.json.json {
        print_json(&server)?;
    } else {
        let mut table = Table::new().limit(1, LIMIT);
        table.row(["name", &server.name]);
        table.row(["state", server.state]);
        table.row(["labels", &render::servers::labels(&server)]);
        table.row(["fingerprint", server.fingerprint.as_deref().unwrap_or_default()]);
        table.row(["record", &server.id]);
        table.row(["agent", server.build.as_deref().unwrap_or_default()]);
        table.row(["warning", server.warning.as_deref().unwrap_or_default()]);
        print(&table.text())?;
    }
    Ok(trouble.map_or(0, |trouble| say_failure(&trouble)))
}

fn say_done(json: Json, name: &str, what: &str) -> Result<(), Failure> {
    if json.json {
        return print_json(&serde_json::json!({"server": name, "done": what}));
    }
    print(&format!("`{name}`: {what}\n"))
}

impl Update {
    fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let update = ServerUpdate {
            name: self.name.clone(),
            rename: self.rename.clone(),
            set: Some(self.labels.iter().cloned().collect()),
            unset: Some(self.unlabel.clone()),
            suspended: self.resume.then_some(false),
            enrollment: None,
            lifetime: None,
        };
        online(client, async { client.network.call(&update).await })?;
        if let Some(new) = &self.rename
            && client.home.pins().load(&self.name).is_ok()
        {
            client.home.pins().rename(&client.home.lock()?, &self.name, new)?;
        }
        say_done(self.json, self.rename.as_ref().unwrap_or(&self.name), "updated")
    }
}

fn suspend(client: &Client, options: &Named) -> Result<(), Failure> {
    let update = ServerUpdate {
        name: options.name.clone(),
        suspended: Some(true),
        ..ServerUpdate::default()
    };
    online(client, async { client.network.call(&update).await })?;
    say_done(options.json, &options.name, "suspended")
}

fn remove(client: &Client, options: &Named) -> Result<(), Failure> {
    let remove = ServerRemove { name: options.name.clone() };
    let at_relay = online(client, async { client.network.call(&remove).await });
    let here = client
        .home
        .lock()
        .and_then(|guard| Ok(client.home.pins().remove(&guard, &options.name)?));
    match (at_relay, here) {
        (Err(failure), Err(_)) => return Err(failure),
        // A server that was added by hand has no record of ours, and one never enrolled has no pin.
        (Err(failure), Ok(())) if failure.kind != Kind::UnknownServer => {
            note!("warning: the relay's record stays: {}", neutral(&failure.message));
        }
        _ => {}
    }
    forget(client, &options.name)?;
    say_done(options.json, &options.name, "removed")
}

/// Removes a server's tickets that admitted nobody, and those that another agent has used, too:
/// removing the server settles that.
fn forget(client: &Client, name: &str) -> Result<(), Failure> {
    let tickets = client.home.tickets();
    let guard = client.home.lock()?;
    for (_, ticket) in tickets.list()?.entries {
        let stays = match &ticket.state {
            TicketState::Answered(answered) => answered.reused_by.is_none(),
            _ => false,
        };
        if ticket.name == name && !stays {
            tickets.remove(&guard, &ticket.token.enrollment)?;
        }
    }
    Ok(())
}

impl AddServer {
    fn read(&self) -> Result<SignedBundle, Failure> {
        use std::io::Read as _;
        let mut text = String::new();
        let limit = 8192;
        let read = if self.bundle.as_os_str() == "-" {
            std::io::stdin().take(limit).read_to_string(&mut text)
        } else {
            std::fs::File::open(&self.bundle)
                .and_then(|file| file.take(limit).read_to_string(&mut text))
        };
        read.map_err(|error| {
            Failure::new(Kind::Io, format!("{}: {error}", self.bundle.display()))
        })?;
        SignedBundle::from_text(&text, IdKind::Agent)
    }

    fn add(&self, client: &Client) -> Result<(), Failure> {
        let pin = Pin::new(self.read()?, client.network.workspace.relay.clone(), None, unix_time());
        client.home.pins().add(&client.home.lock()?, &self.name, &pin)?;
        say_done(self.json, &self.name, &format!("pinned, {}", pin.fingerprint()))
    }

    fn repin(&self, client: &Client) -> Result<(), Failure> {
        let old = client.home.pins().load(&self.name)?;
        let pin = Pin {
            record: old.record,
            ..Pin::new(self.read()?, old.relay.clone(), None, unix_time())
        };
        client.home.pins().replace(&client.home.lock()?, &self.name, &old.bundle.id, &pin)?;
        note!("was {}", old.fingerprint());
        say_done(self.json, &self.name, &format!("repinned, {}", pin.fingerprint()))
    }
}

impl Accept {
    fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let tickets = client.home.tickets().list()?;
        let late =
            tickets.entries.iter().map(|(_, ticket)| ticket).find_map(|ticket| {
                match &ticket.state {
                    TicketState::Late(late) if ticket.name == self.name => Some((ticket, late)),
                    _ => None,
                }
            });
        let (ticket, late) = late.ok_or_else(|| {
            let message = format!("no enrollment of `{}` is waiting for a decision", self.name);
            Failure::new(Kind::UnknownServer, message)
        })?;
        let fingerprint = late.agent.fingerprint(IdKind::Agent);
        if self.fingerprint.as_ref() != Some(&fingerprint) {
            if self.fingerprint.is_some() {
                let message = format!("the waiting agent has another fingerprint: {fingerprint}");
                return Err(Failure::new(Kind::InvalidArgument, message));
            }
            note!(
                "compare it with `farwire-agent fingerprint` on the server, then pass it with --fingerprint"
            );
            return say_done(self.json, &self.name, &format!("waiting, {fingerprint}"));
        }
        let (_, agent) = Request::open(&ticket.token, &late.request)
            .map_err(|error| Failure::caused(Kind::EnrollmentRejected, "the request", &error))?;
        let answered = mail::answer(client.network.inviter(), ticket, &late.request, &agent)?;
        let enrollment = ticket.token.enrollment;
        let answered = client.home.tickets().answer(&client.home.lock()?, &enrollment, answered)?;
        online(client, async {
            let connection = client.network.relay().await?;
            mail::settle(client.network.inviter(), &connection, enrollment, &answered).await
        })?;
        say_done(self.json, &self.name, "accepted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_odd_ones_refused() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("30m"), Ok(Duration::from_secs(1800)));
        for bad in ["", "0", "-1", "1e9h", "9999999999d", "5x", "h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
