//! Serves `session` streams: a terminal that is opened, attached to, typed into, looked at.
//!
//! The messages are in `protocol/src/streams/session.rs`; what is known of a terminal is in `terminal.rs`.
//!
//! # Invariants
//!
//! - Bytes are the log's, in order, from where the reader says; or the screen, and it is said so.
//! - What is typed is taken once: a stream that takes a conversation up is told how much was.
//! - Who attached to look cannot type, whatever it sends.
//! - When the stream goes, the session goes on.

use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use farwire_link::inner::sealed::{BATCH, ReadError, Reader, Writer};
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::conversation::{CREATE_LIMIT, Counts, End, Open, message, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{BEAT, Delivery, Piece as PieceMessage};
use farwire_protocol::streams::session::{
    Attach, Attached, Because, Command, Doing, Ended, Input, KEYS, Request, SEND_LIMIT, Send,
    Size as SizeMessage, TERMINAL, TEXT, ToAgent, ToBridge,
};
use regex::bytes::Regex;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::conversations::{About, Seat};
use crate::jobs::job::{Job, Phase};
use crate::os::pty::Size;
use crate::spool::{Item, Memory, Mode, Place, SpoolReader};
use crate::streams::Context;
use crate::streams::run::expression;
use crate::terminal::keys::{self, Wanted};
use crate::terminal::marks::{self, Marks};
use crate::terminal::screen::Screen;
use crate::terminal::{Sent, Terminal};

/// Somebody who comes back within so many bytes gets them, and otherwise the screen.
const NEAR: u64 = 256 << 10;

/// A reader to whom nothing could be passed on for so long is not waited for any longer: the program goes
/// on, and the reader gets the screen instead of what it missed.
const LAG: Duration = Duration::from_millis(150);

/// What has been typed is acknowledged when so much was taken, or when there is something else to say.
const ACK_STEP: u64 = 32 << 10;

/// And at the latest after so long.
const ACK_AFTER: Duration = Duration::from_millis(250);

/// A program that does not read what is typed for so long is not waited for any longer.
const TYPING: Duration = Duration::from_secs(2);

/// A terminal that has said nothing for so long, and waits, is done.
const QUIET: Duration = Duration::from_millis(120);

/// The same where there are no marks, and the silence is all that there is.
const SILENCE: Duration = Duration::from_millis(400);

/// How long a prompt may take to be drawn after its command has ended.
const PROMPT: Duration = Duration::from_millis(250);

/// How often the kernel is asked what the terminal is doing.
const LOOK: Duration = Duration::from_millis(40);

/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The longest [`preamble`].
const PREAMBLE: usize = 1024;

/// No answer is larger.
const BUDGET: u32 = 4 << 20;

/// Serves one stream.
pub(crate) async fn serve<W, R>(
    context: &Context,
    open: Open,
    writer: &mut Writer<W>,
    reader: Reader<R>,
) -> Result<(), Failure>
where
    W: AsyncWrite + Unpin + std::marker::Send,
    R: AsyncRead + Unpin + std::marker::Send,
{
    let create = open.create.as_ref().ok_or_else(|| {
        Failure::new(Kind::ConversationGone, "sessions are attached to with their request")
    })?;
    let request: Request = cbor::decode(create, CREATE_LIMIT).map_err(|error| {
        Failure::caused(Kind::ProtocolViolation, "a request that makes no sense", &error)
    })?;
    match request {
        Request::Open(start) => {
            let hash = Sha256::digest(&create.0).into();
            let (job, known) = context.agent.jobs.open_session(&context.owner, &start, hash)?;
            job.started().await?;
            if start.attach == Some(true) {
                let size = known.then_some(start.size);
                let attach = Attach { session: job.id, read_only: None, size, from: None };
                attached(context, &open, (job, known), attach, (writer, reader)).await
            } else {
                settled(&job).await;
                look(&job, (known, Screen::text), writer).await
            }
        }
        Request::Attach(attach) => {
            let job = find(context, attach.session)?;
            attached(context, &open, (job, true), attach, (writer, reader)).await
        }
        Request::Send(send) => {
            let job = find(context, send.session)?;
            exchange(context, &job, &send, writer).await
        }
        Request::Control(_) | Request::Events(_) => Err(Failure::new(Kind::Unsupported, "not yet")),
        Request::Look(session) => {
            look(&find(context, session)?, (true, Screen::text), writer).await
        }
        Request::Draw(session) => {
            look(&find(context, session)?, (true, Screen::drawing), writer).await
        }
        Request::Commands(asked) => {
            let job = find(context, asked.session)?;
            let limit = usize::try_from(asked.limit).unwrap_or(0).min(100);
            let commands = terminal(&job)?.marks(|marks| {
                let mut latest: Vec<_> = marks.commands().rev().take(limit).map(show).collect();
                latest.reverse();
                latest
            });
            let commands = Some(commands);
            finish(writer, Counts::default(), Ended { commands, ..ended(&job)? }).await
        }
    }
}

fn find(context: &Context, session: Nonce) -> Result<Arc<Job>, Failure> {
    let job = context.agent.jobs.find(&context.owner, session)?;
    terminal(&job)?;
    Ok(job)
}

fn terminal(job: &Job) -> Result<&Arc<Terminal>, Failure> {
    job.terminal
        .as_ref()
        .ok_or_else(|| Failure::new(Kind::InvalidArgument, "that is a run, and has no terminal"))
}

fn lost() -> Failure {
    Failure::new(Kind::LinkLost, "the stream broke off")
}

/// Waits until a new shell has drawn its first prompt, or has had the time to.
async fn settled(job: &Arc<Job>) {
    let Some(terminal) = &job.terminal else { return };
    let mut log = job.spool.reader(u64::MAX, Mode::Lagging);
    let deadline = Instant::now() + Duration::from_secs(3);
    let mut marked = terminal.marked();
    let mut phase = job.phase();
    while !job.ended() && Instant::now() < deadline {
        let doing = terminal.doing(job);
        // Without marks a prompt is believed once nothing more comes.
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

fn ended(job: &Job) -> Result<Ended, Failure> {
    Ok(Ended {
        state: job.state(),
        status: terminal(job)?.status(job),
        because: None,
        command: None,
        commands: None,
        offset: job.spool.stats().end,
        omitted: None,
        events: None,
        typed: None,
    })
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

/// Answers with the screen, as text or as what draws it.
async fn look<W: AsyncWrite + Unpin, T: Into<Vec<u8>>>(
    job: &Arc<Job>,
    (known, shown): (bool, impl Fn(&mut Screen) -> T),
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    let terminal = terminal(job)?;
    terminal.drawn(job).await;
    let text: Vec<u8> = terminal.screen(job, shown).into();
    let mut counts = Counts::default();
    for piece in text.chunks(BATCH) {
        writer.data(TEXT, piece);
        counts.add(TEXT, piece.len()).expect("a screen is small");
        writer.flush().await.map_err(|_| lost())?;
    }
    let mut ended = ended(job)?;
    ended.status.known = Some(known);
    finish(writer, counts, ended).await
}

fn show(command: &marks::Command) -> Command {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Command {
        number: command.number,
        text: command.text.clone(),
        duration_ms: command.duration().map(millis),
        age_ms: command.age().map(millis),
        exit: command.exit,
        start: command.start,
        end: command.end,
        cwd: command.cwd.as_ref().map(|cwd| Blob(cwd.as_os_str().as_bytes().to_vec())),
    }
}

/// Serves somebody who is attached.
async fn attached<W, R>(
    context: &Context,
    open: &Open,
    (job, known): (Arc<Job>, bool),
    attach: Attach,
    (writer, reader): (&mut Writer<W>, Reader<R>),
) -> Result<(), Failure>
where
    W: AsyncWrite + Unpin + std::marker::Send,
    R: AsyncRead + Unpin + std::marker::Send,
{
    let terminal = terminal(&job)?.clone();
    let seat = seat(context, open, &job).await?;
    let _attachment = terminal.attach();
    if let Some(size) = attach.size {
        terminal.resize(&job, Size::new(size.cols, size.rows));
    }
    let memory = job.spool.memory();
    let place = memory.as_ref().map(|memory| memory.seat(open.conversation.0));
    let keys = memory.as_ref().zip(place).and_then(|(memory, place)| memory.taken(place));
    let size = terminal.size();
    let attached = Attached {
        session: job.id,
        name: terminal.name.clone(),
        known: Some(known),
        size: SizeMessage { cols: size.cols, rows: size.rows },
        keys,
    };
    writer.message(&message(&ToBridge::Attached(attached)));
    let serving = Serving {
        context,
        terminal,
        typist: memory.zip(place),
        read_only: attach.read_only == Some(true),
        taken: watch::Sender::new(keys.unwrap_or(0)),
        refused: watch::Sender::new(None),
        job,
    };
    let input = serving.input(reader);
    let output = serving.output(attach.from, writer);
    tokio::select! {
        biased;
        () = seat.detached.cancelled() => Err(lost()),
        failure = input => Err(failure),
        done = output => done,
    }
}

/// Takes the conversation up, or begins it.
async fn seat(context: &Context, open: &Open, job: &Job) -> Result<Seat, Failure> {
    let all = &context.agent.conversations;
    if open.generation > 0 {
        match all.resume(&context.owner, open.conversation, open.generation).await {
            Ok((seat, about)) if about.job == job.id => return Ok(seat),
            Ok(_) => return Err(Failure::new(Kind::ProtocolViolation, "another conversation")),
            // The agent was restarted: the session was not.
            Err(failure) if failure.kind == Kind::ConversationGone => {}
            Err(failure) => return Err(failure),
        }
    }
    let about = About { job: job.id, delivery: Delivery::Nothing };
    all.create(&context.owner, open.conversation, about)
}

/// Somebody who is attached.
struct Serving<'a> {
    context: &'a Context,
    job: Arc<Job>,
    terminal: Arc<Terminal>,
    /// Where it is written down how much of what is typed was taken.
    typist: Option<(Arc<Memory>, Place)>,
    read_only: bool,
    /// How many bytes of what is typed were taken.
    taken: watch::Sender<u64>,
    refused: watch::Sender<Option<Failure>>,
}

impl Serving<'_> {
    /// Takes what is typed. Comes to an end only by a broken rule.
    async fn input<R: AsyncRead + Unpin + std::marker::Send>(
        &self,
        mut reader: Reader<R>,
    ) -> Failure {
        loop {
            let frame = match reader.next().await {
                Ok(frame) => frame,
                Err(error) if error.is_carrier() && !matches!(error, ReadError::Bad(_)) => {
                    return std::future::pending().await;
                }
                Err(error) if error.is_carrier() => return lost(),
                Err(error) => return error.into(),
            };
            self.context.link.heard();
            match (frame.kind, frame.last) {
                (FrameKind::Data, _) if frame.channel == KEYS => self.typed(&frame.payload).await,
                // It has typed all that it will, and goes on looking.
                (FrameKind::Control, true) => return std::future::pending().await,
                (FrameKind::Control, false) => {
                    // A message of a newer bridge is skipped.
                    if let Ok(ToAgent::Resize(size)) = read(&frame.payload) {
                        if self.read_only {
                            continue;
                        }
                        self.terminal.drawn(&self.job).await;
                        self.terminal.resize(&self.job, Size::new(size.cols, size.rows));
                    }
                }
                _ => return Failure::new(Kind::ProtocolViolation, "an unexpected frame"),
            }
        }
    }

    async fn typed(&self, bytes: &[u8]) {
        let until = *self.taken.borrow() + bytes.len() as u64;
        let Some((memory, place)) = self.typist.as_ref().filter(|_| !self.read_only) else {
            let text = "this terminal was attached to look at it";
            self.refused.send_replace(Some(Failure::new(Kind::InputLocked, text)));
            self.taken.send_replace(until);
            return;
        };
        memory.begin_taking(*place, until);
        self.job.write(bytes).await;
        memory.took(*place, until);
        self.taken.send_replace(until);
    }

    /// Sends what the terminal says, and how it ended.
    async fn output<W: AsyncWrite + Unpin>(
        &self,
        from: Option<u64>,
        writer: &mut Writer<W>,
    ) -> Result<(), Failure> {
        let mut log = self.begin(from, writer).await?;
        let mut phase = self.job.phase();
        let mut taken = self.taken.subscribe();
        let mut refused = self.refused.subscribe();
        let mut resized = self.terminal.resized();
        resized.mark_unchanged();
        let mut acked = *taken.borrow();
        let mut ack_at = None;
        loop {
            let until = match &*phase.borrow() {
                Phase::Ended { output_end, .. } => Some(*output_end),
                Phase::Failed(_) => Some(self.job.spool.stats().end),
                Phase::Queued | Phase::Running(_) => None,
            };
            fill(&mut log, until, writer);
            if until.is_some_and(|until| log.offset() >= until) {
                if let Phase::Failed(failure) = &*phase.borrow() {
                    return Err(failure.clone());
                }
                let mut counts = Counts::default();
                counts.set(TERMINAL, log.offset());
                return finish(writer, counts, ended(&self.job)?).await;
            }
            let now = *taken.borrow_and_update();
            let due = ack_at.is_some_and(|at| Instant::now() >= at);
            if now > acked && (writer.waiting() > 0 || now - acked >= ACK_STEP || due) {
                writer.message(&message(&ToBridge::Ack(now)));
                (acked, ack_at) = (now, None);
            } else if now > acked && ack_at.is_none() {
                ack_at = Some(Instant::now() + ACK_AFTER);
            }
            if writer.waiting() > 0 {
                let flushed = timeout(LAG, writer.flush()).await;
                if let Ok(flushed) = flushed {
                    flushed.map_err(|_| lost())?;
                } else {
                    let at = log.offset();
                    drop(log);
                    writer.flush().await.map_err(|_| lost())?;
                    log = self.redraw(at, writer).await?;
                }
                continue;
            }
            tokio::select! {
                biased;
                () = log.wait() => {}
                _ = phase.changed() => {}
                _ = taken.changed() => {}
                _ = resized.changed() => {
                    let Size { cols, rows } = *resized.borrow_and_update();
                    writer.message(&message(&ToBridge::Resized(SizeMessage { cols, rows })));
                }
                _ = refused.changed() => {
                    if let Some(failure) = refused.borrow_and_update().clone() {
                        writer.message(&message(&ToBridge::Refused(failure)));
                    }
                }
                () = at(ack_at) => {}
                () = sleep(BEAT) => writer.message(&message(&ToBridge::Beat)),
            }
        }
    }

    /// Where to begin: from the offset that the reader has, if that is near, or with the screen.
    async fn begin<W: AsyncWrite + Unpin>(
        &self,
        from: Option<u64>,
        writer: &mut Writer<W>,
    ) -> Result<SpoolReader, Failure> {
        let stats = self.job.spool.stats();
        match from {
            Some(from) if from > stats.end => {
                Err(Failure::new(Kind::ProtocolViolation, "an offset that the log never had"))
            }
            Some(from) if from >= stats.start && stats.end - from <= NEAR => {
                writer.message(&message(&ToBridge::At(from)));
                Ok(self.job.spool.reader(from, Mode::Lossless))
            }
            from => self.redraw(from.unwrap_or(stats.end), writer).await,
        }
    }

    async fn redraw<W: AsyncWrite + Unpin>(
        &self,
        from: u64,
        writer: &mut Writer<W>,
    ) -> Result<SpoolReader, Failure> {
        self.terminal.drawn(&self.job).await;
        let (drawing, offset) =
            self.terminal.screen(&self.job, |screen| (screen.drawing(), screen.offset()));
        let length = u32::try_from(drawing.len()).unwrap_or(u32::MAX);
        let missed = offset.saturating_sub(from);
        writer.message(&message(&ToBridge::Screen { length, offset, missed }));
        for piece in drawing.chunks(BATCH) {
            writer.data(TERMINAL, piece);
            writer.flush().await.map_err(|_| lost())?;
        }
        Ok(self.job.spool.reader(offset, Mode::Lossless))
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Seals what the log has, up to one batch.
fn fill<W: AsyncWrite + Unpin>(log: &mut SpoolReader, until: Option<u64>, writer: &mut Writer<W>) {
    while writer.waiting() < BATCH {
        let left = until.map_or(u64::MAX, |until| until.saturating_sub(log.offset()));
        let limit = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
        if limit == 0 {
            return;
        }
        match log.next(limit) {
            Item::Data(_, bytes) => writer.data(TERMINAL, &bytes),
            Item::Gap { .. } => writer.message(&message(&ToBridge::At(log.offset()))),
            Item::UpToDate { .. } => return,
        }
    }
}

/// Types something and waits for what comes of it.
async fn exchange<W: AsyncWrite + Unpin>(
    context: &Context,
    job: &Arc<Job>,
    send: &Send,
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    let terminal = terminal(job)?;
    let until = send.until.as_deref().map(expression).transpose()?;
    if job.ended() {
        return Err(Failure::new(Kind::AlreadyEnded, "the session has ended"));
    }
    terminal.drawn(job).await;
    let wanted = terminal.screen(job, |screen| Wanted {
        application_cursor: screen.application_cursor(),
        bracketed_paste: screen.bracketed_paste(),
    });
    let typed = typed(&send.input, wanted)?;
    let now = Sent { offset: job.spool.stats().end, ended: terminal.marks(Marks::ended) };
    let (before, known) = if typed.is_empty() {
        let offset = send.from.unwrap_or(now.offset).min(now.offset);
        (Sent { offset, ..now }, false)
    } else if send.instance == context.agent.instance {
        terminal.exchange(send.request, now)
    } else {
        let text = "the agent was restarted; whether this was typed is not known";
        return Err(Failure::new(Kind::OutcomeUnknown, text)
            .with_hint("look at the screen before typing it again"));
    };
    if !known && !typed.is_empty() {
        // Whoever does not read, does not read: what does not fit is not typed, and said so.
        timeout(TYPING, job.write(&typed)).await.map_err(|_| {
            let text = "the program does not read what is typed; some of it may have been taken";
            Failure::new(Kind::Busy, text)
                .with_hint("wait until it reads, or interrupt it with the key ctrl-c")
        })?;
    }
    let deadline = Instant::now() + Duration::from_millis(send.wait_ms).min(LONGEST_WAIT);
    let because = wait(job, terminal, before, until.as_ref(), deadline).await;
    let looking = typed.is_empty();
    answer(job, terminal, (before, because, looking), send.budget, writer).await
}

fn typed(input: &[Input], wanted: Wanted) -> Result<Vec<u8>, Failure> {
    let mut typed = Vec::new();
    for one in input {
        match one {
            Input::Text(text) => typed.extend(keys::text(text, wanted)),
            Input::Key(name) => typed.extend(keys::key(name, wanted)?),
            Input::Secret(secret) => typed.extend_from_slice(secret),
        }
        if typed.len() > SEND_LIMIT {
            return Err(Failure::new(Kind::TooLarge, "at most 64 KiB can be typed at once"));
        }
    }
    Ok(typed)
}

/// Waits for what was typed to come to something.
async fn wait(
    job: &Arc<Job>,
    terminal: &Arc<Terminal>,
    before: Sent,
    until: Option<&Regex>,
    deadline: Instant,
) -> Because {
    let mut log = job.spool.reader(u64::MAX, Mode::Lagging);
    let mut phase = job.phase();
    let mut marked = terminal.marked();
    let mut said = Instant::now();
    let mut end = job.spool.stats().end;
    let mut looked = before.offset;
    let mut ended_at: Option<Instant> = None;
    loop {
        let now = job.spool.stats().end;
        if now > end {
            (end, said) = (now, Instant::now());
        }
        if let Some(until) = until
            && end > looked
        {
            if job.spool.matches_after(until, looked.saturating_sub(4096).max(before.offset)) {
                return Because::Matched;
            }
            looked = end;
        }
        if job.ended() {
            return Because::Ended;
        }
        let (through, waiting) = terminal.marks(|marks| {
            let last = marks.commands().next_back();
            let over = last.is_some_and(|last| last.end.is_some() && last.number > before.ended);
            (over, marks.phase() == marks::Phase::Waiting)
        });
        if through && until.is_none() {
            // The prompt follows in a moment.
            let since = *ended_at.get_or_insert_with(Instant::now);
            if waiting || since.elapsed() > PROMPT {
                return Because::Ended;
            }
        } else {
            ended_at = None;
        }
        let quiet = said.elapsed();
        if until.is_none() && !through && quiet >= QUIET {
            let doing = terminal.doing(job);
            let marks = terminal.marks(Marks::seen);
            match doing {
                Doing::Password | Doing::Pager | Doing::Editor | Doing::Repl => {
                    return Because::Waits;
                }
                Doing::Prompt if marks || quiet >= SILENCE => {
                    return if marks { Because::Waits } else { Because::Silence };
                }
                _ => {}
            }
        }
        if Instant::now() >= deadline {
            return Because::Time;
        }
        tokio::select! {
            biased;
            () = sleep_until(deadline) => {}
            _ = phase.changed() => {}
            _ = marked.changed() => {}
            () = sleep(LOOK) => {}
            () = async { log.wait().await; sleep(Duration::from_millis(5)).await } => log.catch_up(),
        }
    }
}

/// Answers with what came: of commands, their output; otherwise all that was said.
async fn answer<W: AsyncWrite + Unpin>(
    job: &Arc<Job>,
    terminal: &Arc<Terminal>,
    (before, because, looking): (Sent, Because, bool),
    budget: u32,
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    let command = terminal.marks(|marks| {
        let mut since = marks.commands().filter(|command| command.number > before.ended);
        let first = since.next()?;
        let last = since.next_back().unwrap_or(first);
        Some((last.clone(), first.start.max(before.offset)))
    });
    let end = job.spool.stats().end;
    let (from, to) = match &command {
        // With nothing typed all of it is told, prompts and all.
        Some((last, start)) if !looking => (*start, last.end.unwrap_or(end)),
        Some(_) => (before.offset, end),
        None => (before.offset, end),
    };
    let mut from = from.max(job.spool.stats().start);
    if command.is_some() && !looking {
        let limit = usize::try_from(to.saturating_sub(from)).unwrap_or(PREAMBLE).min(PREAMBLE);
        from += preamble(&job.spool.bytes_from(from, limit).bytes);
    }
    let length = to.saturating_sub(from);
    let budget = u64::from(budget.min(BUDGET));
    let mut counts = Counts::default();
    if length <= budget {
        piece(job, from, length, &mut counts, writer).await?;
    } else {
        let head = budget / 3;
        piece(job, from, head, &mut counts, writer).await?;
        piece(job, to - (budget - head), budget - head, &mut counts, writer).await?;
    }
    terminal.drawn(job).await;
    let ended = Ended {
        because: Some(because),
        command: command.as_ref().map(|(last, _)| show(last)),
        offset: to.max(end),
        omitted: Some(length.saturating_sub(budget)).filter(|&omitted| omitted > 0),
        ..ended(job)?
    };
    finish(writer, counts, ended).await
}

/// How much of the beginning of a command's output is of its shell: fish puts the terminal in order after
/// it has said that the command begins.
fn preamble(bytes: &[u8]) -> u64 {
    static FISH: LazyLock<Regex> = LazyLock::new(|| {
        let text = r"(?-u)^\x1b\[\?2004l(?:\x1b\][02];[^\x07\x1b]*\x07)?(?:\x1b\[30m)?(?:\x1b\(B)?\x1b\[m\r";
        Regex::new(text).expect("it is one")
    });
    FISH.find(bytes).map_or(0, |found| found.len() as u64)
}

async fn piece<W: AsyncWrite + Unpin>(
    job: &Arc<Job>,
    from: u64,
    length: u64,
    counts: &mut Counts,
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    let piece = job.spool.bytes_from(from, usize::try_from(length).unwrap_or(0));
    let head = PieceMessage {
        first_line: piece.first_line,
        length: u32::try_from(piece.bytes.len()).unwrap_or(u32::MAX),
        starts_within: Some(piece.starts_within),
        ends_within: Some(piece.ends_within),
        offset: piece.offset,
    };
    writer.message(&message(&ToBridge::Piece(head)));
    for part in piece.bytes.chunks(BATCH) {
        writer.data(TEXT, part);
        counts.add(TEXT, part.len()).expect("a piece is small");
        writer.flush().await.map_err(|_| lost())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fish_says_before_a_command_is_none_of_its_output() {
        let fish = b"\x1b[?2004l\x1b]0;x /tmp\x07\x1b[30m\x1b(B\x1b[m\r".as_slice();
        assert_eq!(preamble(&[fish, b"out"].concat()), fish.len() as u64);
        assert_eq!(preamble(fish), fish.len() as u64);
        for other in [b"".as_slice(), b"out", b"\x1b[31mred\x1b[m\r", b"\x1b[?2004lx\x1b[m\r"] {
            assert_eq!(preamble(other), 0);
        }
    }
}
