//! What concerns all sessions of this process: closing them, defaults, limits, metrics.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use farwire_protocol::failure::{Failure, Kind};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::timeout;

use super::notes::SpawnLimits;
use super::session::{PtySession, Who};
use super::write;
use crate::client::Server;
use crate::fleet::{DEADLINE, Fleet, Gathered};
use crate::runs::control;
use crate::sessions::find::all_running;
use crate::text::Word;
use crate::text::header::Header;
use crate::text::human;
use crate::text::neutral::neutral;
use crate::text::table::Table;
use crate::tools::answer::with_failures;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};

/// Changes later calls of this process.
const SETS: Effect =
    Effect { read_only: false, destructive: false, idempotent: true, open_world: false };

/// The arguments of `pty_close_all`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyCloseAll {
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Only on this server.
    pub server: Option<String>,
}

impl Tool for PtyCloseAll {
    const NAME: &'static str = "pty_close_all";
    const TITLE: &'static str = "Close all sessions";
    const ABOUT: &'static str = "Close every session of an owner, and end their programs. Without an owner: those that this process opened.";
    const EFFECT: Effect = Effect::ENDS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), None)?;
        let client = seat.client().await?;
        let Gathered { known: found, trouble } =
            all_running(client, self.server.as_deref()).await?;
        let ours = seat.notes.open_sessions();
        let mut places: Vec<PtySession> = found
            .into_iter()
            .filter(|found| match who.owner {
                Some(owner) => found.owner() == Some(owner),
                None => ours.iter().any(|(_, job)| *job == found.handle.job),
            })
            .map(|found| PtySession::Terminal(Box::new(found)))
            .collect();
        let pipes = seat.pipes.of(who.owner).into_iter().filter(|pipe| pipe.is_open());
        places.extend(pipes.map(PtySession::Pipe));
        let (mut closed, mut table) = (0, Table::new());
        for place in &places {
            let id = place.id().to_string();
            match write::close(seat, place, who).await {
                Ok(_) => closed += 1,
                Err(failure) => table.row([&id, failure.kind.name(), &failure.message]),
            }
        }
        let header = Header::new(Word::Stop).words(format_args!("{closed} of {}", places.len()));
        let header = with_failures(header, &trouble);
        Ok(format!("{}\n{}", header.end(), table.text()))
    }
}

/// The arguments of `set_default_cwd`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetDefaultCwd {
    /// Absolute path on the servers; empty for none.
    pub cwd: String,
}

impl Tool for SetDefaultCwd {
    const NAME: &'static str = "set_default_cwd";
    const TITLE: &'static str = "Set default directory";
    const ABOUT: &'static str = "Set the working directory of sessions that this process spawns without one. Lasts until this process exits.";
    const EFFECT: Effect = SETS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let cwd = self.cwd.trim();
        if !cwd.is_empty() && !cwd.starts_with('/') {
            return Err(Failure::new(Kind::InvalidArgument, "cwd must be an absolute path"));
        }
        seat.notes.set_cwd((!cwd.is_empty()).then(|| cwd.to_owned()));
        Ok(cwd_now(seat))
    }
}

/// The arguments of `get_default_cwd`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetDefaultCwd {}

impl Tool for GetDefaultCwd {
    const NAME: &'static str = "get_default_cwd";
    const TITLE: &'static str = "Default directory";
    const ABOUT: &'static str = "Show the working directory that set_default_cwd has set.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        Ok(cwd_now(seat))
    }
}

fn cwd_now(seat: &Seat) -> String {
    let cwd = seat.notes.cwd().unwrap_or_else(|| "the user's home".to_owned());
    format!("{}\ndefault_cwd: {}\n", Header::new(Word::Status).end(), neutral(&cwd))
}

/// The arguments of `set_limits`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetLimits {
    /// Sessions open at once in this process; 0 for no limit.
    pub max_sessions: Option<u64>,
    /// How much output of a new session to keep, in bytes; 0 for the default.
    pub max_output_bytes: Option<u64>,
    /// Close a new session after this many seconds without input or output; 0 for never.
    pub idle_timeout_sec: Option<u64>,
    /// Kill a new session after this many seconds; 0 for never.
    pub spawn_timeout_sec: Option<u64>,
    /// Milliseconds that reads of a new session wait; 0 for the default.
    pub read_timeout_ms: Option<u64>,
}

