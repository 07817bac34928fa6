//! `pty_status`, `pty_wait`, `pty_list`, `pty_resume` and `pty_recover`: the states of sessions, by
//! id and by name.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::State;
use farwire_protocol::streams::session::Transfer;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::part::{Format, json};
use super::session::{PtySession, Who, millis};
use crate::fleet::Gathered;
use crate::handles::Handle;
use crate::machine::unix_time;
use crate::sessions::control::look;
use crate::sessions::find::{KnownSession, SessionName, list};
use crate::sessions::pipes::Pipe;
use crate::sessions::window::end;
use crate::text::Word;
use crate::text::header::{Fate, Header, Key};
use crate::text::neutral::neutral;
use crate::text::shown::Budget;
use crate::text::table::Table;
use crate::tools::answer::lease::{holder, lease, person};
use crate::tools::answer::{header, with_failures, word};
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};

/// The arguments of `pty_status`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyStatus {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// text (default) or json.
    pub format: Option<Format>,
}

impl Tool for PtyStatus {
    const NAME: &'static str = "pty_status";
    const TITLE: &'static str = "Session status";
    const ABOUT: &'static str = "Show a session's state: what it does, exit code, size, who is \
        attached, the last lease change, labels, limits.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), None)?;
        let place = PtySession::find(seat, &self.session_id, who).await?;
        describe(seat, &place, self.format).await
    }
}

/// Describes a session in full.
async fn describe(
    seat: &Seat,
    place: &PtySession,
    format: Option<Format>,
) -> Result<String, Failure> {
    let facts = match place {
        PtySession::Pipe(pipe) => of_pipe(pipe),
        PtySession::Terminal(found) => {
            let mut found = (**found).clone();
            if found.job.state.is_open() {
                // Only a request about this session returns who is attached.
                let client = seat.client().await?;
                let Handle { server, job, .. } = &found.handle;
                *found.status = look(client, server, *job).await?.ended.status;
            }
            of_terminal(seat, &found)
        }
    };
    if format.unwrap_or_default() == Format::Json {
        return Ok(json(&Value::Object(facts)));
    }
    let id = place.id();
    let fate = match place {
        PtySession::Terminal(found) if found.job.state.is_open() => {
            Fate::Doing(found.status.doing, None)
        }
        _ => Fate::of(&place.state()),
    };
    let mut text = format!("{}\n", Header::ending(word(id), &id.to_string(), fate).end());
    for (name, value) in &facts {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.extend([format!("{name}: {}\n", neutral(&value))]);
    }
    Ok(text)
}

fn of_terminal(seat: &Seat, found: &KnownSession) -> Map<String, Value> {
    let (status, state) = (&found.status, &found.job.state);
    let mut facts = StatusFields::default();
    facts.put("session_id", found.handle.id.to_string());
    facts.put("server", found.handle.server.name.clone());
    facts.put("name", status.name.clone());
    facts.put("command", found.job.command.clone());
    facts.put("user", found.job.user.clone());
    facts.some("pid", found.job.pid);
    facts.state(state);
    facts.put("doing", status.doing.name());
    facts.some("foreground", status.foreground.clone());
    facts.some("title", status.title.clone().filter(|title| !title.is_empty()));
    facts.put("size", format!("{}x{}", status.size.cols, status.size.rows));
    let labels = status.labels.clone().unwrap_or_default();
    facts.some("owner", labels.owner);
    facts.some("tag", labels.tag);
    facts.some("tmux_workspace", labels.group);
    facts.put("scope", if labels.read_only == Some(true) { "read-only" } else { "read-write" });
    facts.put("attached_client_id", holder(status).unwrap_or_else(|| "none".to_owned()));
    facts.some("lease", lease(status));
    if let Some(rights) = &status.typing {
        facts.put("policy", rights.rule.name());
        if let Some(transfer) = &rights.transfer {
            facts.transfer(transfer);
        }
    }
    for participant in status.participants.iter().flatten() {
        let how = if participant.read_only { "looks" } else { "may type" };
        facts.put(&format!("viewer_{}", person(&participant.actor)), how);
    }
    if let Some(limits) = &status.limits {
        facts.some("idle_limit_ms", limits.idle_ms);
        facts.some("rate_limit_bps", limits.output_rate);
        facts.some("input_rate_bps", limits.input_rate);
        facts.some("max_output_bytes", limits.kept);
    }
    facts.some("idle_ms", status.idle_ms);
    facts.some("events", status.events);
    let recovered =
        status.recovered_ms.map(|at| at / 1000).max(seat.notes.recovery_time(found.handle.job));
    facts.put("recovered", recovered.is_some());
    facts.some("recovered_at", recovered);
    facts.some("lost", status.lost.map(|lost| lost.name()));
    facts.0
}

