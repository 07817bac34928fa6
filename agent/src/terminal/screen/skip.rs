//! What of a flood need not be drawn, because what follows scrolls it away.

use memchr::{memchr, memchr_iter};

/// So much plain text is worth being looked at for what can be left out.
const WORTH: usize = 16 << 10;

/// Whether a byte does nothing on a screen but show itself, go to the left, or down a line.
///
/// Characters from 0x80 on that are controls begin with 0xc2 in UTF-8.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e | b'\t' | b'\n' | b'\r' | 0x80..=0xc1 | 0xc3..=0xff)
}

/// Cuts out what a screen of so many rows, all of which scroll, does not show at the end, whatever it
/// showed at the beginning: of each long plain stretch the lines before the last ones. Gives what is left
/// to be drawn, piece by piece.
pub(super) fn shown(mut bytes: &[u8], rows: u16, mut draw: impl FnMut(&[u8])) {
    // Each line feed of the rest goes one row down, or scrolls: so many leave nothing of before.
    let lines = 2 * usize::from(rows) + 2;
    while !bytes.is_empty() {
        let plain = bytes.iter().position(|&byte| !is_plain(byte)).unwrap_or(bytes.len());
        let (stretch, rest) = bytes.split_at(plain);
        match (plain >= WORTH).then(|| cut(stretch, lines)).flatten() {
            Some((head, tail)) => {
                draw(head);
                draw(tail);
            }
            None => draw(stretch),
        }
        let next = rest.iter().position(|&byte| is_plain(byte)).unwrap_or(rest.len());
        // What is no plain byte begins something that takes plain ones in: up to the next line.
        let taken = rest.get(next..).and_then(|rest| memchr(b'\n', rest));
        let end = taken.map_or(rest.len(), |taken| next + taken + 1);
        let (sequence, after) = rest.split_at(end);
        draw(sequence);
        bytes = after;
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
