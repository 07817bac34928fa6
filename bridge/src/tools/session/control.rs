//! `session_control` and `session_resize`: keys by their names, and the size of a terminal.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::{Action, Caller as Hand, Input};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::handles::Handle;
use crate::sessions::control::act;
use crate::sessions::find::SessionName;
use crate::tools::answer::session::{header, input_answer, with_size};
use crate::tools::arguments::budget;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::session::open::size;
use crate::verbs::session::send::{SendInput, raw_bytes};

/// One call presses at most this many keys.
const KEYS: usize = 100;

/// The arguments of `session_control`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionControl {
    /// ctrl_c, ctrl_d, enter, tab, esc, up, f5, alt-b …
    pub keys: Vec<String>,
    /// Session id or server/name; default: the active or only one.
    pub session: Option<String>,
    /// Seconds to wait for output (default 2).
    pub wait: Option<f64>,
}

impl Tool for SessionControl {
    const NAME: &'static str = "session_control";
    const TITLE: &'static str = "Press keys";
    const ABOUT: &'static str = "Press control keys in a session, such as ctrl_c, ctrl_d, tab, esc or arrows, and get the output that follows.";
    const EFFECT: Effect = Effect::ACTS;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        if self.keys.is_empty() || self.keys.len() > KEYS {
            let text = format!("keys: between 1 and {KEYS}");
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
        let client = seat.client().await?;
        let (wait, _) = seat.wait(Some(self.wait.unwrap_or(2.0)))?;
        let found = SessionName::parse_optional(self.session.as_deref()).find(client, None).await?;
        let budget = budget(None);
        let send = SendInput {
            wait,
            bytes: raw_bytes(budget),
            caller: Some(Hand::default()),
            literal: false,
            cancelled: "the wait was cancelled; the keys have been pressed",
            ..SendInput::new(self.keys.into_iter().map(Input::Key).collect())
        };
        let answer = send.carry_out(client, &found.handle, caller).await?;
        seat.set_cursor(found.handle.job, answer.ended.offset);
        Ok(input_answer(found.handle.id, &answer, budget))
    }
}

/// The arguments of `session_resize`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionResize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// Session id or server/name; default: the active or only one.
    pub session: Option<String>,
}

impl Tool for SessionResize {
    const NAME: &'static str = "session_resize";
    const TITLE: &'static str = "Resize";
    const ABOUT: &'static str =
        "Resize a session's terminal. Everybody who is attached shares one size.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: false, idempotent: true, open_world: false };

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let size = size(self.cols, self.rows)?;
        let client = seat.client().await?;
        let session = SessionName::parse_optional(self.session.as_deref());
        let Handle { id, server, job } = session.find(client, None).await?.handle;
        let ended = act(client, &server, job, &Hand::default(), Action::Resize(size)).await?;
        Ok(format!("{}\n", with_size(header(id, &ended), ended.status.size).end()))
    }
}
