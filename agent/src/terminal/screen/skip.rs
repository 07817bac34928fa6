//! The part of a flood that need not be drawn, because what follows scrolls it away.

use memchr::{memchr, memchr_iter, memchr2};

use crate::os::pty::Size;

/// Plain text of at least this length is searched for what can be skipped.
const WORTH: usize = 16 << 10;

/// The longest string that is skipped.
const STRING: usize = 1 << 10;

/// Whether a byte only shows itself, moves the cursor left, or moves it down a line.
///
/// Characters from 0x80 on that are controls begin with 0xc2 in UTF-8.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e | b'\t' | b'\n' | b'\r' | 0x80..=0xc1 | 0xc3..=0xff)
}

/// Cuts out what a screen of this size, all rows of which scroll, does not show at the end,
/// whatever it showed at the beginning: of each long plain stretch all but the last lines, and of a
/// long line all but the last rows. Passes what is left to `draw`, piece by piece.
pub(super) fn draw_shown(mut bytes: &[u8], size: Size, mut draw: impl FnMut(&[u8])) {
    // Each line feed of the rest moves down or scrolls by a row: this many leave nothing of what
    // was before.
    let lines = 2 * usize::from(size.rows) + 2;
    while !bytes.is_empty() {
        let plain = bytes.iter().position(|&byte| !is_plain(byte)).unwrap_or(bytes.len());
        let (stretch, rest) = bytes.split_at(plain);
        match (plain >= WORTH).then(|| cut(stretch, lines)).flatten() {
            Some((head, tail)) => {
                draw(head);
                draw(tail);
            }
            None if plain >= WORTH => rows(stretch, size, &mut draw),
            None => draw(stretch),
        }
        let (sequence, after) = rest.split_at(colours(rest).unwrap_or_else(|| length(rest)));
        draw(sequence);
        bytes = after;
    }
}

/// What is left of output that is skipped.
#[derive(Debug, Default)]
pub(super) struct Rest<'a> {
    /// Text, and the sequences that switch modes.
    pub(super) bytes: Vec<u8>,
    /// The last sequence that sets the title.
    pub(super) title: Option<&'a [u8]>,
}

/// Removes the sequences that only draw (colours, cursor movement, erasure), strings, and a switch
/// that repeats the previous one. A flood may consist of them, and each one takes as long to
/// interpret as many bytes of text. `midway` says that a sequence has begun before: what follows
/// may be a part of it, or end it.
pub(super) fn without_drawing(mut bytes: &[u8], midway: bool) -> Rest<'_> {
    let mut rest = Rest { bytes: Vec::with_capacity(bytes.len()), title: None };
    let (mut last, mut whole): (&[u8], _) = (&[], !midway);
    while let Some(at) = memchr(0x1b, bytes) {
        let (before, after) = bytes.split_at(at);
        rest.bytes.extend_from_slice(before);
        if memchr2(0x0e, 0x0f, before).is_some() {
            last = &[];
        }
        let known = sequence(after);
        let (length, taken) = match known.filter(|_| whole) {
            Some((length, Does::Draws)) => (length, false),
            Some((length, Does::Names)) => {
                rest.title = after.get(..length);
                (length, false)
            }
            Some((length, Does::Switches)) if after.get(..length) == Some(last) => (length, false),
            Some((length, Does::Switches)) => {
                last = after.get(..length).unwrap_or_default();
                (length, true)
            }
            None => {
                last = &[];
                // It may be a later title.
                let title = rest.title.take_if(|_| after.starts_with(b"\x1b]"));
                rest.bytes.extend_from_slice(title.unwrap_or_default());
                (1, true)
            }
        };
        // An unknown sequence may have begun something that the next one ends.
        whole = known.is_some();
        let (sequence, after) = after.split_at(length);
        if taken {
            rest.bytes.extend_from_slice(sequence);
        }
        bytes = after;
    }
    rest.bytes.extend_from_slice(bytes);
    rest
}

/// What a sequence does to a screen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Does {
    Draws,
    /// Sets the title.
    Names,
    /// Has the same effect twice as once.
    Switches,
}

/// The length of a complete sequence at the beginning, and what it does, if that is known.
fn sequence(bytes: &[u8]) -> Option<(usize, Does)> {
    match bytes {
        [0x1b, b'[', rest @ ..] => {
            let last = rest.iter().position(|byte| !matches!(byte, b'0'..=b'?'))?;
            let plain = rest.iter().take(last).all(|byte| matches!(byte, b'0'..=b';'));
            let does = match rest.get(last)? {
                b'@'..=b'H' | b'J'..=b'M' | b'P' | b'S' | b'T' | b'X' | b'd' | b'm' if plain => {
                    Does::Draws
                }
                b'h' | b'l' | b'r' => Does::Switches,
                _ => return None,
            };
            Some((last + 3, does))
        }
        [0x1b, b']', rest @ ..] => {
            let ends = |byte: &u8| matches!(byte, 0x07 | 0x18 | 0x1a | 0x1b);
            let last = rest.iter().take(STRING).position(ends)?;
            let names = matches!(rest, [b'0' | b'2', b';', ..]);
            let does = if names { Does::Names } else { Does::Draws };
            (rest.get(last) == Some(&0x07)).then_some((last + 3, does))
        }
        _ => None,
    }
}

/// The length of a sequence that changes colours, and nothing else.
fn colours(bytes: &[u8]) -> Option<usize> {
    let parameters = bytes.strip_prefix(b"\x1b[")?;
    let last = parameters.iter().position(|byte| !matches!(byte, b'0'..=b';'))?;
    (parameters.get(last) == Some(&b'm')).then_some(last + 3)
}

/// The length of something that begins with a byte that is not plain: up to the next line.
fn length(bytes: &[u8]) -> usize {
    let next = bytes.iter().position(|&byte| is_plain(byte)).unwrap_or(bytes.len());
    let taken = bytes.get(next..).and_then(|rest| memchr(b'\n', rest));
    taken.map_or(bytes.len(), |taken| next + taken + 1)
}

/// Cuts whole rows out of a long line. Each character takes one cell, so that the next one is drawn
/// in the same column, however many rows were cut.
fn rows(mut stretch: &[u8], size: Size, draw: &mut impl FnMut(&[u8])) {
    let row = usize::from(size.cols);
    let kept = (2 * usize::from(size.rows) + 2) * row;
    while !stretch.is_empty() {
        let one_cell = |byte: &u8| matches!(byte, 0x20..=0x7e);
        let length = stretch.iter().position(|byte| !one_cell(byte)).unwrap_or(stretch.len());
        let (run, rest) = stretch.split_at(length);
        let left_out = run.len().saturating_sub(kept + row) / row * row;
        draw(run.get(..row.min(run.len())).unwrap_or_default());
        draw(run.get(row + left_out..).unwrap_or_default());
        let other = rest.iter().position(one_cell).unwrap_or(rest.len());
        let (others, after) = rest.split_at(other);
        draw(others);
        stretch = after;
    }
}

/// The first line, which may be the rest of something, and the last lines.
fn cut(stretch: &[u8], lines: usize) -> Option<(&[u8], &[u8])> {
    let whole =
        |at: &usize| at.checked_sub(1).and_then(|before| stretch.get(before)) == Some(&b'\r');
    let mut ends = memchr_iter(b'\n', stretch).filter(whole);
    let head = ends.next()? + 1;
    let tail = ends.rev().nth(lines)? + 1;
    (tail > head)
        .then(|| (stretch.get(..head).unwrap_or(stretch), stretch.get(tail..).unwrap_or(stretch)))
}
