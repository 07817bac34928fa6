//! The state of a terminal besides its content: modes, alphabets, which screen is shown, the scroll
//! region, the saved cursor.
//!
//! The agent tracks the output of a session, so that a client that attaches later gets a terminal
//! in the session's state; the bridge tracks what it passes on to a person's own terminal, so that
//! it can restore it. Both use one list of [`Change`]s, each with the sequence that makes it and
//! the one that undoes it.
//!
//! Pure: bytes in, sequences out. Every sequence is xterm's:
//! <https://invisible-island.net/xterm/ctlseqs/ctlseqs.html>.

mod alphabet;

use alphabet::Alphabets;

use crate::terminal::alphabet::LINES;

/// The maximum number of kept bytes of an incomplete sequence.
const LONGEST: usize = 4 << 10;

/// The start of a string that no terminal draws, and that BEL ends.
const UNDRAWN: &[u8] = b"\x1b]9999;";

const ESC: u8 = 0x1b;

/// The tracked private modes, with whether they are initially on. Modes of one group exclude each
/// other.
const MODES: [(u16, bool, Group); 24] = [
    (1, false, Group::None),
    (4, false, Group::None),
    (5, false, Group::None),
    (7, true, Group::None),
    (8, true, Group::None),
    (9, false, Group::Mouse),
    (12, false, Group::None),
    (25, true, Group::None),
    (45, false, Group::None),
    (66, false, Group::None),
    (69, false, Group::None),
    (1000, false, Group::Mouse),
    (1001, false, Group::Mouse),
    (1002, false, Group::Mouse),
    (1003, false, Group::Mouse),
    (1004, false, Group::None),
    (1005, false, Group::Report),
    (1006, false, Group::Report),
    (1007, false, Group::None),
    (1015, false, Group::Report),
    (1016, false, Group::Report),
    (2004, false, Group::None),
    (2026, false, Group::None),
    (2027, false, Group::None),
];

/// Groups of modes in which the last one set applies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Group {
    None,
    /// Which mouse events are reported.
    Mouse,
    /// The encoding of mouse reports.
    Report,
}

/// The state saved with the cursor, besides its position and colours.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Saved {
    /// Whether rows were counted from the top of the scroll region.
    pub origin: bool,
    alphabets: Alphabets,
}

impl Saved {
    /// Returns the sequences that switch from the initial alphabets to the saved ones, and back.
    pub fn alphabets(&self) -> (String, String) {
        let all = self.alphabets.changes();
        let (mut to, mut back) = (String::new(), String::new());
        all.iter().for_each(|change| to += &change.to);
        all.iter().rev().for_each(|change| back += &change.back);
        (to, back)
    }
}

/// One difference from the initial state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The sequence that makes the change, on a terminal in its initial state.
    pub to: String,
    /// The sequence that undoes it.
    pub back: String,
}

