//! One stream that serves a run: passes its input on, and delivers its output as the bridge wants
//! it.

use std::sync::Arc;
use std::time::Duration;

use farwire_link::inner::sealed::{BATCH, ReadError, Reader, Writer};
use farwire_protocol::cbor::Blob;
use farwire_protocol::conversation::{Counts, End, Offset, message, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::streams::run::{
    BEAT, Delivery, Digest, Ended, STDERR, STDIN, STDOUT, ToBridge,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::answer::{BUDGET, send_piece};
use crate::conversations::Seat;
use crate::jobs::job::Job;
use crate::program::Phase;
use crate::program::input::Seat as InputSeat;
use crate::spool::{Item, Mode, SpoolPiece, SpoolReader};
use crate::streams::context::finish;
use crate::streams::context::{Context, link_lost};
use crate::streams::pattern::{Awaited, expression};

/// A program that ends at once is answered in one packet: the first frames wait this long for more.
const COMPANY: Duration = Duration::from_millis(5);

/// With this much to send there is no wait.
const COMPANY_BYTES: usize = 16 << 10;

/// Standard input is acknowledged when this much was passed on since the last time.
const ACK_STEP: u64 = 256 << 10;

/// A reader that waits for a line looks at most this often.
const LOOK: Duration = Duration::from_millis(20);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A conversation with its stream.
pub(super) struct Serving<'a> {
    pub(super) context: &'a Context,
    pub(super) job: Arc<Job>,
    pub(super) seat: Seat,
    pub(super) counts: Counts,
    /// The right to pass on standard input. A stream has it only once it sends some.
    pub(super) input: Option<InputSeat>,
    /// When it was requested.
    pub(super) since: Instant,
}

impl Serving<'_> {
    pub(super) async fn deliver<W, R>(
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
            () = self.seat.detached.cancelled() => Err(link_lost()),
            done = output => done,
            failure = input => Err(failure),
        }
    }

    /// Receives what the bridge sends. Returns only if the bridge breaks a rule, or the carrier
    /// breaks.
    async fn input<R: AsyncRead + Unpin + Send>(&self, mut reader: Reader<R>) -> Failure {
        let mut counts = Counts::default();
        counts.set(STDIN, self.counts.get(STDIN));
        let mut seat = self.input;
        loop {
            let frame = match reader.next().await {
                Ok(frame) => frame,
                // The carrier is gone, or the bridge has sent everything: the output half notices.
                Err(error) if error.is_carrier() && !matches!(error, ReadError::Bad(_)) => {
                    return std::future::pending().await;
                }
                // Bytes that do not authenticate are the carrier's doing: the bridge will resume.
                Err(error) if error.is_carrier() => return link_lost(),
                Err(error) => return error.into(),
            };
            self.context.link.note_activity();
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
                        // A later stream passes input on: input on this one no longer counts.
                        return std::future::pending().await;
                    }
                }
                (FrameKind::Control, true) => {
                    let end = read::<End>(&frame.payload).ok();
                    // A stream that has sent no input does not end that of another.
                    if seat.is_none() && end.as_ref().is_some_and(|end| end.ends.is_empty()) {
                        return std::future::pending().await;
                    }
                    if end.is_none_or(|end| counts.check(&end.ends).is_err()) {
                        let message = "the end of standard input does not match its bytes";
                        return Failure::new(Kind::ProtocolViolation, message);
                    }
                    match self.claim(&mut seat, counts.get(STDIN)) {
                        Ok(seat) => self.job.program.end_input(seat, counts.get(STDIN)).await,
                        Err(failure) => return failure,
                    }
                    return std::future::pending().await;
                }
                // No message is defined here: that of a later bridge is skipped.
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
            let text = "another stream has passed on input since this one started";
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
        let mut written = self.job.program.watch_written();
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
                writer.flush().await.map_err(|_| link_lost())?;
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

    /// Ends the stream with the state of the run.
    async fn end<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut Writer<W>,
        counts: Counts,
        matched: Option<bool>,
    ) -> Result<(), Failure> {
        let ended = Ended { state: self.job.state(), next: None, matched };
        finish(writer, counts, &ended).await
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

    fn piece(&self, from: u64, budget: u64) -> SpoolPiece {
        self.job.spool.bytes_from(from, usize::try_from(budget).unwrap_or(0))
    }

    /// Waits until the run has ended, the time is up, or the awaited line has come.
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
            // Its output before its end has arrived by then.
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
                    writer.flush().await.map_err(|_| link_lost())?;
                }
                () = async { log.wait().await; sleep(LOOK).await }, if watching => {
                    log.catch_up();
                }
                () = sleep(COMPANY), if writer.waiting() > 0 => {
                    writer.flush().await.map_err(|_| link_lost())?;
                }
            }
        }
    }
}

/// How long an answer waits.
pub(super) fn wait_of(digest: &Digest) -> Duration {
    Duration::from_millis(digest.wait_ms).min(LONGEST_WAIT)
}

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
