//! Types an exchange: whether it may be typed, how the program wants its keys, and how much of it
//! was taken.

use std::sync::Arc;
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::{Doing, Input, SEND_LIMIT, Send};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use crate::gate::Asker;
use crate::gate::principal::Principal;
use crate::os::clock::boottime;
use crate::sessions::Session;
use crate::streams::session::control::already_over;
use crate::terminal::keys::{self, Takes, Wanted};
use crate::terminal::marks::{Marks, PROMPT};
use crate::terminal::turn::ExchangeTurn;
use crate::terminal::typing::Keys;
use crate::terminal::{Sent, Terminal};

/// How long to wait for a program that reads nothing of what is typed.
pub(super) const TYPING: Duration = Duration::from_secs(2);

/// A shell at its prompt that has not reacted to what was typed for this long is not going to.
pub(super) const HEED: Duration = Duration::from_secs(1);

/// In line mode the kernel keeps this many bytes of a line, and its end (`N_TTY_BUF_SIZE`; POSIX
/// has `MAX_CANON`).
const LINE: usize = 4_095;

/// How often the kernel is asked what the terminal is doing.
pub(super) const LOOK: Duration = Duration::from_millis(40);

/// Types it for the first time. Nobody else gets the turn before all is typed.
pub(super) async fn begin(
    session: &Session,
    asker: &Asker,
    send: &Send,
    turn: Option<Arc<ExchangeTurn>>,
) -> Result<Sent, Failure> {
    let (Session { job, terminal }, who) = (session, &*asker.who);
    if job.has_ended() {
        return Err(already_over(job));
    }
    // Before checking what the terminal wants: the prompt switches pastes on.
    if send.at_prompt == Some(true) {
        terminal.wait_taken().await;
    }
    terminal.wait_prompt().await;
    terminal.draw().await;
    let mut wanted = key_modes(terminal);
    may_begin(terminal, who, send)?;
    let literal = send.literal == Some(true);
    let tabs = |input: &Input| matches!(input, Input::Text(text) if text.contains(&b'\t'));
    let takes = match literal && send.input.iter().any(tabs) {
        true => Some(takes(terminal, &mut wanted).await),
        false => None,
    };
    let keys = keys_of(&send.input, wanted, literal.then_some(takes))?;
    if terminal.reads_lines() {
        check_lines(&keys)?;
    }
    let ended = terminal.marks(Marks::ended_count);
    let all: usize = keys.iter().map(|part| part.bytes.len()).sum();
    let now = Sent {
        left: all as u64,
        typing: true,
        line: is_line(&keys),
        // Keys without the end of a line are for what runs.
        taken_by: terminal.taken_by().filter(|_| ends_line(&keys)),
        ..Sent::at(job.spool.end(), ended)
    };
    // Another copy of the request may have got this far meanwhile: only one of them types.
    if let Some(known) = terminal.exchange(send.request, turn.is_none(), who, now) {
        return Ok(wait_typed(terminal, send.request, known).await);
    }
    // Typing goes on even if this stream ends: the next stream learns the result.
    let typing = Typing { terminal: terminal.clone(), request: send.request };
    let asker = asker.clone();
    let typing = tokio::spawn(async move {
        let turn = turn.as_ref().map(|turn| turn.request);
        types(&typing, &asker, turn, &keys, now).await
    });
    typing.await.map_err(|_| Failure::new(Kind::Internal, "a task that types has died"))?
}

/// Marks an exchange as being typed, until this is dropped.
struct Typing {
    terminal: Arc<Terminal>,
    request: Nonce,
}

impl Drop for Typing {
    fn drop(&mut self) {
        self.terminal.end_typing(self.request);
    }
}

/// Waits until an exchange that another copy of its request has begun is no longer being typed.
/// Returns its result.
pub(super) async fn wait_typed(terminal: &Terminal, request: Nonce, known: Sent) -> Sent {
    let mut sent = known;
    while sent.typing {
        sleep(LOOK).await;
        sent = terminal.exchange_of(request).unwrap_or(Sent { typing: false, ..sent });
    }
    sent
}

/// How the program wants its keys.
fn key_modes(terminal: &Terminal) -> Wanted {
    let facts = terminal.summary().facts;
    Wanted { application_cursor: facts.application_cursor, bracketed_paste: facts.bracketed_paste }
}

/// How a tab reaches the program as a character. Waits a moment if nobody reads yet, or if a
/// program reads keys and may still switch pastes on, as fish does after its prompt.
async fn takes(terminal: &Arc<Terminal>, wants: &mut Wanted) -> Takes {
    let begun = Instant::now();
    loop {
        terminal.draw().await;
        *wants = key_modes(terminal);
        let takes = terminal.takes(*wants);
        let soon = match takes {
            Takes::Nobody => HEED,
            Takes::Keys => PROMPT,
            _ => Duration::ZERO,
        };
        if begun.elapsed() >= soon {
            return takes;
        }
        sleep(LOOK).await;
    }
}

