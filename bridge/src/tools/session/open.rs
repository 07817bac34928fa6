//! `session_open`: a persistent terminal, for a model.

use std::collections::BTreeMap;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::run::Program;
use farwire_protocol::streams::session::{Limits, Size};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::text::header::Key;
use crate::text::shown::Budget;
use crate::tools::answer::session::{header, screen_text};
use crate::tools::arguments::milliseconds;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::run::variables;
use crate::verbs::session::open::{OpenSession, Opened, USUAL};

/// The arguments of `session_open`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionOpen {
    /// Server name, from servers.
    pub server: String,
    /// Resumed if it is running.
    pub name: Option<String>,
    /// Default: login shell.
    pub command: Option<String>,
    /// Default: home.
    pub cwd: Option<String>,
    /// Extra variables.
    pub env: Option<BTreeMap<String, String>>,
    /// Run as this user.
    pub user: Option<String>,
    /// Columns (default 120).
    pub cols: Option<u16>,
    /// Rows (default 40).
    pub rows: Option<u16>,
    /// Close after idle seconds.
    pub idle: Option<f64>,
}

impl Tool for SessionOpen {
    const NAME: &'static str = "session_open";
    const TITLE: &'static str = "Open terminal";
    const ABOUT: &'static str = "Open or resume a persistent terminal (pty, shell, tmux-like) on a server: keeps \
        its directory, variables and programs; survives disconnects.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: false, idempotent: false, open_world: true };

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let server = client.find(&self.server).await?;
        let idle_ms = self.idle.map(milliseconds).transpose()?;
        let open = OpenSession {
            name: self.name,
            program: self.command.map(|line| Program::Line(Blob(line.into_bytes()))),
            cwd: self.cwd.map(|cwd| Blob(cwd.into_bytes())),
            env: self.env.map(variables),
            user: self.user,
            size: Size {
                cols: self.cols.unwrap_or(USUAL.cols),
                rows: self.rows.unwrap_or(USUAL.rows),
            },
            limits: idle_ms.map(|_| Limits { idle_ms, ..Limits::default() }),
            ..OpenSession::default()
        };
        let Opened { handle, answer } = open.carry_out(client, &server).await?;
        seat.set_cursor(handle.job, answer.ended.offset);
        let status = &answer.ended.status;
        let mut header = header(handle.id, &answer.ended).field(Key::Name, &status.name);
        if status.known == Some(true) {
            header = header.words("resumed");
        }
        Ok(format!("{}\n{}", header.end(), screen_text(&answer, Budget::new(3_000))))
    }
}