fn of_pipe(pipe: &Pipe) -> Map<String, Value> {
    let mut facts = StatusFields::default();
    facts.put("session_id", pipe.id.to_string());
    facts.put("server", pipe.server.name.clone());
    facts.some("name", pipe.name.clone());
    facts.put("command", pipe.command.clone());
    facts.state(&pipe.state());
    facts.some("owner", pipe.labels.owner.clone());
    facts.some("tag", pipe.labels.tag.clone());
    facts
        .put("scope", if pipe.labels.read_only == Some(true) { "read-only" } else { "read-write" });
    facts.put("separate_streams", true);
    facts.0
}

/// Facts about a session, in order.
#[derive(Default)]
struct StatusFields(Map<String, Value>);

impl StatusFields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn some<T: Into<Value>>(&mut self, name: &str, value: Option<T>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn state(&mut self, state: &State) {
        self.put("state", if state.is_open() { "running" } else { "exited" });
        if !state.is_open() {
            self.put("end", Fate::of(state).to_string());
        }
        self.put("duration_ms", state.duration_ms);
        self.put("output_bytes", state.bytes);
        self.put("oldest_offset", state.dropped_bytes);
    }

    fn transfer(&mut self, transfer: &Transfer) {
        self.put("last_lease_action", transfer.way.name());
        self.some("last_lease_from", transfer.from.as_ref().map(person));
        self.some("last_lease_to", transfer.to.as_ref().map(person));
        self.some("last_lease_reason", transfer.reason.clone());
        self.put("last_lease_age_ms", transfer.age_ms);
    }
}

/// The arguments of `pty_wait`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyWait {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Milliseconds to wait (default 25000).
    pub timeout_ms: Option<u64>,
}

impl Tool for PtyWait {
    const NAME: &'static str = "pty_wait";
    const TITLE: &'static str = "Wait for exit";
    const ABOUT: &'static str =
        "Wait until a session's program has ended, and return its exit code or signal.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), None)?;
        let place = PtySession::find(seat, &self.session_id, who).await?;
        let wait = millis(seat, self.timeout_ms, Duration::from_secs(25));
        let client = seat.client().await?;
        let waiting = async {
            match &place {
                PtySession::Pipe(pipe) => Ok(pipe.end(wait).await),
                PtySession::Terminal(found) => {
                    end(client, &found.handle.server, found.handle.job, wait).await
                }
            }
        };
        let state = tokio::select! {
            state = waiting => state?,
            () = caller.cancelled.cancelled() => {
                return Err(Failure::new(Kind::Cancelled, "the wait was cancelled; the session keeps running"));
            }
        };
        if !state.is_open() {
            seat.notes.remove_open(place.job());
        }
        let header = header(place.id(), &state);
        let header = if state.is_open() { header.field(Key::Reason, "timeout") } else { header };
        Ok(format!("{}\n", header.end()))
    }
}

/// The arguments of `pty_list`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyList {
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Only with this tag.
    pub tag: Option<String>,
    /// Only on this server.
    pub server: Option<String>,
    /// Include those that have ended.
    pub include_closed: Option<bool>,
    /// text (default) or json.
    pub format: Option<Format>,
}

impl Tool for PtyList {
    const NAME: &'static str = "pty_list";
    const TITLE: &'static str = "List sessions";
    const ABOUT: &'static str = "List the sessions of an owner on all servers: id, server, state, name, tag, lease, command.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), None)?;
        let all = self.include_closed.unwrap_or(false);
        let client = seat.client().await?;
        let Gathered { known: mut found, trouble } =
            list(client, self.server.as_deref(), all).await?;
        let tag = self.tag.as_deref();
        found.retain(|found| of_owner(found, who) && tag.is_none_or(|tag| has_tag(found, tag)));
        let mut pipes = seat.pipes.of(who.owner);
        pipes.retain(|pipe| {
            (all || pipe.is_open())
                && tag.is_none_or(|tag| pipe.labels.tag.as_deref() == Some(tag))
                && self.server.as_ref().is_none_or(|server| *server == pipe.server.name)
        });
        if self.format.unwrap_or_default() == Format::Json {
            let terminals = found.iter().map(|found| of_terminal(seat, found));
            let all = terminals.chain(pipes.iter().map(|pipe| of_pipe(pipe)));
            return Ok(json(&Value::Array(all.map(Value::Object).collect())));
        }
        let count = found.len() + pipes.len();
        let plural = if count == 1 { "" } else { "s" };
        let mut header = Header::new(Word::Open).words(format_args!("{count} session{plural}"));
        header = with_failures(header, &trouble);
        let (text, rows) = table(&found, &pipes).within(Budget::default());
        if rows < count {
            header = header.field(Key::Shown, rows);
        }
        Ok(format!("{}\n{text}", header.end()))
    }
}

