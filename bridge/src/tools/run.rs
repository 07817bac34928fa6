//! `run`: one command on one server, or typed into a session.

use std::collections::BTreeMap;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::handles::Handle;
use crate::runs::slow::is_slow;
use crate::text::shown::Keep;
use crate::tools::answer::run::{LogExcerpt, no_answer};
use crate::tools::answer::session::input_answer;
use crate::tools::arguments::budget;
use crate::tools::arguments::milliseconds;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Cancel, Effect, Tool};
use crate::verbs::run::{self as verb, Excerpt, RunAnswer, Stdin, UNSENT, variables};
use crate::verbs::session::send::{SendInput, fits, line, raw_bytes};

/// A command that is known to take long is waited for this many seconds, unless the call says
/// otherwise: enough for it to fail at once.
const AT_ONCE: f64 = 1.0;

/// The arguments of `run`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunTool {
    /// Server name, from servers.
    pub server: Option<String>,
    /// Type it into this session instead.
    pub session: Option<String>,
    /// Shell command line.
    pub command: String,
    /// Directory (default: home).
    pub cwd: Option<String>,
    /// Extra variables.
    pub env: Option<BTreeMap<String, String>>,
    /// Text for stdin.
    pub stdin: Option<String>,
    /// Run as this user.
    pub user: Option<String>,
    /// Use a login shell.
    pub login: Option<bool>,
    /// Seconds (default 25); then it keeps running under its id.
    pub wait: Option<f64>,
    /// Kill after this many seconds.
    pub timeout: Option<f64>,
    /// Characters (default 7500).
    pub max_output: Option<usize>,
}

impl Tool for RunTool {
    const NAME: &'static str = "run";
    const TITLE: &'static str = "Run command";
    const ABOUT: &'static str = "Run (execute) one shell command on a remote server, like ssh HOST COMMAND: \
        exit code and output. No terminal: prompts fail. What outlasts wait keeps running: \
        continue with output, end it with stop. A non-zero exit is a normal result.";
    const EFFECT: Effect = Effect::ACTS;
    /// The command is stopped.
    const CANCEL: Cancel = Cancel::Notices;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let slow = is_slow(&self.command).then_some(AT_ONCE);
        let (wait, clamped) = seat.wait(self.wait.or(slow))?;
        let excerpt =
            Excerpt { wait, budget: budget(self.max_output), progress: caller.progress.is_some() };
        if let Some(session) = &self.session {
            self.only_a_line()?;
            let typing = self.type_into(seat, caller, session, excerpt);
            return caller.unless_cancelled("the call was cancelled", typing).await;
        }
        let name = self.server.as_ref().ok_or_else(|| {
            Failure::new(Kind::InvalidArgument, "run: server is missing")
                .with_hint("name a server, or a session to type it into")
        })?;
        let server = caller.unless_cancelled(UNSENT, client.find(name)).await?;
        let run = self.verb()?;
        let RunAnswer { handle, answer, waited } =
            run.carry_out(client, server, excerpt, caller).await?;
        match answer {
            Ok(answer) => {
                seat.set_cursor(handle.job, answer.ended.state.bytes);
                let limited = clamped.then_some(seat.settings.max_wait);
                let (id, budget) = (handle.id, excerpt.budget);
                let shown = LogExcerpt { id, answer: &answer, keep: Keep::Ends, budget, limited };
                Ok(shown.to_string())
            }
            Err(no) => no_answer(handle.id, no, waited),
        }
    }
}

impl RunTool {
    /// A session has its own directory, variables, user, terminal and lifetime.
    fn only_a_line(&self) -> Result<(), Failure> {
        let given = [
            ("server", self.server.is_some()),
            ("cwd", self.cwd.is_some()),
            ("env", self.env.is_some()),
            ("stdin", self.stdin.is_some()),
            ("user", self.user.is_some()),
            ("login", self.login.is_some()),
            ("timeout", self.timeout.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((name, _)) => Err(Failure::new(
                Kind::InvalidArgument,
                format!("run: {name} cannot be combined with session"),
            )
            .with_hint("leave it out, or put it into the command: cd /x && A=b command")),
        }
    }

    fn verb(self) -> Result<verb::RunProgram, Failure> {
        let timeout_ms = self.timeout.map(milliseconds).transpose()?;
        Ok(verb::RunProgram {
            cwd: self.cwd.map(|cwd| Blob(cwd.into_bytes())),
            env: self.env.map(variables),
            user: self.user,
            login: self.login == Some(true),
            timeout_ms,
            stdin: self.stdin.map_or(Stdin::Empty, |text| Stdin::Bytes(text.into_bytes())),
            ..verb::RunProgram::line(self.command)
        })
    }

    /// Types the command into a session, whose shell must be at its prompt.
    async fn type_into(
        &self,
        seat: &Seat,
        caller: &Caller,
        session: &str,
        Excerpt { wait, budget, .. }: Excerpt,
    ) -> Result<String, Failure> {
        let client = seat.client().await?;
        let session = Handle::find_session(client, session)?;
        fits("command", self.command.as_bytes()).map_err(|failure| {
            failure.with_hint("write it to a file with run and its stdin, and run that")
        })?;
        let send = SendInput {
            wait,
            bytes: raw_bytes(budget),
            at_prompt: true,
            ..SendInput::new(vec![line(self.command.as_str())])
        };
        let answer = send.carry_out(client, &session, caller).await?;
        seat.set_cursor(session.job, answer.ended.offset);
        Ok(input_answer(session.id, &answer, budget))
    }
}
