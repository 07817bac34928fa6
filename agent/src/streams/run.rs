//! Serves `run` streams: starts a program or takes one up, carries its bytes, says how it ended.
//!
//! The messages are in `protocol/src/streams/run.rs`; starting and reading is in `jobs/job.rs`.
//!
//! # Invariants
//!
//! - The exit stands in the FINAL frame and nowhere else, after every byte that was written before it.
//! - Only an authenticated FINAL whose counts fit ends standard input. A cut stream ends nothing.
//! - When the stream goes, the run goes on.

use std::sync::Arc;
use std::time::Duration;

use farwire_link::inner::sealed::{BATCH, ReadError, Reader, Writer};
use farwire_protocol::cbor::Blob;
use farwire_protocol::conversation::{Counts, End, Offset, Open, message, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::streams::run::{
    BEAT, Delivery, Digest, Ended, PIECE, Piece as PieceMessage, Read, Request, STDERR, STDIN,
    STDOUT, Start, Started, Take, ToBridge, View,
};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use zeroize::Zeroizing;

use crate::conversations::{About, Seat};
use crate::gate::Allowed;
use crate::gate::demand::Demand;
use crate::jobs::Begun;
use crate::jobs::job::Job;
use crate::program::Phase;
use crate::program::input::Seat as InputSeat;
use crate::spool::{Item, Mode, Piece, SpoolReader};
use crate::streams::context::{Context, lost, request};
use crate::streams::pattern::{Awaited, expression};

/// A program that ends at once is answered in one packet: what is said at the start waits so long
/// for company.
const COMPANY: Duration = Duration::from_millis(5);

/// Standard input is acknowledged when so much has been passed on since the last time.
const ACK_STEP: u64 = 256 << 10;

/// A reader that waits for a line looks at most this often.
const LOOK: Duration = Duration::from_millis(20);

/// A run that has not begun for so long is said to wait.
const MOMENT: Duration = Duration::from_millis(200);

/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// No answer is larger.
const BUDGET: u32 = 4 << 20;

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
            let wanted = context.asker.allowed(&Demand::Run, &start)?;
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
        // Its input was counted for a program that had had none, and another stream has been there since.
        let text = "the request has come on another stream, which passes its input on";
        return Err(Failure::new(Kind::StreamStale, text));
    }
    let about = About { job: job.id, delivery: delivery.clone(), taken };
    let seat =
        context.services.conversations.create(&context.asker.who, open.conversation, about)?;
    job.talked_about(open.conversation, &delivery);
    let since = Instant::now();
    let begun = tokio::select! {
        biased;
        // Another stream has taken the conversation up, and waits for this one to let go.
        () = seat.detached.cancelled() => return Err(lost()),
        begun = begun(&job, writer, patience(&delivery).map(|wait| since + wait)) => begun?,
    };
    let Some(pid) = begun else {
        // The bridge gets an answer in time; the run keeps its place.
        let ended = Ended { state: job.state(), next: None, matched: None };
        return finish(writer, Counts::default(), ended).await;
    };
    let started =
        Started { job: job.id, known: Some(known), pid: Some(pid).filter(|&pid| pid > 0) };
    writer.message(&message(&ToBridge::Started(started)));
    let mut counts = Counts::default();
    let input = if taken { None } else { Some(job.program.claim_input()?) };
    if known {
        // The conversation is new and the program is not: say how much input it has had.
        resumed(&job, input, &mut counts, writer);
    }
    let input = input.map(|(seat, _)| seat);
    let serving = Serving { context, job, seat, counts, input, since };
    serving.deliver(&delivery, 0, writer, reader).await
}

/// How long an answer may wait for the run's turn; a stream waits for as long as it takes.
fn patience(delivery: &Delivery) -> Option<Duration> {
    match delivery {
        Delivery::Stream { .. } => None,
        Delivery::Digest(digest) => Some(wait_of(digest).max(MOMENT)),
        Delivery::Nothing => Some(MOMENT),
    }
}

fn wait_of(digest: &Digest) -> Duration {
    Duration::from_millis(digest.wait_ms).min(LONGEST_WAIT)
}

