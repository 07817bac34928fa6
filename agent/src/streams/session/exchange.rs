//! One exchange: something is typed into a session, and what came of it is the answer.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use farwire_link::inner::sealed::{BATCH, Writer};
use farwire_protocol::conversation::{Counts, message};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{BEAT, Piece as PieceMessage};
use farwire_protocol::streams::session::{
    Because, Doing, Ended, Input, SEND_LIMIT, Send, TEXT, ToBridge,
};
use regex::bytes::Regex;
use tokio::io::AsyncWrite;
use tokio::time::{Instant, sleep, sleep_until};
use zeroize::Zeroizing;

use super::answer::{QUIET, ended, finish, over_at, show, terminal};
use super::control::over;
use crate::gate::Allowed;
use crate::gate::principal::Principal;
use crate::jobs::job::Job;
use crate::os::clock::boottime;
use crate::spool::Mode;
use crate::streams::context::{Context, lost};
use crate::streams::pattern::{Awaited, expression};
use crate::terminal::hands::Taken;
use crate::terminal::keys::{self, Takes, Wanted};
use crate::terminal::marks::{self, Marks, PROMPT};
use crate::terminal::turn::Turn;
use crate::terminal::typing::Keys;
use crate::terminal::{Sent, Terminal};

/// A program that does not read what is typed for so long is not waited for any longer.
const TYPING: Duration = Duration::from_secs(2);

/// The same where there are no marks, and the silence is all that there is.
const SILENCE: Duration = Duration::from_millis(400);

/// A shell at its prompt that says nothing of what was typed for so long is not going to.
const HEED: Duration = Duration::from_secs(1);

/// A program that takes keys and waits for something, and has said nothing for so long, is done.
const FAR: Duration = Duration::from_secs(2);

/// Of a line that is read whole the kernel keeps so many bytes, and its end (`N_TTY_BUF_SIZE`; POSIX has `MAX_CANON`).
const LINE: usize = 4_095;

/// How often the kernel is asked what the terminal is doing.
const LOOK: Duration = Duration::from_millis(40);

/// Whoever waits for its turn is told so as often: of one that is gone nothing is typed later.
const IN_LINE: Duration = Duration::from_secs(1);

/// No wait is longer.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The longest [`preamble`].
const PREAMBLE: usize = 1024;

/// No answer is larger.
const BUDGET: u32 = 4 << 20;