impl Tool for SetLimits {
    const NAME: &'static str = "set_limits";
    const TITLE: &'static str = "Set limits";
    const ABOUT: &'static str = "Set limits for the sessions that this process spawns from now on. What is left out \
        stays as it is. The servers' own limits apply, too.";
    const EFFECT: Effect = SETS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let set = |to: &mut Option<u64>, from: Option<u64>| {
            if let Some(value) = from {
                *to = Some(value).filter(|&value| value > 0);
            }
        };
        seat.notes.set_limits(|limits| {
            set(&mut limits.max_sessions, self.max_sessions);
            set(&mut limits.max_output_bytes, self.max_output_bytes);
            set(&mut limits.idle_timeout_sec, self.idle_timeout_sec);
            set(&mut limits.spawn_timeout_sec, self.spawn_timeout_sec);
            set(&mut limits.read_timeout_ms, self.read_timeout_ms);
        });
        Ok(limits_now(&seat.notes.limits()))
    }
}

/// The arguments of `get_limits`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetLimits {}

impl Tool for GetLimits {
    const NAME: &'static str = "get_limits";
    const TITLE: &'static str = "Limits";
    const ABOUT: &'static str = "Show the limits that set_limits has set.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        Ok(limits_now(&seat.notes.limits()))
    }
}

fn limits_now(limits: &SpawnLimits) -> String {
    let rows = [
        ("max_sessions", limits.max_sessions),
        ("max_output_bytes", limits.max_output_bytes),
        ("idle_timeout_sec", limits.idle_timeout_sec),
        ("spawn_timeout_sec", limits.spawn_timeout_sec),
        ("read_timeout_ms", limits.read_timeout_ms),
    ];
    let mut text = format!("{}\n", Header::new(Word::Status).end());
    for (name, value) in rows {
        let value = value.map_or_else(|| "none".to_owned(), |value| value.to_string());
        text.extend([format!("{name}: {value}\n")]);
    }
    text
}

/// The arguments of `pty_metrics`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyMetrics {}

impl Tool for PtyMetrics {
    const NAME: &'static str = "pty_metrics";
    const TITLE: &'static str = "Metrics";
    const ABOUT: &'static str =
        "Show how much this process has done: calls, failures, sessions, bytes read and typed.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let rows = [
            ("calls", seat.process.counts.calls.load(Ordering::Relaxed)),
            ("failures", seat.process.counts.failures.load(Ordering::Relaxed)),
            ("sessions_spawned", seat.notes.spawned.load(Ordering::Relaxed)),
            ("sessions_open", seat.notes.open_sessions().len() as u64),
            ("bytes_read", seat.notes.read.load(Ordering::Relaxed)),
            ("bytes_typed", seat.notes.written.load(Ordering::Relaxed)),
            ("uptime_sec", seat.process.since.elapsed().as_secs()),
        ];
        let mut text = format!("{}\n", Header::new(Word::Status).end());
        rows.iter().for_each(|(name, value)| text.extend([format!("{name}: {value}\n")]));
        Ok(text)
    }
}

/// The arguments of `pty_health`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyHealth {}

impl Tool for PtyHealth {
    const NAME: &'static str = "pty_health";
    const TITLE: &'static str = "Health";
    const ABOUT: &'static str = "Check that the relay and every server answer, and how fast.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let mut table = Table::new().limit(0, 64).limit(1, 200);
        let begun = Instant::now();
        let mut well = true;
        let mut tell = |name: &str, failure: Option<Failure>, time: Duration| {
            well &= failure.is_none();
            let how = failure.map_or_else(
                || format!("well {}", human::duration(time)),
                |failure| format!("{}: {}", failure.kind, failure.message),
            );
            table.row([name, how.as_str()]);
        };
        let pins = client.home.pins().list()?.entries;
        let servers = pins.into_iter().map(|(name, pin)| Server { name, pin }).collect();
        let pinged = Fleet::ask(servers, |server| async move {
            let begun = Instant::now();
            control::ping(client, &server).await.map(|()| (server.name, begun.elapsed()))
        });
        let (relay, pinged) = tokio::join!(timeout(DEADLINE, client.network.relay()), pinged.all());
        let silent = || Failure::new(Kind::RelayUnreachable, "no answer within 4 s");
        tell("relay", relay.map_or_else(|_| Some(silent()), Result::err), begun.elapsed());
        for (name, time) in pinged.known {
            tell(&name, None, time);
        }
        for (name, failure) in pinged.trouble {
            tell(&name, Some(failure), DEADLINE);
        }
        let header = Header::new(Word::Status).words(if well { "well" } else { "unwell" });
        Ok(format!("{}\n{}", header.end(), table.text()))
    }
}
