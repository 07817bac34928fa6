//! `session_control` and `session_resize`: keys by their names, and the size of a terminal.

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::{Action, Caller as Hand};
use farwire_protocol::streams::session::{Input, Request, Send};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{RAW, SLACK, said, told};
use crate::client::random_nonce;
use crate::sessions::ask;
use crate::sessions::control::act;
use crate::sessions::target::session;
use crate::text::header::Key;
use crate::tools::{Caller, Desk, Effect, Tool, budget};

/// No more keys are pressed at once.
const KEYS: usize = 100;

/// The arguments of `session_control`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionControl {
    /// ctrl_c, ctrl_d, enter, tab, esc, up, f5, alt-b …
    pub keys: Vec<String>,
    /// Session id or server/name; default: the active or only one.
    pub session: Option<String>,
    /// Seconds to wait for what comes (default 2).
    pub wait: Option<f64>,
}

impl Tool for SessionControl {
    const NAME: &'static str = "session_control";
    const TITLE: &'static str = "Press keys";
    const ABOUT: &'static str = "Press control keys in a session, such as ctrl_c, ctrl_d, tab, esc or arrows, and see what comes.";
    const EFFECT: Effect = Effect::ACTS;

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        if self.keys.is_empty() || self.keys.len() > KEYS {
            let text = format!("keys: between 1 and {KEYS}");
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
        let client = desk.client().await?;
        let (wait, _) = desk.wait(Some(self.wait.unwrap_or(2.0)))?;
        let found = session(client, self.session.as_deref()).await?;
        let budget = budget(None);
        let send = Send {
            request: random_nonce()?,
            session: found.session,
            instance: client.instance(&found.server).await?,
            input: self.keys.into_iter().map(Input::Key).collect(),
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            until: None,
            budget: u32::try_from(budget.characters() * RAW).unwrap_or(u32::MAX),
            from: None,
            caller: Some(Hand::default()),
            at_prompt: None,
            literal: None,
        };
        let request = Request::Send(send);
        let asked = ask(client, &found.server, &request, wait + SLACK);
        let answer = tokio::select! {
            answer = asked => answer.map_err(said)?,
            () = caller.cancelled.cancelled() => {
                let text = "the wait was cancelled; what was pressed stays pressed";
                return Err(Failure::new(Kind::Cancelled, text));
            }
        };
        desk.shown(found.session, answer.ended.offset);
        Ok(told(found.id, &answer, budget))
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

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let size = super::size(self.cols, self.rows)?;
        let client = desk.client().await?;
        let found = session(client, self.session.as_deref()).await?;
        let size = Action::Resize(size);
        let ended = act(client, &found.server, found.session, &Hand::default(), size).await?;
        let size = ended.status.size;
        let header = super::header(found.id, &ended);
        let header = header.field(Key::Size, format_args!("{}x{}", size.cols, size.rows));
        Ok(format!("{}\n", header.end()))
    }
}
