//! Serves `run` streams: starts a program or resumes one, carries its bytes, reports how it ended.
//!
//! The messages are in `protocol/src/streams/run.rs`; starting and reading is in `jobs/job.rs`.
//!
//! # Invariants
//!
//! - The exit stands in the FINAL frame and nowhere else, after every byte that was written before
//!   it.
//! - Only an authenticated FINAL whose counts match ends standard input. A cut stream ends nothing.
//! - When the stream ends, the run goes on.

mod answer;
mod look;
mod serving;

use std::time::Duration;

use farwire_link::inner::sealed::{Reader, Writer};
use farwire_protocol::conversation::{Counts, Offset, Open, message};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::{
    BEAT, Delivery, Digest, Ended, Request, STDERR, STDIN, STDOUT, Start, Started, Take, ToBridge,
};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use self::look::look;
use self::serving::{Serving, wait_of};
use crate::conversations::About;
use crate::gate::demand::Demand;
use crate::jobs::Begun;
use crate::jobs::job::Job;
use crate::program::input::Seat as InputSeat;
use crate::streams::context::finish;
use crate::streams::context::{Context, link_lost, request};
use crate::streams::pattern::expression;

/// A run that has not begun after this long is reported as waiting.
const MOMENT: Duration = Duration::from_millis(200);

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
    let Some(create) = open.create.take() else {
        return resume(context, &open, writer, reader).await;
    };
    // A command, its environment and its input may be secret.
    let create = Zeroizing::new(create.0);
    let request: Request = request(&create)?;
    // Before anything is started.
    if let Request::Start(Start { delivery, .. }) | Request::Take(Take { delivery, .. }) = &request
        && let Delivery::Digest(Digest { until: Some(until), .. }) = delivery
    {
        expression(until)?;
    }
    let taken = matches!(request, Request::Take(_));
    let (job, known, delivery) = match request {
        Request::Start(start) => {
            let hash = Sha256::digest(&create).into();
            let services = &context.services;
            let wanted = context.asker.allow(&Demand::Run, &start)?;
            let who = &context.asker.who;
            let started = services.jobs.start(who, wanted, hash, &services.users);
            let Begun { job, known } = started.await?;
            (job, known, start.delivery)
        }
        Request::Take(take) => {
            let job = context.services.jobs.find(&context.asker, take.job)?;
            (job.into_inner(), true, take.delivery)
        }
        Request::Read(wanted) => {
            let job = context.services.jobs.find(&context.asker, wanted.job)?;
            return look(job, wanted, writer).await;
        }
    };
    let counts_from = open.have.iter().flatten().find(|have| have.channel == STDIN);
    if known && !taken && counts_from.is_some() {
        // Its input was counted for a program that had had none, and another stream has been there
        // since.
        let text = "the request arrived on another stream, which passes its input on";
        return Err(Failure::new(Kind::StreamStale, text));
    }
    let about = About { job: job.id, delivery: delivery.clone(), taken };
    let seat =
        context.services.conversations.create(&context.asker.who, open.conversation, about)?;
    job.talked_about(open.conversation, &delivery);
    let since = Instant::now();
    let begun = tokio::select! {
        biased;
        // Another stream has resumed the conversation, and waits for this one to let go.
        () = seat.detached.cancelled() => return Err(link_lost()),
        begun = wait_begun(&job, writer, patience(&delivery).map(|wait| since + wait)) => begun?,
    };
    let Some(pid) = begun else {
        // The bridge gets an answer in time; the run keeps its place.
        let ended = Ended { state: job.state(), next: None, matched: None };
        return finish(writer, Counts::default(), &ended).await;
    };
    let started =
        Started { job: job.id, known: Some(known), pid: Some(pid).filter(|&pid| pid > 0) };
    writer.message(&message(&ToBridge::Started(started)));
    let mut counts = Counts::default();
    let input = if taken { None } else { Some(job.program.claim_input()?) };
    if known {
        // The conversation is new and the program is not: report how much input it has had.
        tell_resumed(&job, input, &mut counts, writer);
    }
    let input = input.map(|(seat, _)| seat);
    let serving = Serving { context, job, seat, counts, input, since };
    serving.deliver(&delivery, 0, writer, reader).await
}

/// How long an answer may wait for the run's turn; a stream waits without limit.
fn patience(delivery: &Delivery) -> Option<Duration> {
    match delivery {
        Delivery::Stream { .. } => None,
        Delivery::Digest(digest) => Some(wait_of(digest).max(MOMENT)),
        Delivery::Nothing => Some(MOMENT),
    }
}

/// Waits until the run has begun, and reports it if the run has to wait for its turn. Returns
/// `None` if it still waits at `until`.
async fn wait_begun<W: AsyncWrite + Unpin>(
    job: &Job,
    writer: &mut Writer<W>,
    until: Option<Instant>,
) -> Result<Option<u32>, Failure> {
    let mut news = ToBridge::Queued(0);
    let mut next = Instant::now() + MOMENT;
    loop {
        let wake = until.filter(|_| job.is_queued()).map_or(next, |until| until.min(next));
        if let Ok(begun) = timeout_at(wake, job.wait_for_start()).await {
            return begun.map(Some);
        }
        if job.is_queued() && until.is_some_and(|until| Instant::now() >= until) {
            return Ok(None);
        }
        if Instant::now() >= next {
            writer.message(&message(&news));
            writer.flush().await.map_err(|_| link_lost())?;
            news = ToBridge::Beat;
            next = Instant::now() + BEAT;
        }
    }
}

async fn resume<W, R>(
    context: &Context,
    open: &Open,
    writer: &mut Writer<W>,
    reader: Reader<R>,
) -> Result<(), Failure>
where
    W: AsyncWrite + Unpin + Send,
    R: AsyncRead + Unpin + Send,
{
    let conversations = &context.services.conversations;
    let (seat, about) =
        conversations.resume(&context.asker.who, open.conversation, open.generation).await?;
    let job = context.services.jobs.find(&context.asker, about.job)?.into_inner();
    let mut counts = Counts::default();
    for offset in open.have.iter().flatten() {
        counts.set(offset.channel, offset.offset);
    }
    let from = place_of(&job, counts.get(STDOUT), counts.get(STDERR))
        .ok_or_else(|| Failure::new(Kind::ProtocolViolation, "the run never had these offsets"))?;
    let input = if about.taken { None } else { Some(job.program.claim_input()?) };
    tell_resumed(&job, input, &mut counts, writer);
    let input = input.map(|(seat, _)| seat);
    let serving = Serving { context, job, seat, counts, input, since: Instant::now() };
    serving.deliver(&about.delivery, from, writer, reader).await
}

/// Reports how much standard input has been passed on, and counts from there.
fn tell_resumed<W: AsyncWrite + Unpin>(
    job: &Job,
    input: Option<(InputSeat, u64)>,
    counts: &mut Counts,
    writer: &mut Writer<W>,
) {
    let at = input.map_or_else(|| *job.program.watch_written().borrow(), |(_, at)| at);
    counts.set(STDIN, at);
    writer.message(&message(&ToBridge::Resumed(vec![Offset { channel: STDIN, offset: at }])));
}

/// The offset in the log of a bridge that has `stdout` and `stderr` bytes of the two streams. If it
/// is older than what is kept, the bridge gets a gap. `None` if the log never had such an offset.
fn place_of(job: &Job, stdout: u64, stderr: u64) -> Option<u64> {
    let place = stdout.checked_add(stderr)?;
    let kept = job.spool.offset_of(stdout, stderr);
    kept.or_else(|| (place <= job.spool.stats().start).then_some(place))
}
