//! Decodes UTF-8 byte by byte, so that input may be cut anywhere.
//!
//! Invalid input becomes one [`Unit::Byte`] for each longest valid prefix of a character, as in
//! `String::from_utf8_lossy`.

/// A piece of decoded input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unit {
    /// A character.
    Char(char),
    /// The first of some invalid bytes.
    Byte(u8),
}

/// The state between two bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Decoder {
    /// The first byte of the character that has begun.
    first: u8,
    /// How many of its bytes are still to come; 0 between characters.
    missing: u8,
    /// Its bits so far.
    bits: u32,
    /// What the next byte must be for the character to be valid so far.
    next: (u8, u8),
}

impl Decoder {
    /// Whether no character has begun.
    pub(super) fn is_idle(&self) -> bool {
        self.missing == 0
    }

    /// Takes a byte. It may end invalid bytes and also be a unit itself: then there are two.
    pub(super) fn push(&mut self, byte: u8) -> (Option<Unit>, Option<Unit>) {
        if self.missing == 0 {
            return (None, self.begin(byte));
        }
        if !(self.next.0..=self.next.1).contains(&byte) {
            let bad = self.flush();
            return (bad, self.begin(byte));
        }
        self.next = (0x80, 0xbf);
        self.bits = self.bits << 6 | u32::from(byte & 0x3f);
        self.missing -= 1;
        if self.missing > 0 {
            return (None, None);
        }
        let unit = char::from_u32(self.bits).map_or(Unit::Byte(self.first), Unit::Char);
        (None, Some(unit))
    }

    /// Ends a character that has begun and does not continue.
    pub(super) fn flush(&mut self) -> Option<Unit> {
        let begun = self.missing > 0;
        self.missing = 0;
        begun.then_some(Unit::Byte(self.first))
    }

    /// The second byte is bounded so that overlong forms, surrogates and code points beyond
    /// U+10FFFF are refused at their second byte.
    fn begin(&mut self, byte: u8) -> Option<Unit> {
        let (missing, bits, next) = match byte {
            0..=0x7f => return Some(Unit::Char(char::from(byte))),
            0xc2..=0xdf => (1, byte & 0x1f, (0x80, 0xbf)),
            0xe0 => (2, byte & 0xf, (0xa0, 0xbf)),
            0xed => (2, byte & 0xf, (0x80, 0x9f)),
            0xe1..=0xef => (2, byte & 0xf, (0x80, 0xbf)),
            0xf0 => (3, byte & 7, (0x90, 0xbf)),
            0xf1..=0xf3 => (3, byte & 7, (0x80, 0xbf)),
            0xf4 => (3, byte & 7, (0x80, 0x8f)),
            _ => return Some(Unit::Byte(byte)),
        };
        *self = Self { first: byte, missing, bits: u32::from(bits), next };
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> String {
        let mut decoder = Decoder::default();
        let mut units = Vec::new();
        for &byte in bytes {
            let (bad, unit) = decoder.push(byte);
            units.extend(bad.into_iter().chain(unit));
        }
        units.extend(decoder.flush());
        let char = |unit: &Unit| match unit {
            Unit::Char(char) => *char,
            Unit::Byte(_) => '\u{fffd}',
        };
        units.iter().map(char).collect()
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_decoded_as_the_standard_library_does_it(bytes: Vec<u8>) {
            proptest::prop_assert_eq!(decoded(&bytes), String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn so_are_characters_that_are_almost_whole(text: String, at: usize) {
            let mut bytes = text.into_bytes();
            if !bytes.is_empty() {
                bytes.remove(at % bytes.len());
            }
            proptest::prop_assert_eq!(decoded(&bytes), String::from_utf8_lossy(&bytes));
        }
    }
}