/// Waits until the run has begun, and says so when it has to wait for its turn. `None` if it still waits
/// for that at `until`.
async fn begun<W: AsyncWrite + Unpin>(
    job: &Job,
    writer: &mut Writer<W>,
    until: Option<Instant>,
) -> Result<Option<u32>, Failure> {
    let mut news = ToBridge::Queued(0);
    let mut next = Instant::now() + MOMENT;
    loop {
        let wake = until.filter(|_| job.is_queued()).map_or(next, |until| until.min(next));
        if let Ok(begun) = timeout_at(wake, job.started()).await {
            return begun.map(Some);
        }
        if job.is_queued() && until.is_some_and(|until| Instant::now() >= until) {
            return Ok(None);
        }
        if Instant::now() >= next {
            writer.message(&message(&news));
            writer.flush().await.map_err(|_| lost())?;
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
        .ok_or_else(|| Failure::new(Kind::ProtocolViolation, "offsets that this run never had"))?;
    let input = if about.taken { None } else { Some(job.program.claim_input()?) };
    resumed(&job, input, &mut counts, writer);
    let input = input.map(|(seat, _)| seat);
    let serving = Serving { context, job, seat, counts, input, since: Instant::now() };
    serving.deliver(&about.delivery, from, writer, reader).await
}

/// Says how much standard input has been passed on, and counts from there.
fn resumed<W: AsyncWrite + Unpin>(
    job: &Job,
    input: Option<(InputSeat, u64)>,
    counts: &mut Counts,
    writer: &mut Writer<W>,
) {
    let at = input.map_or_else(|| *job.program.written().borrow(), |(_, at)| at);
    counts.set(STDIN, at);
    writer.message(&message(&ToBridge::Resumed(vec![Offset { channel: STDIN, offset: at }])));
}

/// Where in the log a bridge is that has so many bytes of each stream. Older than what is kept: the gap
/// is reported to it. `None` where the run never was there.
fn place_of(job: &Job, stdout: u64, stderr: u64) -> Option<u64> {
    let place = stdout.checked_add(stderr)?;
    let kept = job.spool.offset_of(stdout, stderr);
    kept.or_else(|| (place <= job.spool.stats().start).then_some(place))
}

/// A conversation with its stream.
struct Serving<'a> {
    context: &'a Context,
    job: Arc<Job>,
    seat: Seat,
    counts: Counts,
    /// The right to pass on standard input. Whoever looks at a run has none unless it sends some.
    input: Option<InputSeat>,
    /// When it was asked for.
    since: Instant,
}

impl Serving<'_> {
    async fn deliver<W, R>(
        self,
        delivery: &Delivery,
        from: u64,
        writer: &mut Writer<W>,
        reader: Reader<R>,
    ) -> Result<(), Failure>
    where
        W: AsyncWrite + Unpin + Send,
        R: AsyncRead + Unpin + Send,
    {
        let input = self.input(reader);
        let output = async {
            match delivery {
                Delivery::Stream { lossless } => {
                    let mode = if *lossless { Mode::Lossless } else { Mode::Lagging };
                    self.stream(from, mode, writer).await
                }
                Delivery::Digest(digest) => self.digest(digest, writer).await,
                Delivery::Nothing => self.end(writer, Counts::default(), None).await,
            }
        };
        tokio::select! {
            biased;
            () = self.seat.detached.cancelled() => Err(lost()),
            done = output => done,
            failure = input => Err(failure),
        }
    }

    /// Takes what the bridge sends. Never comes to an end by itself, except by a broken rule.
    async fn input<R: AsyncRead + Unpin + Send>(&self, mut reader: Reader<R>) -> Failure {
        let mut counts = Counts::default();
        counts.set(STDIN, self.counts.get(STDIN));
        let mut seat = self.input;
        loop {
            let frame = match reader.next().await {
                Ok(frame) => frame,
                // The carrier is gone, or the bridge has said all: the output half notices.
                Err(error) if error.is_carrier() && !matches!(error, ReadError::Bad(_)) => {
                    return std::future::pending().await;
                }
                // Bytes that do not authenticate are the carrier's doing: the bridge will take it up again.
                Err(error) if error.is_carrier() => return lost(),
                Err(error) => return error.into(),
            };
            self.context.link.heard();
            match (frame.kind, frame.last) {
                (FrameKind::Data, _) if frame.channel == STDIN => {
                    let seat = match self.claim(&mut seat, counts.get(STDIN)) {
                        Ok(seat) => seat,
                        Err(failure) => return failure,
                    };
                    if counts.add(STDIN, frame.payload.len()).is_none() {
                        return Failure::new(Kind::ProtocolViolation, "too much input");
                    }
                    if !self.job.program.write_input(seat, &frame.payload).await {
                        // A later stream passes input on: what comes here does not count any more.
                        return std::future::pending().await;
                    }
                }
                (FrameKind::Control, true) => {
                    let end = read::<End>(&frame.payload).ok();
                    // Whoever only looks has nothing to say about the input of somebody else.
                    if seat.is_none() && end.as_ref().is_some_and(|end| end.ends.is_empty()) {
                        return std::future::pending().await;
                    }
                    if end.is_none_or(|end| counts.check(&end.ends).is_err()) {
                        let message = "standard input ended elsewhere than its bytes";
                        return Failure::new(Kind::ProtocolViolation, message);
                    }
                    match self.claim(&mut seat, counts.get(STDIN)) {
                        Ok(seat) => self.job.program.end_input(seat, counts.get(STDIN)).await,
                        Err(failure) => return failure,
                    }
                    return std::future::pending().await;
                }
                // No message is defined here: what a later bridge says is skipped, and counts for nothing.
                (FrameKind::Control, false) => {}
                _ => return Failure::new(Kind::ProtocolViolation, "an unexpected frame"),
            }
        }
    }

    /// The right to pass on input from this offset on, for a stream that has sent some.
    fn claim(&self, seat: &mut Option<InputSeat>, at: u64) -> Result<InputSeat, Failure> {
        if let Some(seat) = *seat {
            return Ok(seat);
        }
        let (claimed, written) = self.job.program.claim_input()?;
        if written != at {
            let text = "another stream has passed on input since this one began";
            return Err(Failure::new(Kind::ProtocolViolation, text));
        }
        *seat = Some(claimed);
        Ok(claimed)
    }

    /// Sends every byte from `from` on, and the end.
    async fn stream<W: AsyncWrite + Unpin>(
        &self,
        from: u64,
        mode: Mode,
        writer: &mut Writer<W>,
    ) -> Result<(), Failure> {
        let mut counts = self.counts;
        let (stdout, stderr) = (counts.get(STDOUT), counts.get(STDERR));
        let mut log = self.job.spool.reader(from, mode).having(stdout, stderr);
        counts.set(STDIN, 0);
        let mut phase = self.job.phase();
        let mut written = self.job.program.written();
        let mut acked = self.counts.get(STDIN);
        let mut company = true;
        loop {
            let until = end_of_output(&phase, &self.job);
            fill(&mut log, until, &mut counts, writer)?;
            if until.is_some_and(|until| log.offset() >= until) {
                if let Phase::Failed(failure) = &*phase.borrow() {
                    return Err(failure.clone());
                }
                return self.end(writer, counts, None).await;
            }
            let passed = *written.borrow_and_update();
            if passed >= acked + ACK_STEP || (passed > acked && writer.waiting() == 0) {
                acked = passed;
                let offset = Offset { channel: STDIN, offset: passed };
                writer.message(&message(&ToBridge::Ack(offset)));
            }
            company &= writer.waiting() < COMPANY_BYTES;
            if !company && writer.waiting() > 0 {
                writer.flush().await.map_err(|_| lost())?;
                continue;
            }
            tokio::select! {
                biased;
                () = log.wait() => {}
                _ = phase.changed() => {}
                _ = written.changed() => {}
                () = sleep(COMPANY), if company && writer.waiting() > 0 => company = false,
                () = sleep(BEAT) => {
                    writer.message(&message(&ToBridge::Beat));
                    company = false;
                }
            }
        }
    }

    /// Ends the stream with how the run is.
    async fn end<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut Writer<W>,
        counts: Counts,
        matched: Option<bool>,
    ) -> Result<(), Failure> {
        let ended = Ended { state: self.job.state(), next: None, matched };
        finish(writer, counts, ended).await
    }

    /// Waits as the digest says, then sends its pieces and the end.
    async fn digest<W: AsyncWrite + Unpin>(
        &self,
        digest: &Digest,
        writer: &mut Writer<W>,
    ) -> Result<(), Failure> {
        let from = digest.from.unwrap_or(0);
        let matched = self.wait(digest, from, writer).await?;
        let mut counts = Counts::default();
        let (head, tail) = (digest.head.min(BUDGET), digest.tail.min(BUDGET));
        let stats = self.job.spool.stats();
        let from = from.max(stats.start);
        let left = stats.end.saturating_sub(from);
        let (head, tail) = (u64::from(head), u64::from(tail));
        if left > head + tail {
            send_piece(writer, &mut counts, self.piece(from, head)).await?;
            send_piece(writer, &mut counts, self.piece(stats.end - tail, tail)).await?;
        } else if left > 0 {
            send_piece(writer, &mut counts, self.piece(from, left)).await?;
        }
        self.end(writer, counts, matched).await
    }

    fn piece(&self, from: u64, budget: u64) -> Piece {
        self.job.spool.bytes_from(from, usize::try_from(budget).unwrap_or(0))
    }

    /// Waits until the run has ended, the time is up, or what was waited for has come.
    async fn wait<W: AsyncWrite + Unpin>(
        &self,
        digest: &Digest,
        from: u64,
        writer: &mut Writer<W>,
    ) -> Result<Option<bool>, Failure> {
        let until = digest.until.as_deref().map(expression).transpose()?;
        let mut until = until.map(|until| Awaited::new(&self.job.spool, until, from));
        let deadline = self.since + wait_of(digest);
        let mut phase = self.job.phase();
        let mut log = self.job.spool.reader(u64::MAX, Mode::Lagging);
        let mut progress = Instant::now() + Duration::from_secs(1);
        let watching = until.is_some() || digest.until_new == Some(true);
        loop {
            // What it said before its end has come by then.
            let over = end_of_output(&phase, &self.job).is_some();
            if let Some(until) = &mut until
                && until.has_come(deadline).await
            {
                return Ok(Some(true));
            }
            if digest.until_new == Some(true) && self.job.spool.stats().end > from {
                return Ok(None);
            }
            if over {
                return Ok(until.map(|_| false));
            }
            tokio::select! {
                biased;
                () = sleep_until(deadline) => return Ok(until.map(|_| false)),
                _ = phase.changed() => {}
                () = sleep_until(progress), if digest.progress == Some(true) => {
                    progress = Instant::now() + Duration::from_secs(1);
                    let (lines, last) = self.job.spool.last_line(400);
                    writer.message(&message(&ToBridge::Progress { lines, last: Blob(last) }));
                    writer.flush().await.map_err(|_| lost())?;
                }
                () = async { log.wait().await; sleep(LOOK).await }, if watching => {
                    log.catch_up();
                }
                () = sleep(COMPANY), if writer.waiting() > 0 => {
                    writer.flush().await.map_err(|_| lost())?;
                }
            }
        }
    }
}

