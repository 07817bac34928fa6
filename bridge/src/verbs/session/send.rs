//! Types into a session and waits for what comes of it, or only waits.

use std::time::Duration;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::{Caller, Input, Request, SEND_LIMIT, Send};
use zeroize::Zeroize as _;

use crate::client::Client;
use crate::handles::Handle;
use crate::machine::random_nonce;
use crate::runs::answer::NoAnswer;
use crate::sessions::{SessionReply, ask};
use crate::text::shown::Budget;
use crate::verbs::observer::Observer;

/// How much longer than its wait an answer may take on the way.
const SLACK: Duration = Duration::from_secs(6);

/// The longest text of one call.
pub const LONGEST: usize = SEND_LIMIT / 2;

/// Raw bytes for one character that is shown, at most.
const RAW: usize = 4;

/// Types into a session.
#[derive(Clone, Debug)]
pub struct SendInput {
    /// What is typed, in order; nothing to only wait.
    pub input: Vec<Input>,
    /// How long to wait for what comes of it.
    pub wait: Duration,
    /// How much longer than that an answer may take on the way.
    pub slack: Duration,
    /// A line that matches this expression ends the wait.
    pub until: Option<String>,
    /// How many raw bytes of output the answer brings at most.
    pub bytes: u32,
    /// The offset from which on output is brought; by default from the input on.
    pub from: Option<u64>,
    /// The client and the owner for whom it is typed.
    pub caller: Option<Caller>,
    /// Whether it is only typed at the prompt of a shell, and refused elsewhere.
    pub at_prompt: bool,
    /// Whether tabs and line ends in a text are text, and not keys.
    pub literal: bool,
    /// The failure of a call that is cancelled while it waits.
    pub cancelled: &'static str,
}

impl SendInput {
    /// Input for which little else is said: an answer of a usual size, at once.
    pub fn new(input: Vec<Input>) -> Self {
        Self {
            input,
            wait: Duration::ZERO,
            slack: SLACK,
            until: None,
            bytes: raw_bytes(Budget::default()),
            from: None,
            caller: None,
            at_prompt: false,
            literal: true,
            cancelled: "the wait was cancelled; what was typed stays typed",
        }
    }

    /// A wait for output after an offset.
    pub fn nothing(from: u64) -> Self {
        Self { from: Some(from), ..Self::new(Vec::new()) }
    }

    /// Types it and waits. What was secret of it is wiped.
    ///
    /// # Errors
    ///
    /// What the server says, `outcome_unknown` where it may have been typed, and `cancelled`.
    pub async fn carry_out(
        self,
        client: &Client,
        session: &Handle,
        observer: &dyn Observer,
    ) -> Result<SessionReply, Failure> {
        let instance = match self.input.is_empty() {
            true => Nonce::ZERO,
            false => client.instance(&session.server).await?,
        };
        let (patience, cancelled) = (self.wait + self.slack, self.cancelled);
        let mut request = Request::Send(self.send(session.job, instance)?);
        let asked = ask(client, &session.server, &request, patience);
        // Boxed: it is part of many futures, and large.
        let asked = Box::pin(async { asked.await.map_err(NoAnswer::failure) });
        let answer = observer.unless_cancelled(cancelled, asked).await;
        wipe(&mut request);
        answer
    }

    fn send(self, session: Nonce, instance: Nonce) -> Result<Send, Failure> {
        Ok(Send {
            request: random_nonce()?,
            session,
            instance,
            input: self.input,
            wait_ms: u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX),
            until: self.until,
            budget: self.bytes,
            from: self.from,
            caller: self.caller,
            at_prompt: self.at_prompt.then_some(true),
            literal: self.literal.then_some(true),
        })
    }
}

fn wipe(request: &mut Request) {
    let Request::Send(send) = request else { return };
    for one in &mut send.input {
        if let Input::Secret(Blob(value)) = one {
            value.zeroize();
        }
    }
}

/// How many raw bytes to ask for, so that so many characters can be shown.
pub fn raw_bytes(budget: Budget) -> u32 {
    u32::try_from(budget.characters() * RAW).unwrap_or(u32::MAX)
}

/// A line for a shell: the text, and Enter after it.
pub fn line(text: impl Into<Vec<u8>>) -> Input {
    let mut bytes = text.into();
    if bytes.last() != Some(&b'\n') {
        bytes.push(b'\n');
    }
    Input::Text(Blob(bytes))
}

/// Refuses a text that is too long to be typed in one call.
///
/// # Errors
///
/// `too_large`; the caller says what to do instead.
pub fn fits(what: &str, text: &[u8]) -> Result<(), Failure> {
    match text.len() > LONGEST {
        true => Err(Failure::new(Kind::TooLarge, format!("{what} has more than 32 KiB"))),
        false => Ok(()),
    }
}
