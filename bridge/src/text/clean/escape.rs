//! Finds escape sequences in decoded input, and interprets the few that move within a line.
//!
//! ```text
//! ESC x            ESC ( x          one character, with intermediates before it
//! ESC [ … x        U+009B … x       CSI
//! ESC ] … BEL|ST   U+009D … ST      OSC; also DCS, APC, PM, SOS, and the title of screen
//! ```
//!
//! A sequence ends at the latest with its line, and after [`CSI`] or [`STRING`] characters; CAN,
//! SUB and a character that cannot belong to it end it, too. Skipped text is not kept, so memory
//! does not depend on the input. How much text was skipped without the end that a terminal would
//! wait for is reported to the caller: it may have been meant to disappear.

use super::utf8::Unit;

/// The longest CSI sequence; real ones have some tens of characters.
pub(super) const CSI: u64 = 128;

/// The longest string. Titles, links and clipboard contents are shorter; what is longer is a
/// picture, or hides output.
pub(super) const STRING: u64 = 4096;

/// The role of a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum UnitKind {
    /// It is not part of a sequence.
    Text,
    /// It is part of a sequence.
    Inside,
    /// It ends a sequence.
    Ended(Move),
    /// A sequence ended before this unit without its proper end, after this many characters of a
    /// string. Pass the unit again.
    GivenUp(u64),
}

/// What a sequence does within its line; [`Move::None`] for colours and everything else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Move {
    /// Nothing that matters here.
    None,
    /// To a column, from 0.
    Column(usize),
    /// This many columns back.
    Back(usize),
    /// Elsewhere, where the next word begins.
    Away,
    /// Erases from the cursor to the end.
    EraseRight,
    /// Erases the line.
    EraseAll,
}

/// The state between two units.
#[derive(Clone, Debug, Default)]
pub(super) struct Escapes {
    state: EscapeState,
    /// Characters since the sequence began.
    length: u64,
    number: Number,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum EscapeState {
    #[default]
    Ground,
    Escape,
    Intermediate,
    Csi,
    String,
    /// After an ESC that ends a string if a backslash follows.
    StringEscape,
}

/// The first parameter of a CSI sequence.
#[derive(Clone, Copy, Debug, Default)]
struct Number {
    value: Option<usize>,
    over: bool,
    private: bool,
}

impl Escapes {
    /// Whether no sequence has begun.
    pub(super) fn is_idle(&self) -> bool {
        self.state == EscapeState::Ground
    }

    /// Returns the role of the unit. `eight_bit`: whether a single byte that is not UTF-8 may begin
    /// a sequence.
    pub(super) fn step(&mut self, unit: Unit, eight_bit: bool) -> UnitKind {
        let state = self.state;
        if state != EscapeState::Ground && self.is_over(unit) {
            return self.give_up(EscapeState::Ground);
        }
        self.length += 1;
        match (state, unit) {
            (EscapeState::Ground, unit) => self.ground(unit, eight_bit),
            (EscapeState::Escape, Unit::Char(char)) => self.escape(char),
            (EscapeState::Intermediate, Unit::Char(' '..='/')) => UnitKind::Inside,
            (EscapeState::Intermediate, Unit::Char('0'..='~')) => self.end(Move::None),
            (EscapeState::Csi, Unit::Char(char)) => self.csi(char),
            (EscapeState::String, Unit::Char('\u{7}' | '\u{9c}') | Unit::Byte(0x9c)) => {
                self.end(Move::None)
            }
            (EscapeState::String, Unit::Char('\u{1b}')) => self.go(EscapeState::StringEscape),
            (EscapeState::String, _) => UnitKind::Inside,
            (EscapeState::StringEscape, Unit::Char('\\')) => self.end(Move::None),
            // An ESC that does not end the string begins a sequence of its own.
            (EscapeState::StringEscape, _) => self.give_up(EscapeState::Escape),
            _ => self.give_up(EscapeState::Ground),
        }
    }