/// With so much to say nothing is waited for.
const COMPANY_BYTES: usize = 16 << 10;

/// The offset at which the output of a run that has ended ends.
fn end_of_output(phase: &watch::Receiver<Phase>, job: &Job) -> Option<u64> {
    match &*phase.borrow() {
        Phase::Ended { output_end, .. } => Some(*output_end),
        Phase::Failed(_) => Some(job.spool.stats().end),
        Phase::Queued | Phase::Running(_) => None,
    }
}

/// Seals what the log has, up to one batch.
fn fill<W: AsyncWrite + Unpin>(
    log: &mut SpoolReader,
    until: Option<u64>,
    counts: &mut Counts,
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    while writer.waiting() < BATCH {
        let left = until.map_or(u64::MAX, |until| until.saturating_sub(log.offset()));
        let limit = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
        if limit == 0 {
            return Ok(());
        }
        let counted = match log.next(limit) {
            Item::Data(stream, bytes) => {
                writer.data(stream, &bytes);
                counts.add(stream, bytes.len())
            }
            Item::Gap { stdout, stderr, lines } => {
                writer.message(&message(&ToBridge::Gap { stdout, stderr, lines }));
                let add = |counts: &mut Counts, channel, bytes: u64| {
                    counts.add(channel, usize::try_from(bytes).unwrap_or(usize::MAX))
                };
                add(counts, STDOUT, stdout).and_then(|()| add(counts, STDERR, stderr))
            }
            Item::UpToDate { .. } => return Ok(()),
        };
        counted.ok_or_else(|| Failure::new(Kind::TooLarge, "more output than can be counted"))?;
    }
    Ok(())
}