/// Types something and waits for what comes of it.
///
/// From before it types until it has its answer it has the session's turn: see `terminal/hands/turns.rs`. So the
/// next command that begins is its own, whoever else wants to type.
pub(super) async fn exchange<W: AsyncWrite + Unpin>(
    context: &Context,
    (job, who): (&Allowed<Arc<Job>>, &Principal),
    send: &Send,
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    let terminal = terminal(job)?;
    let until = send.until.as_deref().map(expression).transpose()?;
    let wait_for = Duration::from_millis(send.wait_ms).min(LONGEST_WAIT);
    let deadline = Instant::now() + wait_for;
    if send.input.is_empty() {
        let end = job.spool.end();
        let offset = send.from.unwrap_or(end).min(end);
        let ended = terminal.marks(Marks::ended);
        let sent = Sent::at(offset, ended);
        let until = until.map(|until| Awaited::new(&job.spool, until, offset));
        let waiting = Waiting { job, terminal, sent, request: None, id: None };
        let outcome = beating(writer, BEAT, waiting.over(until, deadline)).await?;
        return answer((job, who), terminal, (sent, outcome, Told::Looking), send.budget, writer)
            .await;
    }
    // What it said before its end can be asked for all the same.
    if job.ended() {
        return Err(over(job));
    }
    if send.instance != context.services.instance {
        let text = "the agent was restarted; whether this was typed is not known";
        return Err(Failure::new(Kind::OutcomeUnknown, text)
            .with_hint("look at the screen before typing it again"));
    }
    let before = terminal.exchanged_before(send.request);
    if let Some(sent @ Sent { answered: Some((_, because)), .. }) = before {
        return answer(
            (job, who),
            terminal,
            (sent, (because, None), Told::Again),
            send.budget,
            writer,
        )
        .await;
    }
    beating(writer, BEAT, job.started()).await??;
    let turn = match joins(terminal, who, send) {
        true => None,
        false => {
            if before.is_none() {
                refused(job, terminal, who, send)?;
            }
            let until = Instant::now() + wait_for.max(TYPING);
            let turn = terminal.turn(job, who, send.request, until);
            Some(Arc::new(beating(writer, IN_LINE, turn).await??))
        }
    };
    let sent = match terminal.exchanged_before(send.request) {
        Some(before) => typed(terminal, send.request, before).await,
        None => begin((job, terminal), who, send, turn.clone()).await?,
    };
    let request = turn.as_ref().map(|turn| turn.request);
    let id = Some(send.request);
    let until = until.map(|until| Awaited::new(&job.spool, until, sent.offset));
    let waiting = Waiting { job, terminal, sent, request, id };
    let outcome = match sent.left {
        0 => beating(writer, BEAT, waiting.over(until, deadline)).await?,
        // The program does not read, or somebody else types: nothing is going to come of it.
        _ => match request.and_then(|request| terminal.turn_taken(request)) {
            Some(taken) => (Because::Waits, Some(taken)),
            None => (Because::Time, None),
        },
    };
    let sent = waiting.now();
    terminal.answers(send.request, job.spool.end(), outcome.0);
    let told = if before.is_some() { Told::Again } else { Told::First };
    answer((job, who), terminal, (sent, outcome, told), send.budget, writer).await
}

/// Whether it is keys for what its own sender has typed, and waits for: it shares that turn.
fn joins(terminal: &Terminal, who: &Principal, send: &Send) -> bool {
    let keys = send.input.iter().all(|input| matches!(input, Input::Key(_)));
    keys && send.at_prompt != Some(true)
        && terminal.hands().turns.holder().is_some_and(|(holder, _)| holder == who)
}

/// Types it for the first time. Nobody else has the turn before all is typed.
async fn begin(
    (job, terminal): (&Arc<Job>, &Arc<Terminal>),
    who: &Principal,
    send: &Send,
    turn: Option<Arc<Turn>>,
) -> Result<Sent, Failure> {
    if job.ended() {
        return Err(over(job));
    }
    // Before what the terminal wants is looked at: the prompt switches pastes on.
    terminal.prompted().await;
    terminal.drawn(job).await;
    let mut wanted = wanted(job, terminal);
    may_begin(job, terminal, who, send)?;
    let literal = send.literal == Some(true);
    let tabs = |input: &Input| matches!(input, Input::Text(text) if text.contains(&b'\t'));
    let takes = match literal && send.input.iter().any(tabs) {
        true => Some(takes(job, terminal, &mut wanted).await),
        false => None,
    };
    let keys = keys_of(&send.input, wanted, literal.then_some(takes))?;
    if terminal.reads_lines(job) {
        check_lines(&keys)?;
    }
    let ended = terminal.marks(Marks::ended);
    let all: usize = keys.iter().map(|part| part.bytes.len()).sum();
    let now = Sent {
        left: all as u64,
        typing: true,
        line: is_line(&keys),
        ..Sent::at(job.spool.end(), ended)
    };
    // Another copy of the request may have come as far meanwhile: one of them types.
    if let Some(known) = terminal.exchange((send.request, turn.is_none()), who, now) {
        return Ok(typed(terminal, send.request, known).await);
    }
    // What has been begun is done, whatever becomes of this stream: what came of it is known to the next one.
    let typing = Typing { terminal: terminal.clone(), request: send.request };
    let (job, actor) = (job.clone(), who.clone());
    let typing = tokio::spawn(async move {
        let turn = turn.as_ref().map(|turn| turn.request);
        types(&job, &typing, (&actor, turn), &keys, now).await
    });
    typing.await.map_err(|_| Failure::new(Kind::Internal, "a task that types has died"))?
}

