//! Alphabets (character sets): which characters the bytes of text stand for.
//!
//! Four can be designated, G0 to G3, and one of them is active. Only the line-drawing alphabet
//! matters: all others have letters where ASCII has them, except for a few national characters.

use super::Change;

/// The characters for the bytes 0x5f to 0x7e in the line-drawing alphabet.
pub(super) const LINES: [&str; 32] = [
    "\u{a0}", "◆", "▒", "␉", "␌", "␍", "␊", "°", "±", "␤", "␋", "┘", "┐", "┌", "└", "┼", "⎺", "⎻",
    "─", "⎼", "⎽", "├", "┤", "┴", "┬", "│", "≤", "≥", "π", "≠", "£", "·",
];

/// The usual alphabet.
const ASCII: u8 = b'B';

/// The alphabets of a terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Alphabets {
    /// The designated alphabets, each by its final byte.
    at_hand: [u8; 4],
    used: u8,
}

impl Default for Alphabets {
    fn default() -> Self {
        Self { at_hand: [ASCII; 4], used: 0 }
    }
}

impl Alphabets {
    /// Switches to another of the designated alphabets.
    pub(super) fn shift(&mut self, to: u8) {
        self.used = to & 3;
    }

    /// Designates an alphabet for a slot.
    pub(super) fn designate(&mut self, slot: u8, alphabet: u8) {
        if let Some(one) = self.at_hand.get_mut(usize::from(slot)) {
            *one = alphabet;
        }
    }

    pub(super) fn draws_lines(&self) -> bool {
        self.at_hand.get(usize::from(self.used)) == Some(&b'0')
    }

    pub(super) fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (slot, alphabet) in (b'('..).zip(self.at_hand).filter(|(_, one)| *one != ASCII) {
            let sequence = |one| format!("\x1b{}{}", char::from(slot), char::from(one));
            changes.push(Change::new(sequence(alphabet), sequence(ASCII)));
        }
        match self.used {
            1 => changes.push(Change::new("\x0e", "\x0f")),
            2 => changes.push(Change::new("\x1bn", "\x0f")),
            3 => changes.push(Change::new("\x1bo", "\x0f")),
            _ => {}
        }
        changes
    }
}
