//! What of a remote terminal's output may reach a person's own terminal.
//!
//! Passed on: text, colours, cursor, erasing, scrolling, the alternate screen, modes, titles. Held
//! back: whatever makes a terminal answer, since its answer would be typed into the session (the agent
//! answers instead); the clipboard; files and pictures; links to anything but the web; and strings that
//! are for other programs. A real terminal has been broken by each of these.
//!
//! Works on pieces of any size, and keeps at most one sequence of [`LONGEST`] bytes.

/// A longer sequence is held back.
const LONGEST: usize = 4096;

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Ground,
    /// After 0xC2: a C1 control in UTF-8 may follow.
    Lead,
    Escape,
    Intermediate,
    Csi,
    Osc,
    OscEscape,
    /// A string that is held back.
    Held,
    HeldEscape,
}

/// The filter of one terminal.
#[derive(Debug, Default)]
pub struct Passage {
    state: State,
    /// The sequence so far, from its ESC on.
    sequence: Vec<u8>,
}

impl Passage {
    /// Adds to `out` what of these bytes may pass.
    pub fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            self.step(byte, out);
        }
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        use State::{Csi, Escape, Ground, Held, HeldEscape, Intermediate, Lead, Osc, OscEscape};
        if matches!(byte, 0x18 | 0x1a) && self.state != Ground {
            self.state = Ground;
            self.sequence.clear();
            return;
        }
        self.state = match (self.state, byte) {
            (Lead, 0x80..=0x9f) => Ground,
            (Lead, 0xa0..=0xbf) => {
                out.extend_from_slice(&[0xc2, byte]);
                Ground
            }
            (Lead, _) => {
                // Alone it is no text, and could become a control with what comes to stand after it.
                self.state = Ground;
                return self.step(byte, out);
            }
            (Ground, 0x1b) => self.begin(),
            (Ground, 0xc2) => Lead,
            // ENQ asks, SO and SI change the alphabet under our feet.
            (Ground, 0x05 | 0x0e | 0x0f) => Ground,
            (Ground, _) => {
                out.push(byte);
                Ground
            }
            (HeldEscape | OscEscape, b'\\') => {
                if self.state == OscEscape {
                    self.sequence.push(byte);
                    self.end_osc(out);
                }
                Ground
            }
            (Escape, b'[') => self.more(byte, Csi),
            (Escape, b']') => self.more(byte, Osc),
            (Escape, b'P' | b'X' | b'^' | b'_' | b'k') => Held,
            // DECID asks.
            (Escape, b'Z') => Ground,
            (Escape, 0x20..=0x2f) => self.more(byte, Intermediate),
            (Escape, 0x30..=0x7e) => self.release(byte, out),
            (Intermediate, 0x20..=0x2f) => self.more(byte, Intermediate),
            (Intermediate, 0x30..=0x7e) => self.release(byte, out),
            (Csi, 0x20..=0x3f) => self.more(byte, Csi),
            (Csi, 0x40..=0x7e) => match asks(self.sequence.get(2..).unwrap_or_default(), byte) {
                true => Ground,
                false => self.release(byte, out),
            },
            (Osc, 0x07) => {
                self.sequence.push(byte);
                self.end_osc(out);
                Ground
            }
            (Osc, 0x1b) => self.more(byte, OscEscape),
            (Osc, 0x20..) => self.more(byte, Osc),
            (Held, 0x07) => Ground,
            (Held, 0x1b) => HeldEscape,
            (Held, _) => Held,
            // What cannot belong to a sequence breaks it off.
            (_, 0x1b) => self.begin(),
            (HeldEscape | OscEscape, _) => {
                self.begin();
                self.state = Escape;
                return self.step(byte, out);
            }
            (Csi | Escape | Intermediate, 0x08 | 0x09 | 0x0a | 0x0d) => {
                // A terminal carries these out at once, within the sequence.
                out.push(byte);
                self.state
            }
            _ => Ground,
        };
    }

    fn begin(&mut self) -> State {
        self.sequence.clear();
        self.sequence.push(0x1b);
        State::Escape
    }

    fn more(&mut self, byte: u8, state: State) -> State {
        if self.sequence.len() >= LONGEST {
            return State::Held;
        }
        self.sequence.push(byte);
        state
    }

    fn release(&mut self, byte: u8, out: &mut Vec<u8>) -> State {
        out.append(&mut self.sequence);
        out.push(byte);
        State::Ground
    }

    fn end_osc(&mut self, out: &mut Vec<u8>) {
        let body = self.sequence.get(2..).unwrap_or_default();
        let mut parts = body.splitn(3, |byte| *byte == b';');
        let may_pass = match (parts.next(), parts.next(), parts.next()) {
            (Some(b"0" | b"1" | b"2"), Some(_), _) => true,
            (Some(b"8"), Some(_), Some(link)) => {
                let end = [b"\x07".as_slice(), b"\x1b\\"];
                end.contains(&link)
                    || [b"http://".as_slice(), b"https://"].iter().any(|web| link.starts_with(web))
            }
            _ => false,
        };
        if may_pass {
            out.append(&mut self.sequence);
        }
        self.sequence.clear();
    }
}

