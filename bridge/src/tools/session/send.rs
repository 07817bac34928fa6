//! `session_send`: types into a terminal, for a model.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::Input;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::handles::Handle;
use crate::tools::answer::session::input_answer;
use crate::tools::arguments::budget;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::session::send::{SendInput, fits, line, raw_bytes};

/// The arguments of `session_send`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionSend {
    /// Session id, e.g. s3.
    pub id: String,
    /// Typed as is.
    pub text: Option<String>,
    /// Press Enter after text (default true).
    pub enter: Option<bool>,
    /// Stored secret to type unseen, by name.
    pub secret: Option<String>,
    /// Then these keys: ctrl-c, up, f5, escape …
    pub keys: Option<Vec<String>>,
    /// Seconds (default 10).
    pub wait: Option<f64>,
    /// Regex: return on a matching line.
    pub until: Option<String>,
    /// Characters (default 7500).
    pub max_output: Option<usize>,
}

impl Tool for SessionSend {
    const NAME: &'static str = "session_send";
    const TITLE: &'static str = "Type into terminal";
    const ABOUT: &'static str = "Type a command or keys into a terminal session: output, exit code and state: \
        prompt, running, password, pager, editor, repl. \
        Full-screen programs: output with view=screen.";
    const EFFECT: Effect = Effect::ACTS;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let (wait, _) = seat.wait(Some(self.wait.unwrap_or(10.0)))?;
        let session = Handle::find_session(client, &self.id)?;
        let budget = budget(self.max_output);
        let mut input = self.input()?;
        if let Some(name) = &self.secret {
            let value = seat.process.secret(name).await?;
            input.insert(0, Input::Secret(Blob(value.to_vec())));
        }
        let send = SendInput {
            wait,
            until: self.until,
            bytes: raw_bytes(budget),
            ..SendInput::new(input)
        };
        let answer = send.carry_out(client, &session, caller).await?;
        seat.set_cursor(session.job, answer.ended.offset);
        Ok(input_answer(session.id, &answer, budget))
    }
}

impl SessionSend {
    fn input(&self) -> Result<Vec<Input>, Failure> {
        let mut input = Vec::new();
        if self.secret.is_some() {
            if self.text.is_some() {
                let text = "session_send: text and secret cannot be combined";
                return Err(Failure::new(Kind::InvalidArgument, text)
                    .with_hint("send the command first, and the secret when state=password"));
            }
            if self.enter.unwrap_or(true) {
                input.push(Input::Key("enter".to_owned()));
            }
        } else if let Some(text) = &self.text {
            fits("text", text.as_bytes()).map_err(|failure| {
                failure.with_hint("write it to a file with run and its stdin, and use that file")
            })?;
            input.push(match self.enter.unwrap_or(true) {
                true => line(text.as_str()),
                false => Input::Text(Blob(text.clone().into_bytes())),
            });
        } else if self.enter == Some(true) {
            input.push(Input::Key("enter".to_owned()));
        }
        input.extend(self.keys.iter().flatten().cloned().map(Input::Key));
        Ok(input)
    }
}
