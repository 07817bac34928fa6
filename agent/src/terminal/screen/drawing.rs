//! The bytes that redraw a screen on a terminal in its initial state, and leave it in the state of
//! the session's terminal: whatever follows in the log then shows as on a terminal that has seen
//! all of it.
//!
//! ```text
//!     the usual screen, if a program has the alternate one ──> ?1049h
//!     cells ──> region ──> saved cursor ──> cursor            of the screen that is shown
//!     modes, alphabets, title
//! ```

use farwire_protocol::terminal::{Modes, Saved};
use vt100::{Parser, Screen};

/// The bytes that redraw it, up to the end of the last sequence.
pub(super) fn drawing(screen: &Screen, modes: &Modes, title: Option<&str>) -> Vec<u8> {
    let mut out = String::new();
    if let Some(number) = modes.alternate() {
        // The usual screen, as it will be once the alternate one is left.
        let mut usual = copy(screen);
        usual.process(if number == 1049 { b"\x1b[?1049l" } else { b"\x1b[?47l" });
        let (region, saved) = modes.beneath();
        let origin = saved.unwrap_or_default().origin;
        match number {
            // That saves the cursor itself, with the alphabets.
            1049 => {
                place(&mut out, usual.screen(), (region, None, origin));
                let (to, back) = saved.unwrap_or_default().alphabets();
                out.extend([format!("{to}\x1b[?1049h{back}\x1b[?6l")]);
            }
            _ => {
                place(&mut out, usual.screen(), (region, saved, false));
                out.extend([format!("\x1b[?{number}h")]);
            }
        }
    }
    place(&mut out, screen, (modes.region(), modes.saved(), modes.origin()));
    modes.changes().iter().for_each(|change| out += &change.to);
    if let Some(title) = title {
        out.extend([format!("\x1b]2;{title}\x07")]);
    }
    out.into_bytes()
}

/// A copy that shows the same, to try changes on.
fn copy(screen: &Screen) -> Parser {
    let (rows, cols) = screen.size();
    let mut copy = Parser::new(rows, cols, 0);
    *copy.screen_mut() = screen.clone();
    copy
}

type Where = (Option<(u16, u16)>, Option<Saved>, bool);

/// The cells of a screen, the rows of it that scroll, its saved cursor, and its cursor.
fn place(out: &mut String, screen: &Screen, (region, saved, origin): Where) {
    *out += &screen.contents_formatted();
    let top = region.map_or(1, |(top, _)| top);
    if let Some((top, bottom)) = region {
        let bottom = if bottom == 0 { screen.size().0.get() } else { bottom };
        out.extend([format!("\x1b[{top};{bottom}r")]);
    }
    let cursor = |screen: &Screen, origin: bool| {
        let (row, col) = screen.cursor_position();
        let row = if origin { (row + 1).saturating_sub(top - 1).max(1) } else { row + 1 };
        format!("\x1b[{row};{}H", (col + 1).min(screen.size().1.get()))
    };
    if let Some(saved) = saved {
        let mut there = copy(screen);
        there.process(b"\x1b8");
        let (to, back) = saved.alphabets();
        let (on, off) = if saved.origin { ("\x1b[?6h", "\x1b[?6l") } else { ("", "") };
        // A cursor behind a full row can only be placed there by drawing last what is before it.
        let place = match !saved.origin && is_behind_a_full_row(there.screen()) {
            true => there.screen().cursor_state_formatted(),
            false => cursor(there.screen(), saved.origin),
        };
        let colours = there.screen().attributes_formatted();
        out.extend([format!("{on}{place}{colours}{to}\x1b7{back}{off}")]);
    }
    if origin {
        out.extend([format!("\x1b[?6h{}{}", cursor(screen, true), screen.attributes_formatted())]);
    } else if region.is_some() || saved.is_some() {
        // Setting them has moved the cursor.
        *out += &screen.cursor_state_formatted();
        *out += &screen.attributes_formatted();
    }
}

/// Whether the cursor is behind the last column, and that is not empty: drawing it again puts the
/// cursor there.
fn is_behind_a_full_row(screen: &Screen) -> bool {
    let (row, col) = screen.cursor_position();
    let last = screen.size().1.get() - 1;
    let full = || screen.cell(row, last).is_some_and(|cell| cell.has_contents());
    col > last && full()
}