/// Whether a control sequence makes the terminal answer, or do what is not drawing.
fn asks(parameters: &[u8], last: u8) -> bool {
    let first = parameters.split(|byte| *byte == b';').next().unwrap_or_default();
    match last {
        // Attributes, status, terminal parameters.
        b'c' | b'n' | b'x' => true,
        // Window operations: those from 11 on report or push titles; the others move windows.
        b't' => true,
        // DECRQM, DECRQPSR, DECRQDE and the like.
        b'p' => parameters.ends_with(b"$") || parameters.ends_with(b"\""),
        b'w' | b'y' | b'z' | b'{' | b'|' => parameters.iter().any(|byte| b"$*'".contains(byte)),
        // XTVERSION, and the keyboard of kitty.
        b'q' => first.starts_with(b">"),
        b'u' => parameters.iter().any(|byte| b"?<>=".contains(byte)),
        // What keys send is between the program and our own terminal's modes.
        b'm' => first.starts_with(b">") || first.starts_with(b"?"),
        b'S' => first.starts_with(b"?"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passed(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Passage::default().pass(text, &mut out);
        out
    }

    #[test]
    fn drawing_passes_as_it_is() {
        for text in [
            "plain\r\n\t\u{e9}\u{1f600}\u{7}\u{8}",
            "\x1b[1;31mred\x1b[m\x1b[2J\x1b[H\x1b[10;20r\x1b[?1049h\x1b[?25l\x1b[?2004h",
            "\x1b7\x1b8\x1b(B\x1b=\x1b>\x1bM\x1bc\x1b[!p\x1b[2 q\x1b[38:2::1:2:3m",
            "\x1b]0;title\x07\x1b]2;t\x1b\\\x1b]8;;https://x.example/\x07link\x1b]8;;\x07",
        ] {
            assert_eq!(String::from_utf8(passed(text.as_bytes())).unwrap(), text, "{text:?}");
        }
    }

    #[test]
    fn what_makes_a_terminal_answer_or_act_does_not_pass() {
        for text in [
            "\x1b[c",
            "\x1b[0c",
            "\x1b[>c",
            "\x1b[=c",
            "\x1b[5n",
            "\x1b[6n",
            "\x1b[?6n",
            "\x1b[21t",
            "\x1b[14t",
            "\x1b[22;0t",
            "\x1b[?2026$p",
            "\x1b[>q",
            "\x1b[?u",
            "\x1b[>1u",
            "\x1bZ",
            "\x05",
            "\x1b]52;c;aGk=\x07",
            "\x1b]10;?\x07",
            "\x1b]4;1;?\x1b\\",
            "\x1b]1337;File=:AA\x07",
            "\x1b]50;x\x07",
            "\x1b]8;;file:///etc/passwd\x07",
            "\x1b]133;A;nonce\x07",
            "\x1bP+q544e\x1b\\",
            "\x1bPq#0;2;0;0;0\x1b\\",
            "\x1b_Gq=1\x1b\\",
            "\x1b^x\x1b\\",
            "\x1bXx\x1b\\",
            "\u{9b}6n\u{9d}52;c;x\u{9c}",
        ] {
            let out = passed(text.as_bytes());
            let rest = String::from_utf8_lossy(&out).into_owned();
            assert!(!rest.contains(['\x1b', '\x05', '\u{9b}', '\u{9d}']), "{text:?}: {rest:?}");
        }
        assert_eq!(passed(b"a\x1b]52;c;x\x07b\x1bPx\x1b\\c\x1b[6nd"), b"abcd");
        // A sequence within another begins anew, and is held to the same.
        assert_eq!(passed(b"\x1b[\x1b[6nx\x1b]0;a\x1b]52;c;y\x07z"), b"xz");
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_passes(
            bytes in prop::collection::vec(prop_oneof![
                Just(0x1b), Just(b']'), Just(b'['), Just(b'P'), Just(b'\\'), Just(0x07), Just(b'c'),
                Just(b';'), Just(b'5'), Just(b'2'), Just(0xc2), Just(0x9b), Just(0x18), any::<u8>()
            ], 0..200),
            cut in 0..200_usize,
        ) {
            let whole = passed(&bytes);
            let mut parts = Vec::new();
            let mut passage = Passage::default();
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            passage.pass(first, &mut parts);
            passage.pass(second, &mut parts);
            prop_assert_eq!(&whole, &parts);
            // What has passed once passes again: nothing that was held back comes together anew.
            prop_assert_eq!(passed(&whole), whole);
        }
    }

    #[test]
    fn any_bytes_pass_or_do_not() {
        bolero::check!().for_each(|bytes: &[u8]| assert!(passed(bytes).len() <= bytes.len()));
    }
}
