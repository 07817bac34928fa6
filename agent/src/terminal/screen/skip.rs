//! What of a flood need not be drawn, because what follows scrolls it away.

use memchr::{memchr, memchr_iter};

use crate::os::pty::Size;

/// So much plain text is worth being looked at for what can be left out.
const WORTH: usize = 16 << 10;

/// Whether a byte does nothing on a screen but show itself, go to the left, or down a line.
///
/// Characters from 0x80 on that are controls begin with 0xc2 in UTF-8.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e | b'\t' | b'\n' | b'\r' | 0x80..=0xc1 | 0xc3..=0xff)
}

/// Cuts out what a screen of this size, all rows of which scroll, does not show at the end, whatever it
/// showed at the beginning: of each long plain stretch the lines before the last ones, and of a long line the
/// rows before the last ones. Gives what is left to be drawn, piece by piece.
pub(super) fn shown(mut bytes: &[u8], size: Size, mut draw: impl FnMut(&[u8])) {
    // Each line feed of the rest goes one row down, or scrolls: so many leave nothing of before.
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
        let (sequence, after) = rest.split_at(colours(rest).unwrap_or_else(|| taken(rest)));
        draw(sequence);
        bytes = after;
    }
}

/// Leaves out the control sequences that only draw: colours, places of the cursor, what is erased. A flood may be made
/// of them, and each that is read as what it is takes as long as many bytes of text.
pub(super) fn without_drawing(mut bytes: &[u8]) -> Vec<u8> {
    let mut left = Vec::with_capacity(bytes.len());
    while let Some(at) = memchr(0x1b, bytes) {
        let (before, sequence) = bytes.split_at(at);
        left.extend_from_slice(before);
        let length = drawing(sequence).unwrap_or(1);
        let (sequence, rest) = sequence.split_at(length);
        if length == 1 {
            left.extend_from_slice(sequence);
        }
        bytes = rest;
    }
    left.extend_from_slice(bytes);
    left
}

/// The length of a sequence that draws, and switches nothing.
fn drawing(bytes: &[u8]) -> Option<usize> {
    let parameters = bytes.strip_prefix(b"\x1b[")?;
    let last = parameters.iter().position(|byte| !matches!(byte, b'0'..=b';'))?;
    let draws = matches!(parameters.get(last)?, b'@'..=b'H' | b'J'..=b'M' | b'P' | b'S' | b'T' | b'X' | b'd' | b'm');
    draws.then_some(last + 3)
}

/// The length of a sequence that changes colours, and nothing else.
fn colours(bytes: &[u8]) -> Option<usize> {
    let parameters = bytes.strip_prefix(b"\x1b[")?;
    let last = parameters.iter().position(|byte| !matches!(byte, b'0'..=b';'))?;
    (parameters.get(last) == Some(&b'm')).then_some(last + 3)
}

/// How many bytes something takes in that begins with what is no plain byte: up to the next line.
fn taken(bytes: &[u8]) -> usize {
    let next = bytes.iter().position(|&byte| is_plain(byte)).unwrap_or(bytes.len());
    let taken = bytes.get(next..).and_then(|rest| memchr(b'\n', rest));
    taken.map_or(bytes.len(), |taken| next + taken + 1)
}

/// Cuts out whole rows of what goes on without the end of a line. As each character takes one cell, the next one
/// comes into the same column with a row less, or with many.
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

/// The first line, which may be the rest of something, and the last ones.
fn cut(stretch: &[u8], lines: usize) -> Option<(&[u8], &[u8])> {
    let whole =
        |at: &usize| at.checked_sub(1).and_then(|before| stretch.get(before)) == Some(&b'\r');
    let mut ends = memchr_iter(b'\n', stretch).filter(whole);
    let head = ends.next()? + 1;
    let tail = ends.rev().nth(lines)? + 1;
    (tail > head)
        .then(|| (stretch.get(..head).unwrap_or(stretch), stretch.get(tail..).unwrap_or(stretch)))
}
