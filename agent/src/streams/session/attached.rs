//! Serves the clients that are attached to a session: sends them its output, and types their input.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_link::inner::sealed::{BATCH, Reader, Writer};
use farwire_protocol::conversation::{Counts, End, Open, message, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::streams::run::{BEAT, Delivery};
use farwire_protocol::streams::session::{
    Attach, Attached, KEYS, LIVELY, PULSE, Size as SizeMessage, TERMINAL, ToAgent, ToBridge,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::answer::state_of;
use super::control;
use super::pace::Pace;
use crate::conversations::{About, Seat};
use crate::gate::Allowed;
use crate::gate::principal::Principal;
use crate::jobs::job::Job;
use crate::os::clock::boottime;
use crate::os::pty::Size;
use crate::program::Phase;
use crate::sessions::{Session, Sessions};
use crate::spool::{Item, Mode, SpoolReader};
use crate::streams::context::finish;
use crate::streams::context::{Context, link_lost};
use crate::terminal::events::What;
use crate::terminal::participants::Participant;
use crate::terminal::typing::Keys;
use crate::terminal::typist::Typist;

/// A client that has missed at most this many bytes gets them, and otherwise the screen.
const NEAR: u64 = 256 << 10;

/// The program waits at most this long for a reader that takes nothing. The reader then gets the
/// screen instead of what it missed.
const LAG: Duration = Duration::from_millis(150);

/// After a batch of this size, others get their turn.
const LARGE: usize = 8 << 10;

/// Typed input is acknowledged when this much was taken, or when there is something else to send.
const ACK_STEP: u64 = 32 << 10;

/// And at the latest after this time.
const ACK_AFTER: Duration = Duration::from_millis(250);

/// A client that attaches to a session.
pub(super) struct Visit {
    pub(super) session: Allowed<Session>,
    /// The session existed before.
    pub(super) known: bool,
    pub(super) attach: Attach,
}

/// Serves a client that is attached.
pub(super) async fn attend<W, R>(
    context: &Context,
    open: &Open,
    visit: Visit,
    writer: &mut Writer<W>,
    reader: Reader<R>,
) -> Result<(), Failure>
where
    W: AsyncWrite + Unpin + Send,
    R: AsyncRead + Unpin + Send,
{
    let Visit { session, known, attach } = visit;
    let session = session.into_inner();
    let Session { job, terminal } = &session;
    let seat = seat(context, open, job).await?;
    // Before that there is no program to type to; a job that never starts has ended.
    tokio::select! {
        biased;
        () = seat.detached.cancelled() => return Err(link_lost()),
        _ = job.wait_for_start() => {}
    }
    let _attendance = context.services.attended.begin();
    let who = context.asker.who.clone();
    let read_only = attach.read_only == Some(true);
    let attachment = Attachment::new(context, &session, &who, read_only);
    if let Some(size) = attach.size.filter(|_| !read_only) {
        // Somebody else may have the lease, and thereby decide its size.
        let _ = control::resize(&session, &who, size);
    }
    // A viewer types nothing.
    let typist = match job.spool.memory().filter(|_| !read_only) {
        Some(memory) => Some(terminal.typist(memory, open.conversation, open.generation > 0)?),
        None => None,
    };
    let keys = typist.as_ref().map_or(Some(0), Typist::bytes_taken);
    let size = terminal.size();
    let attached = Attached {
        session: job.id,
        name: terminal.name.clone(),
        known: Some(known),
        size: SizeMessage { cols: size.cols, rows: size.rows },
        keys,
    };
    writer.message(&message(&ToBridge::Attached(attached)));
    // The loop reports changes from now on.
    let rights = terminal.rights_changed();
    let stream = AttachStream {
        context,
        typist,
        read_only,
        attachment,
        who,
        taken: watch::Sender::new(keys.unwrap_or(0)),
        refused: watch::Sender::new(None),
        pace: Mutex::default(),
        seen: Notify::new(),
        session: session.clone(),
    };
    let input = stream.input(reader);
    let output = stream.output(attach.from, rights, writer);
    tokio::select! {
        biased;
        () = seat.detached.cancelled() => return Err(link_lost()),
        left = input => left?,
        done = output => return done,
    }
    // The lease is released, whether or not the client hears of it.
    drop(stream);
    writer.end(&message(&End::default()));
    writer.finish().await.map_err(|_| link_lost())
}

/// Resumes the conversation, or begins it.
async fn seat(context: &Context, open: &Open, job: &Job) -> Result<Seat, Failure> {
    let (all, who) = (&context.services.conversations, &context.asker.who);
    let about = About { job: job.id, delivery: Delivery::Nothing, taken: false };
    // An agent that was restarted does not know it, and the session goes on.
    let (seat, about) = all.enter(who, open.conversation, open.generation, about).await?;
    if about.job != job.id {
        return Err(Failure::new(Kind::ProtocolViolation, "another conversation"));
    }
    Ok(seat)
}

/// A client that is attached.
struct AttachStream<'a> {
    context: &'a Context,
    session: Session,
    /// Records how much of what is typed was taken. A viewer has none.
    typist: Option<Typist>,
    read_only: bool,
    attachment: Attachment,
    who: Arc<Principal>,
    /// How many bytes of what is typed were taken.
    taken: watch::Sender<u64>,
    refused: watch::Sender<Option<Failure>>,
    /// What was sent, and what of it was shown.
    pace: Mutex<Pace>,
    /// More of it was shown.
    seen: Notify,
}

impl AttachStream<'_> {
    /// Receives what is typed, until the client leaves.
    async fn input<R: AsyncRead + Unpin + Send>(
        &self,
        mut reader: Reader<R>,
    ) -> Result<(), Failure> {
        loop {
            let frame = match reader.next().await {
                Ok(frame) => frame,
                // A client that can no longer be heard is gone, and holds nothing: it will come
                // back.
                Err(error) if error.is_carrier() => return Err(link_lost()),
                Err(error) => return Err(error.into()),
            };
            self.context.link.note_activity();
            match (frame.kind, frame.last) {
                (FrameKind::Data, _) if frame.channel == KEYS => {
                    self.type_keys(&frame.payload).await;
                }
                (FrameKind::Control, true) => return Ok(()),
                (FrameKind::Control, false) => {
                    // A message of a newer bridge is skipped.
                    match read(&frame.payload) {
                        Ok(ToAgent::Seen(until)) => {
                            let told = self.pace().acknowledge(until, Instant::now());
                            if !told {
                                return Err(violation("Seen exceeds what was sent"));
                            }
                            self.seen.notify_one();
                        }
                        Ok(said) => self.obey(said),
                        Err(_) => {}
                    }
                }
                _ => return Err(violation("an unexpected frame")),
            }
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().expect("nothing panics while it is held")
    }

    fn obey(&self, said: ToAgent) {
        let sessions = &self.context.services.sessions;
        let done = match said {
            ToAgent::Resize(_) if self.read_only => Ok(()),
            _ if self.read_only => Err(looks_only()),
            ToAgent::Resize(size) => {
                // The holder of the lease decides the size.
                let _ = control::resize(&self.session, &self.who, size);
                Ok(())
            }
            ToAgent::Take => {
                let stream = self.attachment.one.stream;
                control::take(sessions, &self.session, &self.who, stream)
            }
            ToAgent::Release => control::release(&self.session, &self.who),
            _ => Ok(()),
        };
        if let Err(failure) = done {
            self.refused.send_replace(Some(failure));
        }
    }

    async fn type_keys(&self, bytes: &[u8]) {
        let until = *self.taken.borrow() + bytes.len() as u64;
        let Some(typist) = &self.typist else {
            self.refused.send_replace(Some(looks_only()));
            self.taken.send_replace(until);
            return;
        };
        typist.begins(until);
        let count = Some(typist.count());
        let begins = bytes.starts_with(b"\x1b[");
        let report = begins && self.session.terminal.summary().reports.has(bytes);
        let keys = Keys { bytes, secret: false, turn: None, report, count };
        let typed = self.session.terminal.types(&self.context.asker, keys, None).await;
        if typed.taken > 0 && !report {
            self.attachment.one.note_typing(boottime());
        }
        if let Some(refusal) = typed.refused {
            self.refused.send_replace(Some(refusal.failure(boottime())));
        }
        // Refused input counts as taken, too: it is never typed later.
        typist.took(until);
        self.taken.send_replace(until);
    }

    /// Sends the output of the terminal, and how it ended.
    async fn output<W: AsyncWrite + Unpin>(
        &self,
        from: Option<u64>,
        mut rights: watch::Receiver<u64>,
        writer: &mut Writer<W>,
    ) -> Result<(), Failure> {
        let mut resized = self.session.terminal.resized();
        let mut log = self.begin(from, writer).await?;
        // After the screen, so that what a viewer draws for it is not overwritten.
        self.tell_rights(writer);
        let mut phase = self.session.job.phase();
        let mut taken = self.taken.subscribe();
        let mut refused = self.refused.subscribe();
        let mut acked = *taken.borrow();
        let mut ack_at = None;
        let (mut spoke, mut lively) = (Instant::now(), Instant::now() + LIVELY);
        loop {
            let until = match &*phase.borrow() {
                Phase::Ended { output_end, .. } => Some(*output_end),
                Phase::Failed(_) => Some(self.session.job.spool.stats().end),
                Phase::Queued | Phase::Running(_) => None,
            };
            let room = self.pace().room();
            let bytes = fill(&mut log, until, room, writer);
            self.pace().note_sent(bytes, Instant::now());
            if until.is_some_and(|until| log.offset() >= until) {
                return self.end(log.offset(), writer).await;
            }
            let now = *taken.borrow_and_update();
            if bytes > 0 || now > acked {
                lively = Instant::now() + LIVELY;
            }
            let due = ack_at.is_some_and(|at| Instant::now() >= at);
            if now > acked && (writer.waiting() > 0 || now - acked >= ACK_STEP || due) {
                writer.message(&message(&ToBridge::Ack(now)));
                (acked, ack_at) = (now, None);
            } else if now > acked && ack_at.is_none() {
                ack_at = Some(Instant::now() + ACK_AFTER);
            }
            if writer.waiting() > 0 {
                log = self.pass_on(log, writer).await?;
                spoke = Instant::now();
                continue;
            }
            let waiting = self.session.job.spool.stats().end.saturating_sub(log.offset());
            if waiting > 0 && self.pace().lags(waiting, Instant::now()) {
                log = self.catch_up(log, writer).await?;
                continue;
            }
            tokio::select! {
                biased;
                () = log.wait(), if self.pace().room() > 0 => {}
                () = self.seen.notified() => {}
                // Checks whether the viewer lags by now.
                () = sleep(LAG), if waiting > 0 => {}
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
                _ = rights.changed() => self.tell_rights(writer),
                () = at(ack_at) => {}
                () = sleep_until(spoke + if spoke < lively { PULSE } else { BEAT }) => {
                    writer.message(&message(&ToBridge::Beat));
                }
            }
        }
    }

    /// All output was sent: sends how it ended.
    async fn end<W: AsyncWrite + Unpin>(
        &self,
        offset: u64,
        writer: &mut Writer<W>,
    ) -> Result<(), Failure> {
        if let Phase::Failed(failure) = &*self.session.job.phase().borrow() {
            return Err(failure.clone());
        }
        let mut counts = Counts::default();
        counts.set(TERMINAL, offset);
        finish(writer, counts, &state_of(&self.session, &self.who).await?).await
    }

    /// Passes on what has been sealed. A client that does not take it gets the screen when it does
    /// again.
    async fn pass_on<W: AsyncWrite + Unpin>(
        &self,
        log: SpoolReader,
        writer: &mut Writer<W>,
    ) -> Result<SpoolReader, Failure> {
        let large = writer.waiting() >= LARGE;
        if let Ok(flushed) = timeout(LAG, writer.flush()).await {
            flushed.map_err(|_| link_lost())?;
            if large {
                // Keys of other sessions go first.
                yield_now().await;
            }
            return Ok(log);
        }
        let at = log.offset();
        drop(log);
        writer.flush().await.map_err(|_| link_lost())?;
        self.redraw(at, writer).await
    }

    /// Drops what a lagging viewer has not received: it gets the screen once it has shown what it
    /// has.
    async fn catch_up<W: AsyncWrite + Unpin>(
        &self,
        log: SpoolReader,
        writer: &mut Writer<W>,
    ) -> Result<SpoolReader, Failure> {
        let at = log.offset();
        drop(log);
        while !self.pace().is_drained() {
            tokio::select! {
                () = self.seen.notified() => {}
                () = sleep(BEAT) => {
                    writer.message(&message(&ToBridge::Beat));
                    writer.flush().await.map_err(|_| link_lost())?;
                }
            }
        }
        self.redraw(at, writer).await
    }

    fn tell_rights<W: AsyncWrite + Unpin>(&self, writer: &mut Writer<W>) {
        let now = boottime();
        let mut rights = self.session.terminal.typing().arbiter.show(&self.who, now);
        rights.may_type &= !self.read_only;
        writer.message(&message(&ToBridge::Typing(Box::new(rights))));
    }

    /// Where to begin: from the offset that the reader has, if that is near, or with the screen.
    async fn begin<W: AsyncWrite + Unpin>(
        &self,
        from: Option<u64>,
        writer: &mut Writer<W>,
    ) -> Result<SpoolReader, Failure> {
        let stats = self.session.job.spool.stats();
        match from {
            Some(from) if from > stats.end => {
                Err(Failure::new(Kind::ProtocolViolation, "the log never had this offset"))
            }
            Some(from) if from >= stats.start && stats.end - from <= NEAR => {
                writer.message(&message(&ToBridge::At(from)));
                Ok(self.session.job.spool.reader(from, Mode::Lossless))
            }
            from => self.redraw(from.unwrap_or(stats.end), writer).await,
        }
    }

    async fn redraw<W: AsyncWrite + Unpin>(
        &self,
        from: u64,
        writer: &mut Writer<W>,
    ) -> Result<SpoolReader, Failure> {
        let look = self.session.terminal.look_at(|screen| (screen.drawing(), screen.offset()));
        let (drawing, offset) = look.await;
        let length = u32::try_from(drawing.len()).unwrap_or(u32::MAX);
        let missed = offset.saturating_sub(from);
        self.pace().note_sent(drawing.len() as u64, Instant::now());
        writer.message(&message(&ToBridge::Screen { length, offset, missed }));
        for piece in drawing.chunks(BATCH) {
            writer.data(TERMINAL, piece);
            writer.flush().await.map_err(|_| link_lost())?;
        }
        Ok(self.session.job.spool.reader(offset, Mode::Lossless))
    }
}

/// As long as it lives, the client is attached.
struct Attachment {
    sessions: Arc<Sessions>,
    session: Session,
    one: Arc<Participant>,
}

impl Attachment {
    fn new(context: &Context, session: &Session, who: &Principal, read_only: bool) -> Self {
        let one = session.terminal.participants.join(who.clone(), read_only, boottime());
        session.terminal.note(Some(who), What::Joined { read_only });
        Self { sessions: context.services.sessions.clone(), session: session.clone(), one }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        control::let_go(&self.sessions, &self.session, &self.one.actor, self.one.stream);
        let terminal = &self.session.terminal;
        terminal.participants.leave(self.one.stream);
        terminal.note(Some(&self.one.actor), What::Left);
    }
}

fn violation(rule: &str) -> Failure {
    Failure::new(Kind::ProtocolViolation, rule)
}

fn looks_only() -> Failure {
    Failure::new(Kind::InputLocked, "this terminal is attached read-only")
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Seals what the log has, up to one batch, and no more than there is room for. Gives how many
/// bytes.
fn fill<W: AsyncWrite + Unpin>(
    log: &mut SpoolReader,
    until: Option<u64>,
    room: u64,
    writer: &mut Writer<W>,
) -> u64 {
    let mut sealed = 0;
    let most = until.unwrap_or(u64::MAX).min(log.offset().saturating_add(room));
    while writer.waiting() < BATCH {
        let left = most.saturating_sub(log.offset());
        let limit = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
        if limit == 0 {
            break;
        }
        match log.next(limit) {
            Item::Data(_, bytes) => {
                sealed += bytes.len() as u64;
                writer.data(TERMINAL, &bytes);
            }
            Item::Gap { .. } => writer.message(&message(&ToBridge::At(log.offset()))),
            Item::UpToDate { .. } => break,
        }
    }
    sealed
}
