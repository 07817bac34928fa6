//! `pty_read_until`, `pty_read_until_any`, `pty_read_quiescent` and `pty_prompt`: read on until
//! something has arrived.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use super::part::{Format, PtyOutput};
use super::session::{PtySession, Who, for_owner, millis};
use super::write;
use crate::client::Client;
use crate::sessions::pipes::Side;
use crate::sessions::search::{Match, OutputSearch};
use crate::sessions::window::{LARGEST, Span, Window};
use crate::text::header::{Call, Key};
use crate::text::shown::Piece;
use crate::tools::caller::Caller;
use crate::tools::names;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};

/// How long to wait for output by default.
const PATIENCE: Duration = Duration::from_secs(10);

/// A terminal without output for this long is quiet.
const QUIET: Duration = Duration::from_millis(300);

/// How many bytes are read at once.
const STEP: u32 = 256 << 10;

/// How many bytes are shown by default.
const BYTES: u32 = 7_500;

/// Reads on, and moves the client's cursor.
const TAKES: Effect =
    Effect { read_only: false, destructive: false, idempotent: false, open_world: false };

/// The arguments of `pty_read_until`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyReadUntil {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// Regex for the shown text, without colors.
    pub pattern: String,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Required while a client is attached.
    pub client_id: Option<String>,
    /// Milliseconds to wait (default 10000).
    pub timeout_ms: Option<u64>,
    /// How many of the last bytes to show (default 7500).
    pub max_bytes: Option<u32>,
    /// text (default) or json.
    pub format: Option<Format>,
}

impl Tool for PtyReadUntil {
    const NAME: &'static str = "pty_read_until";
    const TITLE: &'static str = "Read until pattern";
    const ABOUT: &'static str = "Read on until a pattern appears in a session's output, even if \
        split across chunks or lines. Stops right after it.";
    const EFFECT: Effect = TAKES;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), self.client_id.as_ref())?;
        let place = PtySession::claim(seat, &self.session_id, who).await?;
        let until = Until {
            patterns: vec![self.pattern],
            wait: millis(seat, self.timeout_ms, PATIENCE),
            from: seat.notes.cursor(place.job(), Side::Out, who),
            show: Extent { bytes: self.max_bytes, format: self.format },
        };
        until.read(seat, caller, &place, who).await
    }
}

/// The arguments of `pty_read_until_any`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyReadUntilAny {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// Regexes for the shown text; the answer names which matched, from 0.
    pub patterns: Vec<String>,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Required while a client is attached.
    pub client_id: Option<String>,
    /// Milliseconds to wait (default 10000).
    pub timeout_ms: Option<u64>,
    /// How many of the last bytes to show (default 7500).
    pub max_bytes: Option<u32>,
    /// text (default) or json.
    pub format: Option<Format>,
}

impl Tool for PtyReadUntilAny {
    const NAME: &'static str = "pty_read_until_any";
    const TITLE: &'static str = "Read until any pattern";
    const ABOUT: &'static str = "Read on until the first of several patterns appears in a session's output; says which one.";
    const EFFECT: Effect = TAKES;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), self.client_id.as_ref())?;
        let place = PtySession::claim(seat, &self.session_id, who).await?;
        let until = Until {
            patterns: self.patterns,
            wait: millis(seat, self.timeout_ms, PATIENCE),
            from: seat.notes.cursor(place.job(), Side::Out, who),
            show: Extent { bytes: self.max_bytes, format: self.format },
        };
        until.read(seat, caller, &place, who).await
    }
}

/// The arguments of `pty_prompt`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyPrompt {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// Typed first; \n is the enter key.
    pub data: String,
    /// Regexes to wait for; without any, waits until it is quiet.
    pub patterns: Option<Vec<String>>,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Required while a client is attached.
    pub client_id: Option<String>,
    /// Milliseconds to wait (default 10000).
    pub timeout_ms: Option<u64>,
    /// How many of the last bytes to show (default 7500).
    pub max_bytes: Option<u32>,
    /// text (default) or json.
    pub format: Option<Format>,
}

