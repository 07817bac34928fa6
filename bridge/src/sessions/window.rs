//! Part of a log from an offset on, exact to the byte: reading it twice returns the same bytes, and
//! reading on from its end misses and repeats nothing.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Delivery, Digest, Request, State, Take};

use crate::client::{Client, Server};
use crate::runs::answer::{NoAnswer, ask};
use crate::text::clean::Cleaner;
use crate::text::shown::Piece;

/// How much longer than the wait an answer may take to arrive.
const SLACK: Duration = Duration::from_secs(6);

/// The largest window, in bytes.
pub const LARGEST: u32 = 1 << 20;

/// Which part of a log is read, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The offset of its first byte.
    pub from: u64,
    /// Its length in bytes, at most.
    pub limit: u32,
    /// How long to wait for the first byte if there is none yet.
    pub wait: Duration,
}

/// A part of a log.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Its bytes, and where they begin: later than requested if the earlier bytes are no longer
    /// kept.
    pub piece: Piece,
    /// The program's state, and how much output it has written in total.
    pub state: State,
}

impl Window {
    /// The offset of its first byte.
    pub fn from(&self) -> u64 {
        self.piece.offset
    }

    /// The offset after its last byte.
    pub fn to(&self) -> u64 {
        self.piece.offset + self.piece.bytes.len() as u64
    }

    /// Whether the log continues after it.
    pub fn more(&self) -> bool {
        self.to() < self.state.bytes
    }

    /// Drops bytes from the end so that it ends with a whole line, or at least not within a
    /// character or an escape sequence: the next window then begins cleanly.
    pub fn settle(&mut self) {
        if !self.more() && !self.state.is_open() {
            return;
        }
        let end = settled_length(&self.piece.bytes, self.more());
        if end < self.piece.bytes.len() && end > 0 {
            self.piece.bytes.truncate(end);
            self.piece.ends_within = true;
        }
    }

    /// Its cleaned text, and how much was hidden in it.
    pub fn text(&self) -> (String, u64) {
        let mut cleaner = Cleaner::new(self.piece.first_line).width(self.piece.bytes.len().max(80));
        if self.piece.starts_within {
            cleaner = cleaner.within();
        }
        let mut text = String::new();
        cleaner.feed(&self.piece.bytes, &mut |line| line.write(&mut text));
        let removed = cleaner.finish(&mut |line| line.write(&mut text));
        (text, removed.hidden())
    }
}

/// Reads part of a log, and waits for the first byte if there is none yet.
pub async fn window(
    client: &Client,
    server: &Server,
    job: Nonce,
    Span { from, limit, wait }: Span,
) -> Result<Window, Failure> {
    let digest = Digest {
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        head: limit.min(LARGEST),
        tail: 0,
        from: Some(from),
        until: None,
        until_new: Some(true),
        progress: None,
    };
    let request = Request::Take(Take { job, delivery: Delivery::Digest(digest) });
    let answer = ask(client, server, &request, wait + SLACK, |_| ()).await;
    let answer = answer.map_err(NoAnswer::failure)?;
    let state = answer.ended.state;
    if from > state.bytes {
        let text = format!("the output has {} bytes so far", state.bytes);
        return Err(Failure::new(Kind::InvalidArgument, text)
            .with_hint("use an offset from an earlier answer"));
    }
    let none = Piece { offset: from.max(state.dropped_bytes), first_line: 1, ..Piece::default() };
    Ok(Window { piece: answer.pieces.into_iter().next().unwrap_or(none), state })
}

/// Waits until the program has ended, or the time is up. Returns its state then.
pub async fn end(
    client: &Client,
    server: &Server,
    job: Nonce,
    wait: Duration,
) -> Result<State, Failure> {
    let digest = Digest {
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        head: 0,
        tail: 0,
        from: None,
        until: None,
        until_new: None,
        progress: None,
    };
    let request = Request::Take(Take { job, delivery: Delivery::Digest(digest) });
    let answer = ask(client, server, &request, wait + SLACK, |_| ()).await;
    Ok(answer.map_err(NoAnswer::failure)?.ended.state)
}

/// How many of the bytes can be shown without splitting anything. If more will come, that is up to
/// the end of the last whole line, if there is one.
fn settled_length(bytes: &[u8], more: bool) -> usize {
    if more && let Some(at) = memchr::memrchr(b'\n', bytes) {
        return at + 1;
    }
    let mut end = bytes.len();
    // A sequence that has begun and not ended. Only a short one counts.
    let tail = bytes.get(end.saturating_sub(64)..).unwrap_or_default();
    if let Some(at) = memchr::memrchr(0x1b, tail)
        && super::search::is_unfinished(tail.get(at..).unwrap_or_default())
    {
        end = end - tail.len() + at;
    }
    let before = bytes.get(..end).unwrap_or_default();
    end - partial_character(before)
}

/// How many bytes at the end are the beginning of a character.
fn partial_character(bytes: &[u8]) -> usize {
    let last = bytes.iter().rev().take(3);
    for (back, &byte) in (1..).zip(last) {
        let length = match byte {
            0x00..=0x7f => return 0,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            _ => continue,
        };
        return if back < length { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(bytes: &[u8], total: u64) -> Window {
        let piece = Piece { first_line: 1, offset: 10, bytes: bytes.to_vec(), ..Piece::default() };
        Window { piece, state: State { bytes: total, ..State::default() } }
    }

    #[test]
    fn a_window_ends_where_nothing_is_torn_apart() {
        for (bytes, more, end) in [
            (b"one\ntwo".as_slice(), true, 4),
            (b"one\ntwo", false, 7),
            (b"\xe2\x82", true, 0),
            (b"a\xe2\x82\xac", true, 4),
            (b"a\xe2\x82", false, 1),
            (b"a\x1b[3", false, 1),
            (b"a\x1b[31mb", false, 7),
            (b"a\x1b]0;title", false, 1),
            (b"\x80\x80\x80\x80", true, 4),
        ] {
            assert_eq!(settled_length(bytes, more), end, "{bytes:?}");
        }
    }

    #[test]
    fn windows_one_after_the_other_are_the_whole() {
        let all = "zeile \x1b[31mrot\x1b[0m €uro\r\n".repeat(50).into_bytes();
        let (mut at, mut text) = (0, String::new());
        while at < all.len() {
            let mut part =
                window(all.get(at..all.len().min(at + 37)).unwrap(), 10 + all.len() as u64);
            part.piece.offset = at as u64;
            part.state.bytes = all.len() as u64;
            part.settle();
            assert!(part.to() > at as u64, "it goes on");
            at = usize::try_from(part.to()).unwrap();
            text.push_str(&part.text().0);
        }
        assert_eq!(text.replace('\n', ""), "zeile rot €uro".repeat(50));
    }

    #[test]
    fn nothing_of_a_terminal_is_left_in_the_text() {
        let (text, _) = window(b"\x1b[1;31mred\x1b[0m\r\n[run r1 exit=0]\r\n", 99).text();
        assert_eq!(text, "red\n\\[run r1 exit=0]\n");
    }
}
