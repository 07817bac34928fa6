//! `pty_write`, `pty_resize`, `pty_signal` and `pty_close`: changes to a session.

use std::sync::atomic::Ordering;
use std::time::Duration;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::control::Stopped;
use farwire_protocol::streams::session::{Action, Input};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use super::session::{PtySession, Who};
use crate::handles::Handle;
use crate::runs::control;
use crate::sessions::control::{self as controlling, act};
use crate::sessions::find::KnownSession;
use crate::sessions::window::end;
use crate::text::header::{Fate, Header, Key};
use crate::tools::answer::session::with_size;
use crate::tools::answer::{header, word};
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::signals::parse_allowed;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::observer::Patient;
use crate::verbs::session::open::size;
use crate::verbs::session::send::SendInput;
use crate::verbs::stop::LADDER;

/// How many bytes are typed in one exchange.
const PART: usize = 32 << 10;

/// How long to wait for a program that does not read its input.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an answer may take to arrive.
const ANSWER: Duration = Duration::from_secs(10);

/// The longest single write.
const LONGEST: usize = 8 << 20;

/// Types as much as the program takes in a moment. Returns how many bytes that was.
pub(super) async fn input(
    seat: &Seat,
    place: &PtySession,
    data: &[u8],
    who: Who<'_>,
) -> Result<usize, Failure> {
    if data.len() > LONGEST {
        return Err(Failure::new(Kind::TooLarge, "data has more than 8 MiB")
            .with_hint("write it to a file on the server in several calls, and use that file"));
    }
    let written = match place {
        PtySession::Pipe(pipe) if pipe.labels.read_only == Some(true) => {
            return Err(Failure::new(Kind::InputLocked, "this session is read-only"));
        }
        PtySession::Pipe(pipe) => pipe.write(data, PATIENCE).await?,
        PtySession::Terminal(found) => type_into(seat, found, data, who).await?,
    };
    seat.notes.written.fetch_add(written as u64, Ordering::Relaxed);
    Ok(written)
}

async fn type_into(
    seat: &Seat,
    found: &KnownSession,
    data: &[u8],
    who: Who<'_>,
) -> Result<usize, Failure> {
    let client = seat.client().await?;
    let deadline = Instant::now() + PATIENCE;
    let literal = is_text(data);
    let mut written = 0;
    for part in data.chunks(PART) {
        let send = SendInput {
            slack: ANSWER,
            bytes: 0,
            caller: Some(who.caller()),
            literal,
            ..SendInput::new(vec![Input::Text(Blob(part.to_vec()))])
        };
        match send.carry_out(client, &found.handle, &Patient::default()).await {
            Ok(answer) => {
                let left = usize::try_from(answer.ended.left.unwrap_or(0)).unwrap_or(usize::MAX);
                written += part.len().saturating_sub(left);
                if left > 0 {
                    break;
                }
            }
            // The program does not read: how much of this part it took is not known, so none is
            // claimed.
            Err(failure) if failure.kind == Kind::Busy => break,
            Err(failure) => return Err(failure),
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    Ok(written)
}

/// Whether this is text with tabs, not keys: those have other control characters, or end with the
/// tab key.
fn is_text(data: &[u8]) -> bool {
    let keys = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\n');
    data.last() != Some(&b'\t') && data.contains(&b'\t') && !data.iter().any(keys)
}

/// The failure when a program did not take all of its input.
pub(super) fn not_all_taken(written: usize, of: usize) -> Failure {
    let text = format!("the program took {written} of {of} bytes, and reads no more");
    Failure::new(Kind::Busy, text).with_hint("look at its screen; then type the rest, or ctrl-c")
}

/// The arguments of `pty_write`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyWrite {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// Typed as is; \n is the enter key, \u0003 is ctrl-c, \t at the end is the tab key.
    pub data: String,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Required while a client is attached.
    pub client_id: Option<String>,
    /// Press enter at the end (default false).
    pub newline: Option<bool>,
    /// Close the program's input; only with separate_streams.
    pub eof: Option<bool>,
}

impl Tool for PtyWrite {
    const NAME: &'static str = "pty_write";
    const TITLE: &'static str = "Type into terminal";
    const ABOUT: &'static str = "Type into a session, and return at once; says how many bytes its \
        program took. Read the output with pty_read.";
    const EFFECT: Effect = Effect::ACTS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), self.client_id.as_ref())?;
        let place = PtySession::claim(seat, &self.session_id, who).await?;
        place.open()?;
        let mut data = self.data.into_bytes();
        if self.newline == Some(true) {
            data.push(b'\n');
        }
        let written = input(seat, &place, &data, who).await?;
        if self.eof == Some(true) {
            match &place {
                PtySession::Pipe(pipe) if written == data.len() => pipe.close_input(),
                PtySession::Pipe(_) => return Err(not_all_taken(written, data.len())),
                PtySession::Terminal(_) => {
                    return Err(Failure::new(
                        Kind::InvalidArgument,
                        "a terminal's input cannot be closed",
                    )
                    .with_hint("type \\u0004, the key ctrl-d"));
                }
            }
        }
        let id = place.id();
        let header = Header::ending(word(id), &id.to_string(), Fate::of(&place.state()));
        let header = header.field(Key::Written, written);
        if written < data.len() {
            let rest = format!("{written} of {} bytes; it reads no more", data.len());
            return Ok(format!("{}\n", header.field(Key::Reason, rest).end()));
        }
        Ok(format!("{}\n", header.end()))
    }
}

