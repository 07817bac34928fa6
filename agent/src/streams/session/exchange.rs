//! One exchange: something is typed into a session, and what came of it is the answer.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use farwire_link::inner::sealed::{BATCH, Writer};
use farwire_protocol::conversation::{Counts, message};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::Piece as PieceMessage;
use farwire_protocol::streams::session::{
    Because, Doing, Ended, Input, SEND_LIMIT, Send, TEXT, ToBridge,
};
use regex::bytes::Regex;
use tokio::io::AsyncWrite;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{QUIET, ended, finish, lost, show, terminal};
use crate::jobs::job::Job;
use crate::spool::Mode;
use crate::streams::Context;
use crate::streams::run::expression;
use crate::terminal::keys::{self, Wanted};
use crate::terminal::marks::{self, Marks};
use crate::terminal::{Sent, Terminal};

/// A program that does not read what is typed for so long is not waited for any longer.
const TYPING: Duration = Duration::from_secs(2);

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

/// Types something and waits for what comes of it.
pub(super) async fn exchange<W: AsyncWrite + Unpin>(
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
    if !terminal.knows(send.request) {
        fits(terminal.doing(job), send)?;
    }
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

/// Whether the terminal does what it must do for this to be typed.
fn fits(doing: Doing, send: &Send) -> Result<(), Failure> {
    let secret = send.input.iter().any(|one| matches!(one, Input::Secret(_)));
    let busy = |text: &str| Failure::new(Kind::TerminalBusy, text);
    if send.at_prompt == Some(true) && doing != Doing::Prompt {
        return Err(busy(&format!("the terminal is not at a prompt: {}", doing.name())));
    }
    if secret && doing != Doing::Password {
        let text = "no program asks for a secret: what is typed now would be shown";
        return Err(busy(text).with_hint("type it when the state is `password`"));
    }
    Ok(())
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
