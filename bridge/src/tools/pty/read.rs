//! `pty_read`, `pty_read_stdout`, `pty_read_stderr` and `pty_read_at`: parts of a session's output.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use schemars::JsonSchema;
use serde::Deserialize;

use super::part::{Format, PtyOutput};
use super::session::{PtySession, Who, for_owner, millis};
use crate::sessions::pipes::Side;
use crate::sessions::window::{LARGEST, Span};
use crate::text::header::Call;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};

/// How long a read waits for output by default.
const READ: Duration = Duration::from_secs(1);

/// How many bytes are read by default: what a client shows in full.
const BYTES: u32 = 7_500;

/// Consumes output: the client's next read continues after it.
const TAKES: Effect =
    Effect { read_only: false, destructive: false, idempotent: false, open_world: false };

/// The arguments of `pty_read`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyRead {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Required while a client is attached; each client has its own cursor.
    pub client_id: Option<String>,
    /// Milliseconds to wait for output (default 1000, or as set at spawn).
    pub timeout_ms: Option<u64>,
    /// Bytes (default 7500).
    pub max_bytes: Option<u32>,
    /// text (default, clean) or json (raw, escaped).
    pub format: Option<Format>,
}

impl Tool for PtyRead {
    const NAME: &'static str = "pty_read";
    const TITLE: &'static str = "Read terminal";
    const ABOUT: &'static str = "Read a session's output since your last read, waiting a moment if \
        there is none. Each client_id reads everything; nothing is missed or read twice.";
    const EFFECT: Effect = TAKES;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        take(seat, caller, Side::Out, Self::NAME, self).await
    }
}

/// The arguments of `pty_read_stdout`: those of `pty_read`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct PtyReadStdout(PtyRead);

impl Tool for PtyReadStdout {
    const NAME: &'static str = "pty_read_stdout";
    const TITLE: &'static str = "Read standard output";
    const ABOUT: &'static str = "Read new standard output of a session with separate_streams; for a terminal, all its output.";
    const EFFECT: Effect = TAKES;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        take(seat, caller, Side::Out, Self::NAME, self.0).await
    }
}

/// The arguments of `pty_read_stderr`: those of `pty_read`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct PtyReadStderr(PtyRead);

impl Tool for PtyReadStderr {
    const NAME: &'static str = "pty_read_stderr";
    const TITLE: &'static str = "Read standard error";
    const ABOUT: &'static str =
        "Read new standard error (stderr) of a session that was spawned with separate_streams.";
    const EFFECT: Effect = TAKES;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        take(seat, caller, Side::Err, Self::NAME, self.0).await
    }
}

/// Reads on from a client's cursor.
async fn take(
    seat: &Seat,
    caller: &Caller,
    side: Side,
    name: &'static str,
    read: PtyRead,
) -> Result<String, Failure> {
    let who = Who::of(seat, read.owner.as_ref(), read.client_id.as_ref())?;
    let client = seat.client().await?;
    let place = PtySession::claim(seat, &read.session_id, who).await?;
    if side == Side::Err && matches!(place, PtySession::Terminal(_)) {
        let text = format!("{} is a terminal: its output and errors are one stream", place.id());
        return Err(Failure::new(Kind::InvalidArgument, text)
            .with_hint("use pty_read, or spawn with separate_streams"));
    }
    let default = seat.notes.read_timeout(place.job()).unwrap_or(READ);
    let wait = millis(seat, read.timeout_ms, default);
    let from = seat.notes.cursor(place.job(), side, who);
    let limit = read.max_bytes.unwrap_or(BYTES).clamp(1, LARGEST);
    let reading = place.window(client, side, Span { from, limit, wait });
    let mut window = tokio::select! {
        window = reading => window?,
        () = caller.cancelled.cancelled() => {
            return Err(Failure::new(Kind::Cancelled, "the wait was cancelled; nothing was read"));
        }
    };
    window.settle();
    seat.notes.read_to(place.job(), side, who, window.to());
    let next = (window.more()).then(|| next_read(name, &read));
    let gone = window.from().saturating_sub(from);
    let (id, format) = (place.id(), read.format);
    Ok(PtyOutput { id, window: &window, format, gone, more: Vec::new(), next }.finish())
}

fn next_read(name: &'static str, read: &PtyRead) -> Call {
    let mut call = Call::new(name).with("session_id", &read.session_id);
    for (name, value) in [("owner", &read.owner), ("client_id", &read.client_id)] {
        if let Some(value) = value {
            call = call.with(name, value);
        }
    }
    call
}

/// The arguments of `pty_read_at`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyReadAt {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// First byte, from 0.
    pub offset: u64,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Bytes (default 7500).
    pub max_bytes: Option<u32>,
    /// With separate_streams: read standard error.
    pub stderr: Option<bool>,
    /// text (default, clean) or json (raw, escaped).
    pub format: Option<Format>,
}

impl Tool for PtyReadAt {
    const NAME: &'static str = "pty_read_at";
    const TITLE: &'static str = "Read at offset";
    const ABOUT: &'static str = "Read a session's output from a byte offset on, without moving a \
        cursor: the same offset gives the same bytes. Needs no attachment.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), None)?;
        let client = seat.client().await?;
        let place = PtySession::find(seat, &self.session_id, who).await?;
        let side = if self.stderr == Some(true) { Side::Err } else { Side::Out };
        if side == Side::Err {
            // A terminal has none.
            if let PtySession::Terminal(found) = &place {
                let text = format!(
                    "{} is a terminal: its output and errors are one stream",
                    found.handle.id
                );
                return Err(Failure::new(Kind::InvalidArgument, text));
            }
        }
        let limit = self.max_bytes.unwrap_or(BYTES).clamp(1, LARGEST);
        let span = Span { from: self.offset, limit, wait: Duration::ZERO };
        let mut window = place.window(client, side, span).await?;
        window.settle();
        let next = window.more().then(|| {
            let call = Call::new(Self::NAME).with("session_id", place.id());
            for_owner(call.with("offset", window.to()), who.owner)
        });
        let gone = window.from().saturating_sub(self.offset);
        let (id, format) = (place.id(), self.format);
        Ok(PtyOutput { id, window: &window, format, gone, more: Vec::new(), next }.finish())
    }
}