/// Refuses at once what would be refused when its turn comes.
pub(super) fn refuse_early(
    terminal: &Terminal,
    who: &Principal,
    send: &Send,
) -> Result<(), Failure> {
    let now = boottime();
    let may = terminal.typing().arbiter.may_take_turn(who, now);
    may.map_err(|refusal| {
        terminal.note_refused(who, &send.input);
        terminal.settle(None);
        refusal.failure(now)
    })
}

/// Whether any of it may be typed. What is refused here counts as never sent.
fn may_begin(terminal: &Terminal, who: &Principal, send: &Send) -> Result<(), Failure> {
    let now = boottime();
    let may = terminal.typing().arbiter.may_type(who, now);
    if let Err(refusal) = may {
        terminal.note_refused(who, &send.input);
        terminal.settle(None);
        return Err(refusal.failure(now));
    }
    let busy = |text: &str| Failure::new(Kind::TerminalBusy, text);
    if send.at_prompt == Some(true) && !terminal.at_prompt() {
        let doing = terminal.doing();
        return Err(match doing {
            Doing::Prompt if terminal.is_half_typed() => busy("a line is half typed")
                .with_hint("look at the screen; ctrl-c gives the line up"),
            _ => busy(&format!("the terminal is not at a prompt: {}", doing.name())),
        });
    }
    let secret = send.input.iter().any(|input| matches!(input, Input::Secret(_)));
    if secret && !terminal.hides() {
        let text = "no program asks for a secret: the terminal would show what is typed now";
        return Err(busy(text).with_hint("send it when the state is `password`"));
    }
    Ok(())
}

/// Types all of it, or as much as the program reads within [`TYPING`].
async fn types(
    Typing { terminal, request }: &Typing,
    asker: &Asker,
    turn: Option<Nonce>,
    keys: &[Part],
    before: Sent,
) -> Result<Sent, Failure> {
    let until = Instant::now() + TYPING;
    let all: usize = keys.iter().map(|part| part.bytes.len()).sum();
    let mut taken = 0;
    for Part { bytes, secret } in keys {
        let secret = *secret;
        if secret && !terminal.hides() {
            break;
        }
        let keys = Keys { bytes, secret, turn, report: false, count: None };
        let typed = terminal.types(asker, keys, Some(until)).await;
        taken += typed.taken;
        terminal.count_exchange(*request, taken as u64, (all - taken) as u64);
        // A refusal means that nothing was typed.
        if let Some(refusal) = typed.refused.filter(|_| taken == 0) {
            return Err(refusal.failure(boottime()));
        }
        if typed.taken < bytes.len() {
            break;
        }
    }
    Ok(Sent { typed: taken as u64, left: (all - taken) as u64, typing: false, ..before })
}

/// Bytes to type. A secret is recorded nowhere, and wiped.
struct Part {
    bytes: Zeroizing<Vec<u8>>,
    secret: bool,
}

/// The bytes to type. `literal` says that text is data, and how tabs reach the program.
fn keys_of(
    input: &[Input],
    wanted: Wanted,
    literal: Option<Option<Takes>>,
) -> Result<Vec<Part>, Failure> {
    let mut parts: Vec<Part> = Vec::new();
    let mut size = 0;
    for one in input {
        let (bytes, secret) = match one {
            Input::Text(text) => match literal {
                Some(takes) => (keys::literal(text, wanted, takes)?, false),
                None => (keys::text(text, wanted), false),
            },
            Input::Key(name) => (keys::key(name, wanted)?, false),
            Input::Secret(secret) => {
                keys::check_secret(secret)?;
                (secret.to_vec(), true)
            }
        };
        size += bytes.len();
        if size > SEND_LIMIT {
            return Err(Failure::new(Kind::TooLarge, "at most 64 KiB can be typed at once"));
        }
        match parts.last_mut() {
            Some(part) if part.secret == secret => part.bytes.extend_from_slice(&bytes),
            _ if bytes.is_empty() => {}
            _ => parts.push(Part { bytes: Zeroizing::new(bytes), secret }),
        }
    }
    Ok(parts)
}

/// Refuses a line of which the kernel would keep only the beginning.
fn check_lines(keys: &[Part]) -> Result<(), Failure> {
    let lengths = keys.iter().flat_map(|part| part.bytes.iter()).scan(0, |length, byte| {
        *length = if matches!(byte, b'\r' | b'\n') { 0 } else { *length + 1 };
        Some(*length)
    });
    let longest = lengths.max().unwrap_or(0);
    if longest > LINE {
        let text = format!(
            "a line of {longest} bytes is too long: the terminal passes on at most {LINE} bytes of a line"
        );
        return Err(Failure::new(Kind::TooLarge, text).with_hint(
            "write it to a file, as with `run` and its stdin, and let the program read that",
        ));
    }
    Ok(())
}

/// Whether a shell may take a command from it.
fn ends_line(keys: &[Part]) -> bool {
    keys.iter().any(|part| part.bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')))
}

/// Whether this is a single line, with its end.
fn is_line(keys: &[Part]) -> bool {
    let end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let bytes = || keys.iter().flat_map(|part| part.bytes.iter());
    bytes().filter(|byte| end(byte)).count() == 1 && bytes().next_back().is_some_and(end)
}