impl Tool for PtyPrompt {
    const NAME: &'static str = "pty_prompt";
    const TITLE: &'static str = "Type and wait";
    const ABOUT: &'static str = "Type into a session and wait for one of several patterns in the \
        output that follows: answer a prompt in one call.";
    const EFFECT: Effect = Effect::ACTS;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), self.client_id.as_ref())?;
        let place = PtySession::claim(seat, &self.session_id, who).await?;
        place.open()?;
        let patterns = self.patterns.unwrap_or_default();
        let from = place.end(Side::Out);
        // Report an invalid expression before anything is typed.
        if !patterns.is_empty() {
            OutputSearch::new(&patterns, from)?;
        }
        let data = self.data.as_bytes();
        let written = write::input(seat, &place, data, who).await?;
        if written < data.len() {
            return Err(write::not_all_taken(written, data.len()));
        }
        let wait = millis(seat, self.timeout_ms, PATIENCE);
        let show = Extent { bytes: self.max_bytes, format: self.format };
        if patterns.is_empty() {
            return Quiet { silence: QUIET, wait, from, show }
                .read(seat, caller, &place, who)
                .await;
        }
        Until { patterns, wait, from, show }.read(seat, caller, &place, who).await
    }
}

/// The arguments of `pty_read_quiescent`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtyReadQuiescent {
    /// Session id, e.g. s3.
    pub session_id: String,
    /// Milliseconds of silence to wait for (default 300).
    pub quiescence_ms: Option<u64>,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// Required while a client is attached.
    pub client_id: Option<String>,
    /// Milliseconds to wait (default 10000).
    pub timeout_ms: Option<u64>,
    /// How many of the last bytes to show (default 7500).
    pub max_bytes: Option<u32>,
    /// text (default) or json.
    pub format: Option<Format>,
}

impl Tool for PtyReadQuiescent {
    const NAME: &'static str = "pty_read_quiescent";
    const TITLE: &'static str = "Read until quiet";
    const ABOUT: &'static str =
        "Read on until a session has been silent for a while: gets a whole burst of output.";
    const EFFECT: Effect = TAKES;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), self.client_id.as_ref())?;
        let place = PtySession::claim(seat, &self.session_id, who).await?;
        let quiet = Quiet {
            silence: millis(seat, self.quiescence_ms, QUIET),
            wait: millis(seat, self.timeout_ms, PATIENCE),
            from: seat.notes.cursor(place.job(), Side::Out, who),
            show: Extent { bytes: self.max_bytes, format: self.format },
        };
        quiet.read(seat, caller, &place, who).await
    }
}

/// How much of the output is shown, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    /// The last bytes of it.
    bytes: Option<u32>,
    format: Option<Format>,
}

/// Reads until one of several patterns.
struct Until {
    patterns: Vec<String>,
    wait: Duration,
    from: u64,
    show: Extent,
}

impl Until {
    async fn read(
        self,
        seat: &Seat,
        caller: &Caller,
        place: &PtySession,
        who: Who<'_>,
    ) -> Result<String, Failure> {
        let mut search = OutputSearch::new(&self.patterns, self.from)?;
        let mut read = ReadProgress::new(seat, place, self.from).await?;
        let deadline = Instant::now() + self.wait;
        let found = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let piece = read.on(caller, left).await?;
            if let Some(found) = search.feed(&piece.bytes, piece.offset) {
                break Some(found);
            }
            if read.is_over() || piece.bytes.is_empty() && Instant::now() >= deadline {
                break None;
            }
        };
        let more = match &found {
            Some(Match { index, text, .. }) => {
                let text = String::from_utf8_lossy(text);
                vec![(Key::Matched, index.to_string()), (Key::Until, text.trim().to_owned())]
            }
            None => vec![
                (Key::Matched, "none".to_owned()),
                (Key::Reason, if read.is_over() { "ended" } else { "timeout" }.to_owned()),
            ],
        };
        Ok(read.answer(who, found.map(|found| found.to), self.show, Fields(more)))
    }
}

/// Reads until the session is quiet.
pub(super) struct Quiet {
    pub(super) silence: Duration,
    pub(super) wait: Duration,
    pub(super) from: u64,
    pub(super) show: Extent,
}