/// Whether a session belongs to the caller: with an owner, only the owner's sessions.
fn of_owner(found: &KnownSession, who: Who<'_>) -> bool {
    who.owner.is_none() || found.owner() == who.owner
}

fn has_tag(found: &KnownSession, tag: &str) -> bool {
    let labels = found.status.labels.as_ref();
    labels.is_some_and(|labels| labels.tag.as_deref() == Some(tag))
}

fn table(found: &[KnownSession], pipes: &[std::sync::Arc<Pipe>]) -> Table {
    let mut table = Table::new().limit(1, 64).limit(6, 100);
    for found in found {
        let status = &found.status;
        let state = match found.job.state.is_open() {
            true => Fate::Doing(status.doing, None),
            false => Fate::of(&found.job.state),
        };
        let tag = status.labels.as_ref().and_then(|labels| labels.tag.clone()).unwrap_or_default();
        let lease = lease(status).unwrap_or_default();
        let (id, server) = (found.handle.id.to_string(), found.handle.server.name.clone());
        let state = state.to_string();
        table.row([&id, &server, &state, &status.name, &tag, &lease, &found.job.command]);
    }
    for pipe in pipes {
        let (id, state) = (pipe.id.to_string(), Fate::of(&pipe.state()).to_string());
        let name = pipe.name.clone().unwrap_or_default();
        let tag = pipe.labels.tag.clone().unwrap_or_default();
        let none = String::new();
        table.row([&id, &pipe.server.name, &state, &name, &tag, &none, &pipe.command]);
    }
    table
}

/// The arguments of `pty_resume`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyResume {
    /// Its name.
    pub name: String,
    /// The owner that it was spawned for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Only on this server.
    pub server: Option<String>,
    /// text (default) or json.
    pub format: Option<Format>,
}

impl Tool for PtyResume {
    const NAME: &'static str = "pty_resume";
    const TITLE: &'static str = "Find session by name";
    const ABOUT: &'static str =
        "Find a running session by its name and show its state. Then pty_attach, or read and type.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), None)?;
        let of_name = |pipe: &std::sync::Arc<Pipe>| {
            pipe.is_open() && pipe.name.as_deref() == Some(self.name.as_str())
        };
        let place = match seat.pipes.of(who.owner).into_iter().find(of_name) {
            Some(pipe) => PtySession::Pipe(pipe),
            None => {
                let name = SessionName::new(self.server.as_deref(), &self.name);
                let found = name.find(seat.client().await?, who.owner).await?;
                PtySession::Terminal(Box::new(found))
            }
        };
        describe(seat, &place, self.format).await
    }
}

/// The arguments of `pty_recover`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyRecover {
    /// Its name.
    pub name: String,
    /// The owner that it was spawned for.
    pub owner: String,
    /// Only on this server.
    pub server: Option<String>,
}

impl Tool for PtyRecover {
    const NAME: &'static str = "pty_recover";
    const TITLE: &'static str = "Recover after restart";
    const ABOUT: &'static str = "After a restart of this client or of the server's agent: find a named session and its whole \
        workspace again, programs and output untouched. Read cursors start over; it attaches nobody.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: false, idempotent: true, open_world: false };

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, Some(&self.owner), None)?;
        if who.owner.is_none() {
            return Err(Failure::new(Kind::InvalidArgument, "owner is missing"));
        }
        let client = seat.client().await?;
        let name = SessionName::new(self.server.as_deref(), &self.name);
        let first = name.find(client, who.owner).await?;
        let group = group(&first).map(str::to_owned);
        let mut all = list(client, Some(&first.handle.server.name), true).await?.known;
        all.retain(|found| match &group {
            Some(name) => of_owner(found, who) && self::group(found) == Some(name),
            None => found.handle.job == first.handle.job,
        });
        // A workspace is recovered as a whole, or not at all.
        let lost = |found: &&KnownSession| found.status.lost.is_some();
        if let Some(lost) = all.iter().find(lost) {
            let text =
                format!("{} of the same workspace is lost: nothing was recovered", lost.handle.id);
            return Err(Failure::new(Kind::OutcomeUnknown, text)
                .with_hint("read its output, then resume the others with pty_resume"));
        }
        all.retain(|found| found.job.state.is_open());
        for found in &all {
            seat.notes.set_recovered(found.handle.job, unix_time());
            seat.notes.rewind(found.handle.job);
            seat.notes.add_open(found.handle.id.to_string(), found.handle.job);
        }
        let words = format!("{} recovered", all.len());
        let (text, _) = table(&all, &[]).within(Budget::default());
        Ok(format!("{}\n{text}", Header::new(Word::Open).words(words).end()))
    }
}

fn group(found: &KnownSession) -> Option<&str> {
    found.status.labels.as_ref()?.group.as_deref()
}