/// Something is being typed, until this is dropped.
struct Typing {
    terminal: Arc<Terminal>,
    request: Nonce,
}

impl Drop for Typing {
    fn drop(&mut self) {
        self.terminal.was_typed(self.request);
    }
}

/// What came of an exchange that another copy of its request has begun, once nothing more of it is typed.
async fn typed(terminal: &Terminal, request: Nonce, known: Sent) -> Sent {
    let mut sent = known;
    while sent.typing {
        sleep(LOOK).await;
        sent = terminal.exchanged_before(request).unwrap_or(Sent { typing: false, ..sent });
    }
    sent
}

/// How the program wants its keys.
fn wanted(job: &Job, terminal: &Terminal) -> Wanted {
    let facts = terminal.seen(job).facts;
    Wanted { application_cursor: facts.application_cursor, bracketed_paste: facts.bracketed_paste }
}

/// How a tab reaches the program as a character. Where nobody reads, somebody may in a moment; and a program that
/// reads keys may switch pastes on in a moment, as fish does after its prompt.
async fn takes(job: &Arc<Job>, terminal: &Arc<Terminal>, wants: &mut Wanted) -> Takes {
    let begun = Instant::now();
    loop {
        terminal.drawn(job).await;
        *wants = wanted(job, terminal);
        let takes = terminal.takes(job, *wants);
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

/// What is refused at once, and not only when it is its turn.
fn refused(job: &Job, terminal: &Terminal, who: &Principal, send: &Send) -> Result<(), Failure> {
    let now = boottime();
    let may = terminal.hands().may_take_turn(who, now);
    may.map_err(|refusal| {
        terminal.note_refused(job, who, &send.input);
        terminal.settle(job, None);
        refusal.failure(now)
    })
}

/// Whether anything of it may be typed. What is refused here counts as never sent.
fn may_begin(job: &Job, terminal: &Terminal, who: &Principal, send: &Send) -> Result<(), Failure> {
    let now = boottime();
    let may = terminal.hands().may_type(who, now);
    if let Err(refusal) = may {
        terminal.note_refused(job, who, &send.input);
        terminal.settle(job, None);
        return Err(refusal.failure(now));
    }
    let busy = |text: &str| Failure::new(Kind::TerminalBusy, text);
    if send.at_prompt == Some(true) && !terminal.at_prompt(job) {
        let doing = terminal.doing(job).name();
        return Err(busy(&format!("the terminal is not at a prompt: {doing}")));
    }
    let secret = send.input.iter().any(|input| matches!(input, Input::Secret(_)));
    if secret && !terminal.hides(job) {
        let text = "no program asks for a secret: what is typed now would be shown";
        return Err(busy(text).with_hint("type it when the state is `password`"));
    }
    Ok(())
}

/// Types all of it, or as much as the program reads within [`TYPING`].
async fn types(
    job: &Job,
    Typing { terminal, request }: &Typing,
    (who, turn): (&Principal, Option<Nonce>),
    keys: &[Part],
    before: Sent,
) -> Result<Sent, Failure> {
    let until = Instant::now() + TYPING;
    let all: usize = keys.iter().map(|part| part.bytes.len()).sum();
    let mut taken = 0;
    for Part { bytes, secret } in keys {
        let secret = *secret;
        if secret && !terminal.hides(job) {
            break;
        }
        let keys = Keys { bytes, secret, turn, report: false, count: None };
        let typed = terminal.types(job, who, keys, Some(until)).await;
        taken += typed.taken;
        terminal.exchanged(*request, taken as u64, (all - taken) as u64);
        // A refusal says that nothing was typed.
        if let Some(refusal) = typed.refused.filter(|_| taken == 0) {
            return Err(refusal.failure(boottime()));
        }
        if typed.taken < bytes.len() {
            break;
        }
    }
    Ok(Sent { typed: taken as u64, left: (all - taken) as u64, typing: false, ..before })
}

/// Bytes to type; a secret is noted nowhere, and wiped.
struct Part {
    bytes: Zeroizing<Vec<u8>>,
    secret: bool,
}

/// The bytes of it. `literal` says that text is data, and how tabs reach the program where there are any.
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

/// Refuses a line of which the kernel would keep the beginning alone.
fn check_lines(keys: &[Part]) -> Result<(), Failure> {
    let lengths = keys.iter().flat_map(|part| part.bytes.iter()).scan(0, |length, byte| {
        *length = if matches!(byte, b'\r' | b'\n') { 0 } else { *length + 1 };
        Some(*length)
    });
    let longest = lengths.max().unwrap_or(0);
    if longest > LINE {
        let text = format!(
            "a line of {longest} bytes is too long: the terminal passes on at most {LINE} bytes of one"
        );
        return Err(Failure::new(Kind::TooLarge, text)
            .with_hint("write it to a file, as with `run` and its stdin, and have that read"));
    }
    Ok(())
}

/// Whether it is one line, with its end.
fn is_line(keys: &[Part]) -> bool {
    let end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let bytes = || keys.iter().flat_map(|part| part.bytes.iter());
    bytes().filter(|byte| end(byte)).count() == 1 && bytes().next_back().is_some_and(end)
}

/// How an exchange came to its end, and which user ended it.
type Outcome = (Because, Option<Taken>);

/// How often an exchange is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    /// Nothing was typed.
    Looking,
    First,
    /// Its first answer was not heard.
    Again,
}

/// Something was typed, or is waited for.
#[derive(Clone, Copy)]
struct Waiting<'a> {
    job: &'a Arc<Job>,
    terminal: &'a Arc<Terminal>,
    sent: Sent,
    /// Whose turn it is.
    request: Option<Nonce>,
    /// What was typed is known by this.
    id: Option<Nonce>,
}