impl Quiet {
    pub(super) async fn read(
        self,
        seat: &Seat,
        caller: &Caller,
        place: &PtySession,
        who: Who<'_>,
    ) -> Result<String, Failure> {
        let mut read = ReadProgress::new(seat, place, self.from).await?;
        let deadline = Instant::now() + self.wait;
        let reason = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let piece = read.on(caller, self.silence.min(left)).await?;
            if read.is_over() {
                break "ended";
            }
            if piece.bytes.is_empty() {
                break if self.silence <= left { "silence" } else { "timeout" };
            }
            if Instant::now() >= deadline {
                break "timeout";
            }
        };
        let reason = Fields(vec![(Key::Reason, reason.to_owned())]);
        Ok(read.answer(who, None, self.show, reason))
    }
}

/// The other fields of an answer's header.
struct Fields(Vec<(Key, String)>);

/// The latest part of what has been read.
struct ReadProgress<'a> {
    seat: &'a Seat,
    client: &'a Client,
    place: &'a PtySession,
    /// Where reading should begin.
    from: u64,
    /// How far it has come.
    at: u64,
    kept: Window,
}

impl<'a> ReadProgress<'a> {
    async fn new(seat: &'a Seat, place: &'a PtySession, from: u64) -> Result<Self, Failure> {
        let client = seat.client().await?;
        Ok(Self { seat, client, place, from, at: from, kept: Window::default() })
    }

    /// Reads on, waiting at most this long.
    async fn on(&mut self, caller: &Caller, wait: Duration) -> Result<Piece, Failure> {
        let span = Span { from: self.at, limit: STEP, wait };
        let reading = self.place.window(self.client, Side::Out, span);
        let window = tokio::select! {
            window = reading => window?,
            () = caller.cancelled.cancelled() => {
                let text = "the wait was cancelled; your cursor is where it was";
                return Err(Failure::new(Kind::Cancelled, text));
            }
        };
        let piece = window.piece.clone();
        let kept = &mut self.kept;
        if kept.piece.bytes.is_empty() || window.from() != self.at {
            kept.piece = window.piece;
        } else {
            kept.piece.bytes.extend_from_slice(&piece.bytes);
            let over = kept.piece.bytes.len().saturating_sub(LARGEST as usize);
            drop_front(&mut kept.piece, over);
        }
        kept.state = window.state;
        self.at = kept.to();
        Ok(piece)
    }

    /// Whether no more will come.
    fn is_over(&self) -> bool {
        !self.kept.state.is_open() && !self.kept.more()
    }

    /// The answer; the cursor goes to `to`, or to where we have come.
    fn answer(mut self, who: Who<'_>, to: Option<u64>, show: Extent, fields: Fields) -> String {
        let (seat, Extent { bytes, format }, Fields(mut more)) = (self.seat, show, fields);
        let begin = self.kept.from();
        if let Some(to) = to {
            let length = usize::try_from(to.saturating_sub(begin)).unwrap_or(usize::MAX);
            self.kept.piece.bytes.truncate(length);
        }
        let limit = bytes.unwrap_or(BYTES).clamp(1, LARGEST) as usize;
        let over = self.kept.piece.bytes.len().saturating_sub(limit);
        drop_front(&mut self.kept.piece, over);
        let (job, id) = (self.place.job(), self.place.id());
        let before = seat.notes.cursor(job, Side::Out, who);
        if before < self.from {
            // Output from before the input that has not been read.
            more.push((Key::Unread, format!("{before}-{}", self.from)));
        }
        seat.notes.read_to(job, Side::Out, who, self.kept.to());
        let gone = begin.saturating_sub(self.from);
        let next = (over > 0).then(|| {
            let call = Call::new(names::PTY_READ_AT).with("session_id", id).with("offset", begin);
            for_owner(call, who.owner)
        });
        PtyOutput { id, window: &self.kept, format, gone, more, next }.finish()
    }
}

/// Drops the beginning of a piece.
fn drop_front(piece: &mut Piece, over: usize) {
    if over > 0 {
        let gone = piece.bytes.drain(..over);
        piece.first_line += memchr::memchr_iter(b'\n', gone.as_slice()).count() as u64;
        drop(gone);
        piece.offset += over as u64;
        piece.starts_within = true;
    }
}