async fn finish<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    counts: Counts,
    ended: Ended,
) -> Result<(), Failure> {
    let body = Some(Blob(message(&ended)));
    writer.end(&message(&End { ends: counts.offsets(), failure: None, body }));
    writer.finish().await.map_err(|_| lost())
}

async fn send_piece<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    counts: &mut Counts,
    piece: Piece,
) -> Result<(), Failure> {
    let head = PieceMessage {
        first_line: piece.first_line,
        length: u32::try_from(piece.bytes.len()).unwrap_or(u32::MAX),
        starts_within: Some(piece.starts_within),
        ends_within: Some(piece.ends_within),
        offset: piece.offset,
    };
    writer.message(&message(&ToBridge::Piece(head)));
    writer.data(PIECE, &piece.bytes);
    counts.add(PIECE, piece.bytes.len()).expect("a piece is small");
    if writer.waiting() >= BATCH {
        writer.flush().await.map_err(|_| lost())?;
    }
    Ok(())
}

/// So many lines around a match are shown at most.
const CONTEXT: u32 = 50;

/// Answers one look at a part of a log.
async fn look<W: AsyncWrite + Unpin>(
    job: Allowed<Arc<Job>>,
    wanted: Read,
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    let look = move || {
        let over = job.ended();
        let found = parts(&job, &wanted);
        let state = job.state();
        // How it ended is told with all that it said before that.
        let found = if job.ended() && !over { parts(&job, &wanted) } else { found };
        found.map(|found| (found, state))
    };
    let found = tokio::task::spawn_blocking(look).await;
    let found = found.map_err(|_| Failure::new(Kind::Internal, "the look died"))??;
    let ((pieces, next), state) = found;
    let mut counts = Counts::default();
    for piece in pieces {
        send_piece(writer, &mut counts, piece).await?;
    }
    finish(writer, counts, Ended { state, next, matched: None }).await
}

fn parts(job: &Job, wanted: &Read) -> Result<(Vec<Piece>, Option<u64>), Failure> {
    let budget = usize::try_from(wanted.budget.min(BUDGET)).unwrap_or(0);
    let spool = &job.spool;
    let piece = match &wanted.view {
        View::Head(lines) => spool.head(u64::from(*lines), budget),
        View::Tail(lines) => spool.tail(u64::from(*lines), budget),
        View::Range { first, count } => spool.range((*first).max(1), u64::from(*count), budget),
        View::Grep { pattern, first, limit, context } => {
            let limit = usize::try_from(*limit).unwrap_or(0).min(10_000);
            let (matches, next) = spool.grep(&expression(pattern)?, (*first).max(1), limit, budget);
            if let Some(context) = context.filter(|context| *context > 0) {
                return Ok(spool.around(&matches, u64::from(context.min(CONTEXT)), budget, next));
            }
            let pieces = matches.into_iter().map(|found| Piece {
                offset: found.offset,
                first_line: found.line,
                starts_within: false,
                ends_within: found.cut,
                bytes: found.bytes,
            });
            return Ok((pieces.collect(), next));
        }
    };
    Ok((vec![piece], None))
}
