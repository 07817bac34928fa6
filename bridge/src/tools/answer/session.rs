//! Sessions in answers: the header, the result of what was typed, and the screen.

use std::time::Duration;

use farwire_keystore::ShortId;
use farwire_protocol::streams::session::{Because, Doing, Ended, Size, Status};

use super::output;
use crate::render::typing::actor;
use crate::sessions::{SessionReply, untyped};
use crate::text::Word;
use crate::text::header::{Call, Fate, Header, Key};
use crate::text::shown::{Budget, Keep, Piece, Total, fit};

/// The header of a session: what it is doing, or how it ended.
pub(in crate::tools) fn header(id: ShortId, ended: &Ended) -> Header {
    let status = &ended.status;
    let fate = match status.doing {
        Doing::Exited => Fate::of(&ended.state),
        doing => Fate::Doing(doing, None),
    };
    let header = Header::ending(Word::Session, &id.to_string(), fate);
    match &status.foreground {
        Some(name) if !matches!(status.doing, Doing::Prompt | Doing::Exited) => {
            header.field(Key::Program, name)
        }
        _ => header,
    }
}

/// The answer to something that was typed: the state of the session, and the output since.
pub(in crate::tools) fn input_answer(id: ShortId, answer: &SessionReply, budget: Budget) -> String {
    let ended = &answer.ended;
    let exit = ended.command.as_ref().and_then(|command| command.exit);
    let fate = match ended.status.doing {
        Doing::Exited => Fate::of(&ended.state),
        doing => Fate::Doing(doing, exit),
    };
    let mut header = Header::ending(Word::Session, &id.to_string(), fate);
    if let Some(name) = &ended.status.foreground
        && !matches!(ended.status.doing, Doing::Prompt | Doing::Exited)
    {
        header = header.field(Key::Program, name);
    }
    if let Some(duration) = ended.command.as_ref().and_then(|command| command.duration_ms) {
        header = header.time(Duration::from_millis(duration));
    }
    let left = untyped(ended);
    let user = ended.interrupted.as_ref().map(|user| format!("interrupted by {}", actor(user)));
    let reason = match (ended.because, &left, user) {
        (_, Some(left), Some(user)) => Some(format!("{user}; {left}")),
        (_, Some(left), None) => Some(left.clone()),
        (_, None, Some(user)) => Some(user),
        (Some(Because::Silence), ..) => Some("silence".to_owned()),
        (Some(Because::Time), ..) => Some("wait-over".to_owned()),
        _ => None,
    };
    if let Some(reason) = reason {
        header = header.field(Key::Reason, reason);
    }
    if ended.because == Some(Because::Matched) {
        header = header.field(Key::Until, "matched");
    }
    let lines: u64 = answer.pieces.iter().map(|piece| lines(&piece.bytes)).sum();
    let first = answer.pieces.first().map_or(1, |piece| piece.first_line);
    let omitted = answer.ended.omitted.is_some();
    let total = Total {
        lines: match answer.pieces.last() {
            Some(last) if omitted => last.first_line.saturating_sub(1) + self::lines(&last.bytes),
            _ => first.saturating_sub(1) + lines,
        },
        ..Total::default()
    };
    let pieces = renumber(&answer.pieces, first);
    let total = Total { lines: total.lines + 1 - first.min(total.lines + 1), ..total };
    let shown = fit(pieces.first(), pieces.get(1), total, Keep::Ends, budget);
    if !shown.whole {
        header = header.field(Key::Lines, total.lines);
    }
    header = header.hidden(shown.removed.hidden());
    let line = match ended.status.doing {
        Doing::Editor | Doing::Pager => header.next(&look(id)),
        Doing::Exited => header.end(),
        _ if left.is_some() => header.next(&look(id)),
        Doing::Running if ended.because == Some(Because::Time) => header.next(&output(id)),
        _ => header.end(),
    };
    format!("{line}\n{}", shown.text)
}

/// The answer about the screen of a session.
pub(in crate::tools) fn screen(id: ShortId, answer: &SessionReply, budget: Budget) -> String {
    let status = &answer.ended.status;
    let mut header = with_cursor(header(id, &answer.ended), status);
    header = with_size(header, status.size);
    if let Some(title) = status.title.as_deref().filter(|title| !title.is_empty()) {
        header = header.field(Key::Title, title);
    }
    format!("{}\n{}", header.end(), screen_text(answer, budget))
}

/// Adds where the cursor is, if the screen shows one: `cursor=ROW.COLUMN`.
pub(in crate::tools) fn with_cursor(header: Header, status: &Status) -> Header {
    match status.cursor {
        Some(cursor) => header.field(Key::Cursor, format_args!("{}.{}", cursor.rows, cursor.cols)),
        None => header,
    }
}

/// Adds the size of a terminal: `size=120x40`.
pub(in crate::tools) fn with_size(header: Header, size: Size) -> Header {
    header.field(Key::Size, format_args!("{}x{}", size.cols, size.rows))
}

fn look(id: ShortId) -> Call {
    output(id).with("view", "screen")
}

/// The last lines of a screen, as many as fit.
pub(in crate::tools) fn screen_text(answer: &SessionReply, budget: Budget) -> String {
    let piece = Piece { first_line: 1, bytes: answer.text.clone(), ..Piece::default() };
    let total = Total { lines: lines(&answer.text), ..Total::default() };
    fit(Some(&piece), None, total, Keep::End, budget).text
}

fn lines(bytes: &[u8]) -> u64 {
    let whole = memchr::memchr_iter(b'\n', bytes).count() as u64;
    whole + u64::from(bytes.last().is_some_and(|last| *last != b'\n'))
}

/// The pieces as a log of their own, whose first line is 1.
fn renumber(pieces: &[Piece], first: u64) -> Vec<Piece> {
    let number = |piece: &Piece| Piece {
        first_line: (piece.first_line + 1).saturating_sub(first).max(1),
        starts_within: piece.starts_within && piece.first_line != first,
        ..piece.clone()
    };
    pieces.iter().map(number).collect()
}
