//! The line that is being written: as a terminal would show it, without colours.
//!
//! A row has one cursor. After a carriage return, the next character restarts the line, so that
//! only the last state of a progress bar remains; backspaces and the few moves that programs make
//! within a line overwrite as in a terminal, so that overstruck headings and spinners come out as
//! they were meant. At most `width` characters are kept; the rest is counted.

use super::utf8::Unit;
use crate::text::chars::{self, REPLACEMENT};

/// This many controls or invalid bytes in a row are shown; the rest are only counted.
const RUN: u64 = 3;

/// One line.
#[derive(Clone, Debug)]
pub(super) struct Row {
    chars: Vec<char>,
    width: usize,
    /// Where the next character goes; at most `end`.
    column: usize,
    /// How many characters the line has, kept or not.
    end: usize,
    /// The same, without trailing blanks.
    ink: usize,
    /// The last significant unit was a carriage return.
    redraw: bool,
    /// The last significant unit was a backspace.
    struck: bool,
    /// The last character, for units that can follow only some characters.
    last: Option<char>,
    /// The number of controls and invalid bytes since the last other character.
    run: u64,
    /// The same for the whole line, redrawn or not; and the number of all characters.
    junk: u64,
    all: u64,
    invalid: u64,
}

impl Row {
    pub(super) fn new(width: usize) -> Self {
        Self {
            chars: Vec::new(),
            width,
            column: 0,
            end: 0,
            ink: 0,
            redraw: false,
            struck: false,
            last: None,
            run: 0,
            junk: 0,
            all: 0,
            invalid: 0,
        }
    }

    /// Clears the line.
    pub(super) fn clear(&mut self) {
        self.chars.clear();
        let chars = std::mem::take(&mut self.chars);
        *self = Self { chars, ..Self::new(self.width) };
    }

    /// Whether there were invalid bytes: then other single bytes have no meaning either.
    pub(super) fn has_invalid(&self) -> bool {
        self.invalid > 0
    }

    /// Whether the line is binary: much of it is controls and invalid bytes.
    pub(super) fn is_binary(&self) -> bool {
        self.junk >= 8 && self.junk.saturating_mul(10) >= self.all.saturating_mul(3)
    }

    /// Takes printable ASCII, many at once.
    pub(super) fn ascii(&mut self, text: &[u8]) {
        self.begin();
        if self.column < self.end {
            for &byte in text {
                self.write(char::from(byte));
            }
        } else {
            self.struck = false;
            let room = self.width.saturating_sub(self.column).min(text.len());
            self.chars.extend(text.iter().take(room).copied().map(char::from));
            if let Some(last) = text.iter().rposition(|&byte| byte != b' ') {
                self.ink = self.column + last + 1;
            }
            self.column += text.len();
            self.end = self.column;
        }
        self.all += text.len() as u64;
        self.last = text.last().copied().map(char::from);
    }

    /// Takes a character that is text.
    pub(super) fn char(&mut self, char: char) {
        self.begin();
        self.write(char);
        self.all += 1;
        self.last = Some(char);
    }

    /// Takes a control without a meaning here, or invalid bytes.
    pub(super) fn junk(&mut self, unit: Unit) {
        let picture = match unit {
            Unit::Char(char) => chars::visible_form(char).unwrap_or(REPLACEMENT),
            Unit::Byte(_) => {
                self.invalid += 1;
                REPLACEMENT
            }
        };
        self.redrawn();
        self.run += 1;
        self.junk += 1;
        self.all += 1;
        if self.run <= RUN {
            self.write(picture);
        }
        self.last = Some(picture);
    }

    /// The last visible character.
    pub(super) fn last(&self) -> Option<char> {
        self.last
    }

    /// A carriage return: the next character restarts the line.
    pub(super) fn home(&mut self) {
        self.end_run();
        self.column = 0;
        self.redraw = true;
    }

    /// To a column: the first, or one within what has been written.
    pub(super) fn to(&mut self, column: usize) {
        if column == 0 {
            return self.home();
        }
        self.end_run();
        self.redrawn();
        self.column = column.min(self.end);
    }

    /// This many columns back.
    pub(super) fn back(&mut self, count: usize) {
        self.end_run();
        self.column = self.column.saturating_sub(count);
        self.struck = true;
    }

    /// Erases from the cursor on.
    pub(super) fn erase_right(&mut self) {
        self.end_run();
        self.cut(self.column);
    }

    /// Erases everything.
    pub(super) fn erase_all(&mut self) {
        self.end_run();
        self.cut(0);
    }

    /// The line as it looks now, and how many characters of it were not kept.
    pub(super) fn text(&mut self) -> (String, usize) {
        self.end_run();
        let mut text: String = self.chars.iter().collect();
        let beyond = self.ink.saturating_sub(self.width);
        if beyond == 0 {
            text.truncate(text.trim_end().len());
        }
        (text, beyond)
    }

    /// Before text: finishes what is pending.
    fn begin(&mut self) {
        self.end_run();
        self.redrawn();
    }

    fn redrawn(&mut self) {
        if std::mem::take(&mut self.redraw) {
            self.cut(0);
        }
    }

    fn cut(&mut self, column: usize) {
        self.chars.truncate(column);
        self.column = self.column.min(column);
        self.end = self.end.min(column);
        self.ink = self.ink.min(column);
    }

    /// Shows how many more there were.
    fn end_run(&mut self) {
        let more = std::mem::take(&mut self.run).saturating_sub(RUN);
        if more > 0 {
            for char in format!("(+{more})").chars() {
                self.write(char);
            }
        }
    }

    fn write(&mut self, char: char) {
        let struck = std::mem::take(&mut self.struck);
        match self.chars.get_mut(self.column) {
            // Underlined by overstriking, the line drawn last.
            Some(old) if struck && char == '_' && *old != ' ' => {}
            Some(old) => *old = char,
            None if self.column < self.width => self.chars.push(char),
            None => {}
        }
        self.column += 1;
        self.end = self.end.max(self.column);
        if !char.is_whitespace() {
            self.ink = self.ink.max(self.column);
        }
    }
}
