//! The answer to an exchange: the output of its commands, or else all output since.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use farwire_link::inner::sealed::{BATCH, Writer};
use farwire_protocol::conversation::{Counts, message};
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::run::Piece as PieceMessage;
use farwire_protocol::streams::session::{Because, Ended, TEXT, ToBridge};
use regex::bytes::Regex;
use tokio::io::AsyncWrite;

use super::waiting::Outcome;
use crate::gate::principal::Principal;
use crate::jobs::job::Job;
use crate::sessions::Session;
use crate::streams::context::finish;
use crate::streams::context::link_lost;
use crate::streams::session::answer::{over_at, show, state_of};
use crate::terminal::Sent;
use crate::terminal::marks::without_marks;

/// The longest [`preamble`].
const PREAMBLE: usize = 1024;

/// The largest answer.
const BUDGET: u32 = 4 << 20;

/// When an exchange is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Occasion {
    /// Nothing was typed.
    Looking,
    /// It was typed just now.
    First,
    /// Its first answer did not arrive.
    Again,
}

/// The parts of an answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// The state before anything was typed, and what was typed.
    pub(super) before: Sent,
    pub(super) outcome: Outcome,
    pub(super) occasion: Occasion,
}

/// Answers with the output of the commands, or else with all output.
pub(super) async fn answer<W: AsyncWrite + Unpin>(
    session: &Session,
    who: &Principal,
    reply: Reply,
    budget: u32,
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    let Session { job, terminal } = session;
    let Reply { before, outcome: Outcome { because, taken }, occasion } = reply;
    let command = terminal.marks(|marks| {
        // What began after somebody else had typed is theirs.
        let until = taken.as_ref().map_or(u64::MAX, |taken| taken.at);
        let until = before.until.map_or(until, |at| at.min(until));
        let until = before.answered.map_or(until, |(at, _)| at.min(until));
        let since = |number| {
            let commands = marks.commands();
            commands.filter(move |command| command.number > number && command.start <= until)
        };
        // What ran when it was typed is none of it once something else has begun.
        let own = before.taken_by.filter(|by| since(*by).next().is_some());
        let mut since = since(own.unwrap_or(before.ended));
        let first = since.next()?;
        let mut last = since.next_back().unwrap_or(first).clone();
        if because != Because::Ended && before.taken_by.is_some_and(|by| last.number <= by) {
            last.exit = None;
        }
        Some((last, first.start.max(before.offset)))
    });
    let end = before.answered.map_or_else(|| job.spool.stats().end, |(at, _)| at);
    // Output after somebody else has typed may be theirs, if nobody waited for it or they ended the
    // wait.
    let theirs = before.until.filter(|_| occasion == Occasion::Again);
    let theirs = taken.as_ref().map(|taken| taken.at).into_iter().chain(theirs).min();
    let end = theirs.map_or(end, |at| end.min(at));
    let looking = occasion == Occasion::Looking;
    let (from, to) = match &command {
        // If nothing was typed, the answer has everything, prompts included.
        Some((last, start)) if !looking => (*start, last.end.unwrap_or(end)),
        _ => (before.offset, end),
    };
    let mut from = from.max(job.spool.stats().start);
    if command.is_some() && !looking {
        let limit = usize::try_from(to.saturating_sub(from)).unwrap_or(PREAMBLE).min(PREAMBLE);
        from += preamble(&job.spool.bytes_from(from, limit).bytes);
    }
    let nonce = terminal.nonce.as_deref().filter(|_| command.is_some() && !looking);
    let length = to.saturating_sub(from);
    let budget = u64::from(budget.min(BUDGET));
    let mut counts = Counts::default();
    if length <= budget {
        piece(job, from..to, nonce, &mut counts, writer).await?;
    } else {
        let head = budget / 3;
        piece(job, from..from + head, nonce, &mut counts, writer).await?;
        piece(job, to - (budget - head)..to, nonce, &mut counts, writer).await?;
    }
    let ended = Ended {
        because: Some(because),
        command: command.as_ref().map(|(last, _)| show(last, over_at(job))),
        offset: to.max(end),
        omitted: Some(length.saturating_sub(budget)).filter(|&omitted| omitted > 0),
        typed: Some(before.typed).filter(|_| !looking),
        left: Some(before.left).filter(|&left| left > 0),
        interrupted: taken.map(|taken| taken.by.show(Some(who))),
        ..state_of(session, who).await?
    };
    finish(writer, counts, &ended).await
}

/// How much of the beginning of a command's output comes from its shell: fish resets the terminal
/// after it has marked the beginning of the command.
fn preamble(bytes: &[u8]) -> u64 {
    static FISH: LazyLock<Regex> = LazyLock::new(|| {
        let text = r"(?-u)^\x1b\[\?2004l(?:\x1b\][02];[^\x07\x1b]*\x07)?(?:\x1b\[30m)?(?:\x1b\(B)?\x1b\[m\r";
        Regex::new(text).expect("it is one")
    });
    FISH.find(bytes).map_or(0, |found| found.len() as u64)
}

/// Sends a part of the log, without the marks of this nonce.
async fn piece<W: AsyncWrite + Unpin>(
    job: &Arc<Job>,
    part: Range<u64>,
    nonce: Option<&str>,
    counts: &mut Counts,
    writer: &mut Writer<W>,
) -> Result<(), Failure> {
    let length = part.end.saturating_sub(part.start);
    let piece = job.spool.bytes_from(part.start, usize::try_from(length).unwrap_or(0));
    let bytes = without_marks(&piece.bytes, nonce);
    let head = PieceMessage {
        first_line: piece.first_line,
        length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        starts_within: Some(piece.starts_within),
        ends_within: Some(piece.ends_within),
        offset: piece.offset,
    };
    writer.message(&message(&ToBridge::Piece(head)));
    for part in bytes.chunks(BATCH) {
        writer.data(TEXT, part);
        counts.add(TEXT, part.len()).expect("a piece is small");
        writer.flush().await.map_err(|_| link_lost())?;
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