impl Change {
    fn new(to: impl Into<String>, back: impl Into<String>) -> Self {
        Self { to: to.into(), back: back.into() }
    }
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum ParserState {
    #[default]
    Ground,
    Escape,
    Intermediate,
    Csi,
    /// A string, and whether BEL also ends it.
    Text(bool),
    TextEscape(bool),
}

/// The state of one terminal.
#[derive(Clone, Debug, Default)]
pub struct Modes {
    state: ParserState,
    /// The received part of an incomplete sequence or character.
    pending: Vec<u8>,
    /// The private modes that differ from their initial state, in the order in which they changed.
    changed: Vec<u16>,
    origin: bool,
    insert: bool,
    keypad: bool,
    style: u16,
    alphabets: Alphabets,
    /// The mode that switched to the alternate screen, if it is shown.
    alternate: Option<u16>,
    /// The scroll regions of the main and of the alternate screen.
    regions: [Option<(u16, u16)>; 2],
    saved: [Option<Saved>; 2],
}

impl Modes {
    /// Reads output. Passes it to `draw`, for a terminal emulator that knows no alphabets and not
    /// every equivalent of a sequence: such sequences are rewritten to ones that every terminal
    /// knows.
    pub fn read(&mut self, mut bytes: &[u8], mut draw: impl FnMut(&[u8])) {
        loop {
            if self.state == ParserState::Ground {
                let special = memchr::memchr3(ESC, 0x0e, 0x0f, bytes);
                let (plain, rest) = bytes.split_at(special.unwrap_or(bytes.len()));
                self.plain(plain, &mut draw);
                bytes = rest;
            }
            let Some((&byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            self.step(byte, &mut draw);
        }
    }

    /// Handles text, and controls that change nothing here.
    fn plain(&mut self, plain: &[u8], draw: &mut impl FnMut(&[u8])) {
        if plain.is_empty() {
            return;
        }
        match self.alphabets.draws_lines() {
            true => {
                let mut drawn = Vec::with_capacity(2 * plain.len());
                for &byte in plain {
                    match byte.checked_sub(0x5f).and_then(|at| LINES.get(usize::from(at))) {
                        Some(line) => drawn.extend_from_slice(line.as_bytes()),
                        None => drawn.push(byte),
                    }
                }
                draw(&drawn);
            }
            false => draw(plain),
        }
        self.keep_character(plain);
    }

    /// Keeps the received part of an incomplete multi-byte character.
    fn keep_character(&mut self, plain: &[u8]) {
        if plain.len() >= 3 {
            self.pending.clear();
        }
        self.pending.extend_from_slice(plain.get(plain.len().saturating_sub(3)..).unwrap_or(plain));
        let begun = self.pending.iter().rposition(|byte| *byte >= 0xc0).unwrap_or(usize::MAX);
        let begun = self.pending.split_off(begun.min(self.pending.len()));
        let wanted = match begun.first() {
            Some(0xc2..=0xdf) => 2,
            Some(0xe0..=0xef) => 3,
            Some(0xf0..=0xf4) => 4,
            _ => 0,
        };
        let open = begun.len() < wanted && begun.iter().skip(1).all(|byte| *byte >= 0x80);
        self.pending = if open { begun } else { Vec::new() };
    }

    fn step(&mut self, byte: u8, draw: &mut impl FnMut(&[u8])) {
        match (self.state, byte) {
            (ParserState::Ground, 0x0e) => self.alphabets.shift(1),
            (ParserState::Ground, 0x0f) => self.alphabets.shift(0),
            (ParserState::TextEscape(bell), b'\\') => self.string(bell, draw),
            (ParserState::Text(bell), ESC) => {
                self.keep(byte);
                self.state = ParserState::TextEscape(bell);
            }
            // ESC starts a new sequence and aborts an incomplete one.
            (_, ESC) => {
                self.pending.clear();
                self.keep(byte);
                self.state = ParserState::Escape;
            }
            (_, 0x18 | 0x1a) => {
                draw(&[byte]);
                self.end();
            }
            (ParserState::Text(true), 0x07) => self.string(true, draw),
            (ParserState::Text(_), _) => self.keep(byte),
            (ParserState::TextEscape(_), _) => {
                // ESC without `\` ends the string and starts another sequence.
                self.pending.clear();
                self.keep(ESC);
                self.state = ParserState::Escape;
                self.step(byte, draw);
            }
            // Controls within a sequence are executed, and do not end it.
            (ParserState::Escape | ParserState::Intermediate | ParserState::Csi, 0..=0x1f) => {
                draw(&[byte]);
            }
            (ParserState::Escape, b'[') => self.goes_on(byte, ParserState::Csi),
            (ParserState::Escape, b']' | b'P' | b'X' | b'^' | b'_') => {
                self.goes_on(byte, ParserState::Text(byte == b']'));
            }
            (ParserState::Escape | ParserState::Intermediate, 0x20..=0x2f) => {
                self.goes_on(byte, ParserState::Intermediate);
            }
            (ParserState::Csi, 0x20..=0x3f) => self.keep(byte),
            (ParserState::Escape | ParserState::Intermediate, 0x30..=0x7e) => {
                self.keep(byte);
                self.short(draw);
                self.end();
            }
            (ParserState::Csi, 0x40..=0x7e) => {
                self.keep(byte);
                self.control(draw);
                self.end();
            }
            _ => {
                self.keep(byte);
                draw(&self.pending);
                self.end();
            }
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.pending.len() < LONGEST {
            self.pending.push(byte);
        }
    }

    fn goes_on(&mut self, byte: u8, state: ParserState) {
        self.keep(byte);
        self.state = state;
    }

    /// Forgets an incomplete sequence, so that following bytes are not read as its continuation.
    pub fn break_off(&mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.pending.clear();
        self.state = ParserState::Ground;
    }

    /// Handles a complete string. Strings that set a title or a colour are drawn, unless they are
    /// too long to be kept whole; all others are not drawn.
    fn string(&mut self, names: bool, draw: &mut impl FnMut(&[u8])) {
        if names && self.pending.len() < LONGEST {
            let string = self.pending.strip_suffix(&[ESC]).unwrap_or(&self.pending);
            draw(&[string, b"\x07"].concat());
        }
        self.end();
    }

    /// Handles a sequence of ESC and a few bytes.
    fn short(&mut self, draw: &mut impl FnMut(&[u8])) {
        match self.pending.get(1..).unwrap_or_default() {
            b"7" => self.save(),
            b"8" => self.restore(),
            b"=" => self.keypad = true,
            b">" => self.keypad = false,
            b"c" => *self = Self { pending: std::mem::take(&mut self.pending), ..Self::default() },
            // Next line and index, rewritten to what every terminal knows.
            b"E" => return draw(b"\r\n"),
            b"D" => return draw(b"\n"),
            b"n" => self.alphabets.shift(2),
            b"o" => self.alphabets.shift(3),
            &[slot @ b'('..=b'+', set] => {
                self.alphabets.designate(slot - b'(', set);
                return;
            }
            _ => {}
        }
        draw(&self.pending);
    }

    /// Handles a control sequence.
    fn control(&mut self, draw: &mut impl FnMut(&[u8])) {
        let sequence = std::mem::take(&mut self.pending);
        let (body, last) = sequence.split_at(sequence.len().saturating_sub(1));
        let body = std::str::from_utf8(body.get(2..).unwrap_or_default()).unwrap_or_default();
        let last = last.first().copied().unwrap_or_default();
        let mut drawn = sequence.clone();
        match (body, last) {
            ("", b's') => {
                self.save();
                drawn = b"\x1b7".to_vec();
            }
            ("", b'u') => {
                self.restore();
                drawn = b"\x1b8".to_vec();
            }
            ("4", b'h' | b'l') => self.insert = last == b'h',
            ("!", b'p') => self.soften(&mut drawn),
            (style, b'q') if style.ends_with(' ') => {
                self.style = style.trim_end().parse().unwrap_or(0);
            }
            (_, b'r') if body.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b';')) => {
                self.scrolls(body);
            }
            (_, b'h' | b'l') if body.starts_with('?') => {
                drawn.clear();
                for mode in body.trim_start_matches('?').split(';') {
                    self.private(mode, last, &mut drawn);
                }
            }
            _ => {}
        }
        draw(&drawn);
        self.pending = sequence;
    }

    fn private(&mut self, mode: &str, last: u8, drawn: &mut Vec<u8>) {
        let (on, number) = (last == b'h', mode.parse().unwrap_or(0));
        let mut drawn_as = number;
        match number {
            6 => self.origin = on,
            47 | 1047 => {
                // 1047 erases the alternate screen on leaving, which nobody sees.
                drawn_as = 47;
                self.alternate = on.then(|| self.alternate.unwrap_or(number));
            }
            1048 => {
                match on {
                    true => self.save(),
                    false => self.restore(),
                }
                drawn.extend_from_slice(if on { b"\x1b7" } else { b"\x1b8" });
                return;
            }
            1049 if on => {
                self.save();
                // If it is shown already, nothing of the main screen was saved.
                self.alternate = self.alternate.or(Some(1049));
                // The alternate screen starts empty.
                (self.regions[1], self.saved[1], self.origin) = (None, None, false);
            }
            1049 => {
                self.alternate = None;
                self.restore();
            }
            _ => self.mode(number, on),
        }
        drawn.extend_from_slice(format!("\x1b[?{drawn_as}{}", char::from(last)).as_bytes());
    }

    fn mode(&mut self, number: u16, on: bool) {
        let Some((_, first, group)) = MODES.iter().find(|(known, ..)| *known == number) else {
            return;
        };
        let same = |other: &u16| match group {
            Group::None => *other == number,
            group if on => MODES.iter().any(|(of, _, its)| of == other && its == group),
            _ => *other == number,
        };
        self.changed.retain(|other| !same(other));
        if on != *first {
            self.changed.push(number);
        }
    }

    /// Handles DECSTR, which resets some of the state and draws nothing.
    fn soften(&mut self, drawn: &mut Vec<u8>) {
        self.changed.retain(|number| !matches!(number, 1 | 7 | 25 | 69));
        (self.origin, self.insert, self.keypad) = (false, false, false);
        self.alphabets = Alphabets::default();
        let screen = self.screen();
        (self.regions[screen], self.saved[screen]) = (None, None);
        // The cursor must not move, and every other way to reset the scroll region moves it.
        *drawn = b"\x1b[?25h\x1b[?1l\x1b>\x1b[m\x1b[?6l".to_vec();
    }

    fn scrolls(&mut self, body: &str) {
        let mut numbers = body.split(';').map(|number| number.parse().unwrap_or(0));
        let (top, bottom) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let all = top <= 1 && bottom == 0;
        self.regions[self.screen()] = (!all).then_some((top.max(1), bottom));
    }

    fn screen(&self) -> usize {
        usize::from(self.alternate.is_some())
    }

    fn save(&mut self) {
        self.saved[self.screen()] = Some(Saved { origin: self.origin, alphabets: self.alphabets });
    }

    fn restore(&mut self) {
        let Saved { origin, alphabets } = self.saved[self.screen()].unwrap_or_default();
        (self.origin, self.alphabets) = (origin, alphabets);
    }

    /// Whether these bytes are drawn unchanged, and change no state.
    pub fn is_plain(&self, bytes: &[u8]) -> bool {
        self.state == ParserState::Ground
            && !self.alphabets.draws_lines()
            && memchr::memchr3(ESC, 0x0e, 0x0f, bytes).is_none()
    }

    /// Whether a sequence or a character is incomplete.
    pub fn is_midway(&self) -> bool {
        self.state != ParserState::Ground || !self.pending.is_empty()
    }

    /// The received part of the incomplete sequence, so that what follows is read as intended. For
    /// a long string, just enough to make the continuation part of a string.
    pub fn pending(&self) -> &[u8] {
        // A stand-in for a long string keeps standing for it, whatever has been received since.
        let stands = self.pending.len() >= LONGEST || self.pending.starts_with(UNDRAWN);
        match self.state {
            ParserState::Text(true) if stands => UNDRAWN,
            ParserState::TextEscape(true) if stands => b"\x1b]9999;\x1b",
            // No terminal draws these.
            ParserState::Text(false) => b"\x1bP",
            ParserState::TextEscape(false) => b"\x1bP\x1b",
            _ => &self.pending,
        }
    }

    /// The scroll region of the current screen (first and last row, from 1), if it is not the whole
    /// screen; a last row of 0 means the bottom.
    pub fn region(&self) -> Option<(u16, u16)> {
        self.regions[self.screen()]
    }

    /// The scroll region and the saved state of the main screen, while the alternate one is shown.
    pub fn beneath(&self) -> (Option<(u16, u16)>, Option<Saved>) {
        (self.regions[0], self.saved[0])
    }

    /// The state saved with the cursor of the current screen.
    pub fn saved(&self) -> Option<Saved> {
        self.saved[self.screen()]
    }

    /// Whether rows are counted from the top of the scroll region.
    pub fn origin(&self) -> bool {
        self.origin
    }

    /// Whether text is drawn in the usual way: not inserted, wrapped at the end of a row, and in
    /// the usual alphabet.
    pub fn draws_as_usual(&self) -> bool {
        !self.insert && !self.changed.contains(&7) && self.alphabets == Alphabets::default()
    }

    /// The mode that switched to the alternate screen, if it is shown.
    pub fn alternate(&self) -> Option<u16> {
        self.alternate
    }

    /// Records that the screen was resized, which resets the scroll region.
    pub fn resized(&mut self) {
        self.regions = [None; 2];
    }

    /// Whether a tracked private mode that is initially off is on.
    pub fn is_on(&self, mode: u16) -> bool {
        MODES.iter().any(|(known, first, _)| *known == mode && !first)
            && self.changed.contains(&mode)
    }

    /// The differences from the initial state, except screens, scroll regions and origin mode.
    pub fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.keypad {
            changes.push(Change::new("\x1b=", "\x1b>"));
        }
        for number in &self.changed {
            let on = MODES.iter().any(|(known, first, _)| known == number && !first);
            let [to, back] = if on { ['h', 'l'] } else { ['l', 'h'] };
            let sequence = |last| format!("\x1b[?{number}{last}");
            changes.push(Change::new(sequence(to), sequence(back)));
        }
        if self.style != 0 {
            changes.push(Change::new(format!("\x1b[{} q", self.style), "\x1b[0 q"));
        }
        if self.insert {
            changes.push(Change::new("\x1b[4h", "\x1b[4l"));
        }
        changes.extend(self.alphabets.changes());
        changes
    }

    /// All differences from the initial state.
    fn all_changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(number) = self.alternate {
            changes.push(Change::new(format!("\x1b[?{number}h"), format!("\x1b[?{number}l")));
        }
        if let Some((top, bottom)) = self.region() {
            let bottom = if bottom == 0 { String::new() } else { bottom.to_string() };
            // Setting the region moves the cursor to the first row; undoing it must not.
            changes.push(Change::new(format!("\x1b[{top};{bottom}r"), "\x1b7\x1b[r\x1b8"));
        }
        if self.origin {
            changes.push(Change::new("\x1b[?6h", "\x1b[?6l"));
        }
        changes.extend(self.changes());
        changes
    }

    /// Returns the sequences that restore a terminal to its initial state, even in the middle of a
    /// sequence.
    pub fn undo(&self) -> String {
        // ST ends a string, and has no effect elsewhere.
        let mut undo = String::from("\x1b\\");
        self.all_changes().iter().rev().for_each(|change| undo += &change.back);
        undo
    }
}

#[cfg(test)]
mod tests;