/// The arguments of `pty_resize`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyResize {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Required while a client is attached.
    pub client_id: Option<String>,
}

impl Tool for PtyResize {
    const NAME: &'static str = "pty_resize";
    const TITLE: &'static str = "Resize terminal";
    const ABOUT: &'static str =
        "Resize a session's terminal (columns, rows). Everybody who is attached sees the new size.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: false, idempotent: true, open_world: false };

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), self.client_id.as_ref())?;
        let place = PtySession::claim(seat, &self.session_id, who).await?;
        let found = place.terminal()?;
        place.open()?;
        let size = Action::Resize(size(self.cols, self.rows)?);
        let client = seat.client().await?;
        let ended =
            act(client, &found.handle.server, found.handle.job, &who.caller(), size).await?;
        let id = found.handle.id;
        let header = Header::ending(word(id), &id.to_string(), Fate::of(&ended.state));
        Ok(format!("{}\n", with_size(header, ended.status.size).end()))
    }
}

/// The arguments of `pty_signal`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtySignal {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// INT, TERM, KILL, HUP, QUIT, USR1 or USR2.
    pub signal: String,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Required while a client is attached.
    pub client_id: Option<String>,
}

impl Tool for PtySignal {
    const NAME: &'static str = "pty_signal";
    const TITLE: &'static str = "Send signal";
    const ABOUT: &'static str = "Send a signal to a session's foreground program.";
    const EFFECT: Effect = Effect::ACTS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), self.client_id.as_ref())?;
        let signal = parse_allowed(&seat.settings.offer, &self.signal)?;
        let place = PtySession::claim(seat, &self.session_id, who).await?;
        place.open()?;
        let client = seat.client().await?;
        let state = match &place {
            PtySession::Terminal(found) => {
                let action = Action::Signal(signal);
                act(client, &found.handle.server, found.handle.job, &who.caller(), action)
                    .await?
                    .state
            }
            PtySession::Pipe(pipe) => {
                control::stop(client, &pipe.server, pipe.job, Some(signal)).await?;
                pipe.state()
            }
        };
        let id = place.id();
        let header =
            Header::ending(word(id), &id.to_string(), Fate::of(&state)).words("signal-sent");
        Ok(format!("{}\n", header.end()))
    }
}

/// The arguments of `pty_close`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyClose {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Required while a client is attached.
    pub client_id: Option<String>,
}

impl Tool for PtyClose {
    const NAME: &'static str = "pty_close";
    const TITLE: &'static str = "Close session";
    const ABOUT: &'static str = "Close a session and end its programs: HUP, then TERM, then KILL, 5 s apart. Its output stays readable \
        for a day.";
    const EFFECT: Effect = Effect::ENDS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), self.client_id.as_ref())?;
        let place = PtySession::claim(seat, &self.session_id, who).await?;
        close(seat, &place, who).await
    }
}

/// Ends a session. Returns the answer, which says how it ended.
pub(super) async fn close(
    seat: &Seat,
    place: &PtySession,
    who: Who<'_>,
) -> Result<String, Failure> {
    let client = seat.client().await?;
    let state = match place {
        PtySession::Terminal(found) => {
            let Handle { server, job, .. } = &found.handle;
            controlling::close(client, server, *job, &who.caller()).await?;
            end(client, server, *job, LADDER).await?
        }
        PtySession::Pipe(pipe) => {
            let stopped = control::stop(client, &pipe.server, pipe.job, None).await?;
            if stopped == Stopped::NeverStarted {
                let header = Header::new(word(pipe.id)).value(&pipe.id.to_string());
                return Ok(format!("{}\n", header.words("never-started").end()));
            }
            pipe.end(LADDER).await
        }
    };
    if !state.is_open() {
        seat.notes.remove_open(place.job());
    }
    Ok(format!("{}\n", header(place.id(), &state).end()))
}