impl Waiting<'_> {
    /// What is known of what was typed now: somebody else may have typed since.
    fn now(&self) -> Sent {
        let known = self.id.and_then(|id| self.terminal.exchanged_before(id));
        Sent { until: known.and_then(|known| known.until).or(self.sent.until), ..self.sent }
    }

    /// Waits for what was typed to come to something, or for a line.
    async fn over(self, until: Option<Awaited>, deadline: Instant) -> Outcome {
        let mut turns = self.terminal.turns_changed();
        let waits = wait(self, until, deadline);
        tokio::pin!(waits);
        loop {
            turns.mark_unchanged();
            if let Some(taken) = self.request.and_then(|request| self.terminal.turn_taken(request))
            {
                return (Because::Waits, Some(taken));
            }
            tokio::select! {
                biased;
                // The sender lives as long as the terminal.
                _ = turns.changed() => {}
                because = &mut waits => return (because, None),
            }
        }
    }
}

/// Does something for whoever asks, and says so now and then: a bridge that is gone holds up nobody.
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
                writer.flush().await.map_err(|_| lost())?;
            }
        }
    }
}

async fn wait(waiting: Waiting<'_>, mut until: Option<Awaited>, deadline: Instant) -> Because {
    let Waiting { job, terminal, sent, .. } = waiting;
    let mut log = job.spool.reader(u64::MAX, Mode::Lagging);
    let mut phase = job.phase();
    let mut marked = terminal.marked();
    let mut said = Instant::now();
    let mut end = job.spool.stats().end;
    let mut ended_at: Option<Instant> = None;
    loop {
        let now = job.spool.stats().end;
        if now > end {
            (end, said) = (now, Instant::now());
        }
        // What it said before its end has come by then.
        let over = job.ended();
        if let Some(until) = &mut until
            && until.has_come(deadline).await
        {
            return Because::Matched;
        }
        if over {
            return Because::Ended;
        }
        let (through, waiting) = terminal.marks(|marks| through(marks, waiting.now()));
        if through && until.is_none() {
            // The prompt follows in a moment, and what else was typed begins after it.
            let since = *ended_at.get_or_insert_with(Instant::now);
            if sent.line || waiting || since.elapsed() > PROMPT {
                return Because::Ended;
            }
        } else {
            ended_at = None;
        }
        let quiet = said.elapsed();
        if until.is_none() && !through && quiet >= QUIET {
            terminal.drawn(job).await;
            // What the shell says of it may have come and not been read: that is asked before what it comes to.
            let now = job.spool.stats().end;
            let read = job.spool.memory().is_none_or(|memory| memory.seen() >= now);
            let doing = terminal.doing(job);
            let marks = terminal.marks(Marks::seen);
            let taken_up = || {
                let said = end > sent.offset && read && terminal.rests(job);
                sent.typed == 0 || quiet >= HEED || said
            };
            match doing {
                Doing::Password | Doing::Pager | Doing::Editor | Doing::Repl => {
                    return Because::Waits;
                }
                // A shell that has not come to what was typed shows the prompt that it had.
                Doing::Prompt if !taken_up() => {}
                Doing::Prompt if marks || quiet >= SILENCE => {
                    return if marks { Because::Waits } else { Because::Silence };
                }
                // A program of which nothing else is known.
                Doing::Running if quiet >= SILENCE && terminal.reads(job) => {
                    return Because::Silence;
                }
                // Or one that has a terminal of its own somewhere else, as ssh has.
                Doing::Running if quiet >= FAR && terminal.polls(job) => return Because::Silence,
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

/// Whether a command has ended since, and the shell waits for the next one.
fn through(marks: &Marks, sent: Sent) -> (bool, bool) {
    let until = sent.until.unwrap_or(u64::MAX);
    let last = marks.commands().rfind(|command| command.start <= until);
    let over = last.is_some_and(|last| last.end.is_some() && last.number > sent.ended);
    (over, marks.phase() == marks::Phase::Waiting)
}

/// Answers with what came: of commands, their output; otherwise all that was said.
async fn answer<W: AsyncWrite + Unpin>(
    (job, who): (&Arc<Job>, &Principal),
    terminal: &Arc<Terminal>,
    (before, (because, taken), told): (Sent, Outcome, Told),
    budget: u32,
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    let command = terminal.marks(|marks| {
        // What began after somebody else had typed is theirs.
        let until = taken.as_ref().map_or(u64::MAX, |taken| taken.at);
        let until = before.until.map_or(until, |at| at.min(until));
        let until = before.answered.map_or(until, |(at, _)| at.min(until));
        let mut since = marks
            .commands()
            .filter(|command| command.number > before.ended && command.start <= until);
        let first = since.next()?;
        let last = since.next_back().unwrap_or(first);
        Some((last.clone(), first.start.max(before.offset)))
    });
    let end = before.answered.map_or_else(|| job.spool.stats().end, |(at, _)| at);
    // What was said after somebody else had typed may be theirs, where nobody has waited for it or they have ended the wait.
    let theirs = before.until.filter(|_| told == Told::Again);
    let theirs = taken.as_ref().map(|taken| taken.at).into_iter().chain(theirs).min();
    let end = theirs.map_or(end, |at| end.min(at));
    let looking = told == Told::Looking;
    let (from, to) = match &command {
        // With nothing typed all of it is told, prompts and all.
        Some((last, start)) if !looking => (*start, last.end.unwrap_or(end)),
        _ => (before.offset, end),
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
    let ended = Ended {
        because: Some(because),
        command: command.as_ref().map(|(last, _)| show(last, over_at(job))),
        offset: to.max(end),
        omitted: Some(length.saturating_sub(budget)).filter(|&omitted| omitted > 0),
        typed: Some(before.typed).filter(|_| !looking),
        left: Some(before.left).filter(|&left| left > 0),
        interrupted: taken.map(|taken| taken.by.show(Some(who))),
        ..ended(job, who).await?
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
