//! Which rows of a screen scroll.
//!
//! The grid knows it and does not tell, neither us nor whoever it is drawn anew for.

use memchr::memchr;

/// The longest parameters that are looked at.
const PARAMETERS: usize = 32;

const ESC: u8 = 0x1b;

/// What was said of the scrolling region, of the usual screen and of the alternate one.
#[derive(Debug, Default)]
pub(super) struct Region {
    state: State,
    parameters: Vec<u8>,
    alternate: bool,
    rows: [Option<(u16, u16)>; 2],
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Ground,
    Escape,
    Sequence,
}

impl Region {
    /// Reads what is drawn.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        loop {
            if self.state == State::Ground {
                let Some(at) = memchr(ESC, bytes) else { return };
                bytes = bytes.get(at + 1..).unwrap_or_default();
                self.state = State::Escape;
            }
            let Some((&byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            self.step(byte);
        }
    }

    fn step(&mut self, byte: u8) {
        match (self.state, byte) {
            (_, ESC) => self.state = State::Escape,
            (_, 0x18 | 0x1a) => self.state = State::Ground,
            (State::Escape, b'[') => {
                self.parameters.clear();
                self.state = State::Sequence;
            }
            (State::Escape, b'c') => *self = Self::default(),
            (State::Sequence, 0x20..=0x3f) => {
                if self.parameters.len() < PARAMETERS {
                    self.parameters.push(byte);
                }
            }
            (State::Sequence, 0x40..=0x7e) => {
                self.sequence(byte);
                self.state = State::Ground;
            }
            // Controls within a sequence are carried out, and do not end it.
            (State::Sequence | State::Escape, 0..=0x1f) => {}
            _ => self.state = State::Ground,
        }
    }

    fn sequence(&mut self, last: u8) {
        let parameters = std::str::from_utf8(&self.parameters).unwrap_or_default();
        match (last, parameters.strip_prefix('?')) {
            (b'r', None) => {
                let mut numbers = parameters.split(';').map(|number| number.parse().unwrap_or(0));
                let (top, bottom) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
                let all = top <= 1 && bottom == 0;
                let now = (!all).then_some((top.max(1), bottom));
                self.rows[usize::from(self.alternate)] = now;
            }
            (b'h' | b'l', Some(modes))
                if modes.split(';').any(|mode| matches!(mode, "47" | "1047" | "1049")) =>
            {
                self.alternate = last == b'h';
            }
            _ => {}
        }
    }

    /// Whether a sequence has begun that has not ended.
    pub(super) fn is_midway(&self) -> bool {
        self.state != State::Ground
    }

    /// The screen has another size, and no region.
    pub(super) fn reset(&mut self) {
        self.rows = [None; 2];
    }

    /// The first and the last row that scroll, from 1, where that are not all; 0 is the last of all.
    pub(super) fn rows(&self) -> Option<(u16, u16)> {
        self.rows[usize::from(self.alternate)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Option<(u16, u16)> {
        let (mut whole, mut split) = (Region::default(), Region::default());
        whole.read(text.as_bytes());
        text.as_bytes().chunks(1).for_each(|byte| split.read(byte));
        assert_eq!(whole.rows(), split.rows(), "{text:?} byte by byte");
        whole.rows()
    }

    #[test]
    fn a_region_is_what_was_said_last_of_this_screen() {
        assert_eq!(rows("ab\x1b[31mc r"), None);
        assert_eq!(rows("\x1b[2;5r"), Some((2, 5)));
        assert_eq!(rows("\x1b[;5r"), Some((1, 5)));
        assert_eq!(rows("\x1b[3r"), Some((3, 0)));
        assert_eq!(rows("\x1b[2;5r\x1b[r"), None);
        assert_eq!(rows("\x1b[2;5rx\x1bc"), None);
        assert_eq!(rows("\x1b[2;\n5r"), Some((2, 5)), "a control in between");
        assert_eq!(rows("\x1b[2;5\x18r"), None, "cancelled");
        assert_eq!(rows("\x1b[?6r"), None, "another sequence");
        assert_eq!(rows("\x1b[2;5r\x1b[?1049h"), None);
        assert_eq!(rows("\x1b[2;5r\x1b[?1049h\x1b[3;4r\x1b[?1049l"), Some((2, 5)));
    }
}
