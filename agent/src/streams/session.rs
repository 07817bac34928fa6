//! Serves `session` streams: opens a terminal, attaches to it, types into it, looks at it.
//!
//! The messages are in `protocol/src/streams/session.rs`; the state of a terminal is in
//! `terminal.rs`.
//!
//! # Invariants
//!
//! - A client gets the bytes of the log in order, from the offset that it names; or the screen,
//!   marked as such.
//! - Typed bytes are taken once: a stream that resumes a conversation learns how many were.
//! - What a stream does to a session is done before what a later stream of its conversation does,
//!   or not at all.
//! - A viewer cannot type, whatever it sends.
//! - When the stream ends, the session goes on.

pub(crate) mod answer;
mod attached;
mod control;
mod events;
mod exchange;
mod pace;

use std::time::Duration;

use farwire_link::inner::sealed::{BATCH, Reader, Writer};
use farwire_protocol::cbor::{self};
use farwire_protocol::conversation::{Counts, Open};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::{
    Attach, Command, Commands as Asked, Doing, Ended, Request, TEXT,
};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use self::answer::{LARGEST, QUIET, over_at, show, state_of};
use self::attached::{Visit, attend};
use self::exchange::exchange;
use crate::gate::Allowed;
use crate::gate::demand::Demand;
use crate::gate::principal::Principal;
use crate::jobs::Begun;
use crate::sessions::{Session, no_terminal};
use crate::spool::Mode;
use crate::streams::context::finish;
use crate::streams::context::{Context, link_lost, request};
use crate::terminal::events::What;
use crate::terminal::marks::Marks;
use crate::terminal::screen::Screen;

/// Serves one stream.
pub(crate) async fn serve<W, R>(
    context: &Context,
    mut open: Open,
    writer: &mut Writer<W>,
    reader: Reader<R>,
) -> Result<(), Failure>
where
    W: AsyncWrite + Unpin + Send,
    R: AsyncRead + Unpin + Send,
{
    let create = open.create.take().ok_or_else(|| {
        Failure::new(Kind::ConversationGone, "a session is resumed with its request")
    })?;
    // What is typed may be secret.
    let create = Zeroizing::new(create.0);
    let request: Request = request(&create)?;
    let find = |id| context.services.sessions.find(&context.asker, id);
    match request {
        Request::Open(start) => {
            let hash = Sha256::digest(&create).into();
            let asker = context.asker.calling_itself(start.caller.as_ref())?;
            let services = &context.services;
            let wanted = asker.allow(&Demand::OpenSession, &start)?;
            let opened = services.sessions.start(&asker, wanted, hash, &services.users);
            let Begun { job, known } = opened.await?;
            job.wait_for_start().await?;
            let session = Session::of(job).ok_or_else(no_terminal)?;
            if !known {
                session.terminal.note(Some(&asker.who), What::Opened);
            }
            let session = asker.allow(&Demand::Use(session.job.facts()), session.clone())?;
            if start.attach == Some(true) {
                let size = known.then_some(start.size);
                // A new session starts at the beginning of its log.
                let from = (!known).then_some(0);
                let attach = Attach { session: session.job.id, read_only: None, size, from };
                let visit = Visit { session, known, attach };
                attend(context, &open, visit, writer, reader).await
            } else {
                wait_settled(&session).await;
                look(&session, &asker.who, known, Screen::text, writer).await
            }
        }
        Request::Attach(attach) => {
            let session = find(attach.session)?;
            let visit = Visit { session, known: true, attach };
            attend(context, &open, visit, writer, reader).await
        }
        Request::Send(send) => {
            let asker = context.asker.calling_itself(send.caller.as_ref())?;
            let session = context.services.sessions.find(&asker, send.session)?;
            exchange(context, &session, &asker, &send, writer).await
        }
        Request::Control(control) => control::serve(context, &open, &control, writer).await,
        Request::Events(events) => events::serve(context, &events, writer).await,
        Request::Look(session) => {
            let session = find(session)?;
            look(&session, &context.asker.who, true, Screen::text, writer).await
        }
        Request::Draw(session) => {
            let session = find(session)?;
            look(&session, &context.asker.who, true, Screen::drawing, writer).await
        }
        Request::Commands(asked) => {
            let session = find(asked.session)?;
            let now = state_of(&session, &context.asker.who).await?;
            let over = over_at(&session.job);
            let (commands, more) = session.terminal.marks(|marks| latest(marks, asked, over));
            let (commands, more) = (Some(commands), Some(more).filter(|more| *more));
            finish(writer, Counts::default(), &Ended { commands, more, ..now }).await
        }
    }
}

/// The latest of the requested commands, oldest first, as many as fit one frame; and whether older
/// ones were left out.
fn latest(marks: &Marks, asked: Asked, over: Option<u64>) -> (Vec<Command>, bool) {
    let limit = usize::try_from(asked.limit).unwrap_or(0).min(100);
    let before = asked.before.unwrap_or(u64::MAX);
    let (mut latest, mut size, mut more) = (Vec::new(), 0, false);
    let older = marks.commands().rev().filter(|command| command.number < before);
    for command in older.take(limit).map(|command| show(command, over)) {
        size += cbor::encode(&command).len();
        more = size > LARGEST && !latest.is_empty();
        if more {
            break;
        }
        latest.push(command);
    }
    latest.reverse();
    (latest, more)
}

/// Waits until a new shell has drawn its first prompt, or has had time to.
async fn wait_settled(Session { job, terminal }: &Session) {
    let mut log = job.spool.reader(u64::MAX, Mode::Lagging);
    let deadline = Instant::now() + Duration::from_secs(3);
    let mut marked = terminal.marked();
    let mut phase = job.phase();
    while !job.has_ended() && Instant::now() < deadline {
        terminal.draw().await;
        let doing = terminal.doing();
        // Without marks a prompt is assumed once nothing more comes.
        let marks = terminal.nonce.is_some();
        if doing != Doing::Running && marks {
            return;
        }
        tokio::select! {
            _ = marked.changed() => {}
            _ = phase.changed() => {}
            () = log.wait(), if !marks => log.catch_up(),
            () = sleep(QUIET) => {
                if !marks && doing != Doing::Running && job.spool.stats().end > 0 {
                    return;
                }
            }
        }
    }
}

/// Answers with the screen, as text or as the bytes that draw it.
async fn look<W: AsyncWrite + Unpin, T: Into<Vec<u8>> + Send + 'static>(
    session: &Allowed<Session>,
    who: &Principal,
    known: bool,
    shown: fn(&mut Screen) -> T,
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    let text: Vec<u8> = session.terminal.look_at(shown).await.into();
    let mut counts = Counts::default();
    for piece in text.chunks(BATCH) {
        writer.data(TEXT, piece);
        counts.add(TEXT, piece.len()).expect("a screen is small");
        writer.flush().await.map_err(|_| link_lost())?;
    }
    let mut ended = state_of(session, who).await?;
    ended.status.known = Some(known);
    finish(writer, counts, &ended).await
}
