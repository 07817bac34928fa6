//! One exchange: something is typed into a session, and the result is the answer.
//!
//! `exchange/typing.rs` types it, `waiting.rs` waits for the result, `reply.rs` sends it.

use std::sync::Arc;
use std::time::Duration;

use farwire_link::inner::sealed::Writer;
use farwire_protocol::conversation::message;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::BEAT;
use farwire_protocol::streams::session::{Because, Input, Send, ToBridge};
use tokio::io::AsyncWrite;
use tokio::time::{Instant, sleep};

use self::reply::{Occasion, Reply, answer};
use self::typing::{TYPING, begin, refuse_early, wait_typed};
use self::waiting::{Outcome, Waiting};
use super::control::already_over;
use crate::gate::principal::Principal;
use crate::gate::{Allowed, Asker};
use crate::sessions::Session;
use crate::streams::context::{Context, link_lost};
use crate::streams::pattern::{Awaited, expression};
use crate::terminal::marks::Marks;
use crate::terminal::{Sent, Terminal};

mod reply;
mod typing;
mod waiting;

/// How often a client that waits for its turn hears so: nothing is typed later for one that is
/// gone.
const IN_LINE: Duration = Duration::from_secs(1);

/// The longest wait.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Types something and waits for the result.
///
/// It has the session's turn from before it types until it has its answer: see
/// `terminal/typing_rights/turns.rs`. So the next command that begins is its own, whoever else
/// wants to type.
pub(super) async fn exchange<W: AsyncWrite + Unpin>(
    context: &Context,
    session: &Allowed<Session>,
    asker: &Asker,
    send: &Send,
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    let (session, who) = (&**session, &*asker.who);
    let Session { job, terminal } = session;
    let until = send.until.as_deref().map(expression).transpose()?;
    let wait_for = Duration::from_millis(send.wait_ms).min(LONGEST_WAIT);
    let deadline = Instant::now() + wait_for;
    if send.input.is_empty() {
        let end = job.spool.end();
        let offset = send.from.unwrap_or(end).min(end);
        let ended = terminal.marks(Marks::ended_count);
        let sent = Sent::at(offset, ended);
        let until = until.map(|until| Awaited::new(&job.spool, until, offset));
        let waiting = Waiting { session, sent, request: None, id: None };
        let outcome = beating(writer, BEAT, waiting.until_over(until, deadline)).await?;
        let reply = Reply { before: sent, outcome, occasion: Occasion::Looking };
        return answer(session, who, reply, send.budget, writer).await;
    }
    // Its output before its end can be requested all the same.
    if job.has_ended() {
        return Err(already_over(job));
    }
    if send.instance != context.services.instance {
        let text = "the agent was restarted; it is not known whether this was typed";
        return Err(Failure::new(Kind::OutcomeUnknown, text)
            .with_hint("look at the screen before typing it again"));
    }
    let before = terminal.exchange_of(send.request);
    if let Some(sent @ Sent { answered: Some((_, because)), .. }) = before {
        let outcome = Outcome::new(because);
        let reply = Reply { before: sent, outcome, occasion: Occasion::Again };
        return answer(session, who, reply, send.budget, writer).await;
    }
    beating(writer, BEAT, job.wait_for_start()).await??;
    let turn = match joins(terminal, who, send) {
        true => None,
        false => {
            if before.is_none() {
                refuse_early(terminal, who, send)?;
            }
            let until = Instant::now() + wait_for.max(TYPING);
            let turn = terminal.turn(who, send.request, until);
            Some(Arc::new(beating(writer, IN_LINE, turn).await??))
        }
    };
    let sent = match terminal.exchange_of(send.request) {
        Some(before) => wait_typed(terminal, send.request, before).await,
        None => begin(session, asker, send, turn.clone()).await?,
    };
    let request = turn.as_ref().map(|turn| turn.request);
    let id = Some(send.request);
    let until = until.map(|until| Awaited::new(&job.spool, until, sent.offset));
    let waiting = Waiting { session, sent, request, id };
    let outcome = match sent.left {
        0 => beating(writer, BEAT, waiting.until_over(until, deadline)).await?,
        // The program does not read, or somebody else types: there will be no result.
        _ => match request.and_then(|request| terminal.turn_taken(request)) {
            Some(taken) => Outcome::interrupted(taken),
            None => Outcome::new(Because::Time),
        },
    };
    let sent = waiting.now();
    terminal.answers(send.request, job.spool.end(), outcome.because);
    let occasion = if before.is_some() { Occasion::Again } else { Occasion::First };
    let reply = Reply { before: sent, outcome, occasion };
    answer(session, who, reply, send.budget, writer).await
}

/// Whether these are keys for an exchange that the same sender has typed and still waits for: they
/// share its turn.
fn joins(terminal: &Terminal, who: &Principal, send: &Send) -> bool {
    let keys = send.input.iter().all(|input| matches!(input, Input::Key(_)));
    keys && send.at_prompt != Some(true)
        && terminal.typing().arbiter.turns.holder().is_some_and(|(holder, _)| holder == who)
}

/// Does something for the client, and sends a sign of life now and then: a bridge that is gone
/// holds up nobody.
async fn beating<W: AsyncWrite + Unpin, T>(
    writer: &mut Writer<W>,
    every: Duration,
    done: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::pin!(done);
    loop {
        tokio::select! {
            biased;
            done = &mut done => return Ok(done),
            () = sleep(every) => {
                writer.message(&message(&ToBridge::Beat));
                writer.flush().await.map_err(|_| link_lost())?;
            }
        }
    }
}
