//! `farwire session send`: types into a session and prints the resulting output.

use std::time::Duration;

use clap::Args;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::{Because, Doing, Ended, Input};

use super::print::{TerminalPrinter, command_json};
use super::which::Which;
use crate::cli::output::{Json, code_of, print_json};
use crate::client::Client;
use crate::sessions::{SessionReply, untyped};
use crate::text::human;
use crate::verbs::observer::Patient;
use crate::verbs::session::send::{SendInput, fits, line};

/// Bytes of output that are printed at most.
const BUDGET: u32 = 4 << 20;

/// The exit code when the time was up, or not all was typed in time, as that of `timeout`.
const TIME_UP: u8 = 124;

/// Type into a session, and print the resulting output
///
/// Types the text and Enter, then presses the keys. Returns when the command has ended, when the
/// program waits for more input, or when the time is up. The exit code is the command's, if its
/// shell reports it, or the session's, if it ended; 124 if the time was up or not everything could
/// be typed; and 0 otherwise.
#[derive(Args, Debug)]
pub(crate) struct Send {
    #[command(flatten)]
    which: Which,
    /// The text to type; several lines are pasted as one if the program supports that
    #[arg(allow_hyphen_values = true)]
    text: Option<String>,
    /// Then press this key, such as enter, ctrl-c, up, f5 or escape; may be given several times
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// Type the secret of this name if the terminal is waiting for one and does not echo it
    #[arg(long, value_name = "NAME", conflicts_with = "text")]
    secret: Option<String>,
    /// Do not press Enter after the text
    #[arg(long)]
    no_enter: bool,
    /// Wait at most this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    wait: f64,
    /// Wait until a line matches this regular expression
    #[arg(long, value_name = "RE")]
    until: Option<String>,
    /// Type only if the session is ready for a command, and fail otherwise
    #[arg(long)]
    at_prompt: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Send {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let wait = Duration::try_from_secs_f64(self.wait).map_err(|_| {
            Failure::new(
                Kind::InvalidArgument,
                "--wait is not a number of seconds that is 0 or more",
            )
        })?;
        let mut input = self.input()?;
        if let Some(name) = &self.secret {
            let value = client.home.phrases().get(name)?;
            input.insert(0, Input::Secret(Blob(value.to_vec())));
        }
        let session = self.which.find(client).await?;
        let send = SendInput {
            wait,
            until: self.until.clone(),
            bytes: BUDGET,
            at_prompt: self.at_prompt,
            ..SendInput::new(input)
        };
        let answer = send.carry_out(client, &session, &Patient::default()).await?;
        let ended = &answer.ended;
        if self.json.json {
            print_json(&json(&session.id.to_string(), &answer))?;
        } else {
            let mut printer = TerminalPrinter::default();
            for piece in &answer.pieces {
                printer.print(&piece.bytes)?;
            }
            if let Some(omitted) = ended.omitted {
                let omitted = human::size(omitted);
                note!(
                    "farwire: {omitted} bytes in the middle are left out; `farwire session commands {0} --output N` prints them",
                    session.id
                );
            }
            say(ended, &session.id.to_string());
        }
        Ok(code(ended, self.until.is_some()))
    }

    fn input(&self) -> Result<Vec<Input>, Failure> {
        let mut input = Vec::new();
        if let Some(text) = &self.text {
            fits("the text", text.as_bytes()).map_err(|failure| {
                failure.with_hint(
                    "`farwire run SERVER -c 'cat > FILE'` takes any amount on its standard input",
                )
            })?;
            input.push(match self.no_enter {
                true => Input::Text(Blob(text.clone().into_bytes())),
                false => line(text.as_str()),
            });
        }
        if self.secret.is_some() && !self.no_enter {
            input.push(Input::Key("enter".to_owned()));
        }
        input.extend(self.keys.iter().cloned().map(Input::Key));
        if input.is_empty() && self.secret.is_none() {
            return Err(Failure::new(Kind::InvalidArgument, "there is no text or key to type")
                .with_hint("give a text, or --key enter; `farwire session screen` only looks"));
        }
        Ok(input)
    }
}

/// The exit code of the ended command or session, or one for the other outcomes.
fn code(ended: &Ended, until: bool) -> u8 {
    let exit = ended.command.as_ref().and_then(|command| command.exit);
    if untyped(ended).is_some() {
        return TIME_UP;
    }
    match (ended.because, exit) {
        (Some(Because::Time), _) if until || exit.is_none() => TIME_UP,
        (_, Some(exit)) => u8::try_from(exit & 0xff).unwrap_or(1),
        _ => ended.state.exit.map_or(0, |exit| code_of(exit).unwrap_or(1)),
    }
}

/// Prints on standard error what the output alone does not show.
fn say(ended: &Ended, id: &str) {
    let doing = ended.status.doing;
    if let Some(untyped) = untyped(ended) {
        note!("farwire: {untyped}; look with `farwire session screen {id}`");
        return;
    }
    match (ended.because, doing) {
        (Some(Because::Time), _) => note!("farwire: the time was up; it is {}", doing.name()),
        (_, Doing::Exited) => note!("farwire: the session has ended"),
        (_, Doing::Prompt) => {}
        (_, Doing::Password) => note!("farwire: it is waiting for a secret"),
        (_, Doing::Pager | Doing::Editor) => {
            note!("farwire: it is in a {}; `farwire session screen {id}` shows it", doing.name());
        }
        (_, doing) => note!("farwire: it is {}", doing.name()),
    }
}

fn json(id: &str, answer: &SessionReply) -> serde_json::Value {
    let ended = &answer.ended;
    let because = match ended.because {
        Some(Because::Ended) => Some("ended"),
        Some(Because::Matched) => Some("matched"),
        Some(Because::Waits) => Some("waits"),
        Some(Because::Silence) => Some("silence"),
        Some(Because::Time) => Some("time"),
        None => None,
    };
    let output: Vec<u8> = answer.pieces.iter().flat_map(|piece| piece.bytes.clone()).collect();
    serde_json::json!({
        "id": id, "state": ended.status.doing.name(), "program": ended.status.foreground,
        "because": because, "typed_bytes": ended.typed, "untyped_bytes": ended.left.unwrap_or(0),
        "command": ended.command.as_ref().map(command_json),
        "omitted_bytes": ended.omitted.unwrap_or(0), "output": String::from_utf8_lossy(&output),
    })
}