    /// Ends the input; returns how much of a string was skipped without its end.
    pub(super) fn flush(&mut self) -> u64 {
        match self.give_up(EscapeState::Ground) {
            UnitKind::GivenUp(skipped) => skipped,
            _ => 0,
        }
    }

    /// Whether this unit ends the sequence, whatever kind of sequence it is.
    fn is_over(&self, unit: Unit) -> bool {
        let most = match self.state {
            EscapeState::String | EscapeState::StringEscape => STRING,
            _ => CSI,
        };
        self.length >= most || matches!(unit, Unit::Char('\n' | '\u{18}' | '\u{1a}'))
    }

    fn ground(&mut self, unit: Unit, eight_bit: bool) -> UnitKind {
        self.length = 0;
        let code = match unit {
            Unit::Char(char) => u32::from(char),
            Unit::Byte(byte) if eight_bit => u32::from(byte),
            Unit::Byte(_) => return UnitKind::Text,
        };
        match code {
            0x1b => self.go(EscapeState::Escape),
            0x9b => self.go(EscapeState::Csi),
            0x90 | 0x98 | 0x9d..=0x9f => self.go(EscapeState::String),
            _ => UnitKind::Text,
        }
    }

    fn escape(&mut self, char: char) -> UnitKind {
        match char {
            '[' => self.go(EscapeState::Csi),
            ']' | 'P' | 'X' | '^' | '_' | 'k' => self.go(EscapeState::String),
            ' '..='/' => self.go(EscapeState::Intermediate),
            '\u{1b}' => self.go(EscapeState::Escape),
            '0'..='~' => self.end(Move::None),
            _ => self.give_up(EscapeState::Ground),
        }
    }

    fn csi(&mut self, char: char) -> UnitKind {
        match char {
            '0'..='9' if !self.number.over => {
                let digit = usize::from(u8::try_from(char).unwrap_or(b'0') - b'0');
                let value = self.number.value.unwrap_or(0);
                self.number.value = Some(value.saturating_mul(10).saturating_add(digit));
                UnitKind::Inside
            }
            '<'..='?' => {
                self.number.private = true;
                UnitKind::Inside
            }
            ' '..='?' => {
                self.number.over = true;
                UnitKind::Inside
            }
            '@'..='~' => {
                let effect = self.number.effect(char);
                self.end(effect)
            }
            '\u{1b}' => self.go(EscapeState::Escape),
            // A terminal obeys controls within a sequence and continues the sequence.
            '\0'..='\u{1f}' | '\u{7f}' => UnitKind::Inside,
            _ => self.give_up(EscapeState::Ground),
        }
    }

    fn go(&mut self, state: EscapeState) -> UnitKind {
        self.state = state;
        if state != EscapeState::StringEscape {
            self.length = 0;
            self.number = Number::default();
        }
        UnitKind::Inside
    }

    fn end(&mut self, effect: Move) -> UnitKind {
        self.state = EscapeState::Ground;
        UnitKind::Ended(effect)
    }

    fn give_up(&mut self, next: EscapeState) -> UnitKind {
        let in_string = matches!(self.state, EscapeState::String | EscapeState::StringEscape);
        let skipped = if in_string { self.length } else { 0 };
        self.state = next;
        self.length = 0;
        self.number = Number::default();
        UnitKind::GivenUp(skipped)
    }
}

impl Number {
    fn effect(self, last: char) -> Move {
        let count = self.value.unwrap_or(0).max(1);
        match last {
            _ if self.private => Move::None,
            'G' | '`' => Move::Column(count - 1),
            'D' => Move::Back(count),
            'C' | 'H' | 'f' | 'a' => Move::Away,
            'K' if self.value.unwrap_or(0) == 0 => Move::EraseRight,
            'K' if self.value == Some(2) => Move::EraseAll,
            _ => Move::None,
        }
    }
}
