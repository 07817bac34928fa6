//! Decides which of a remote terminal's output may reach a person's own terminal.
//!
//! Passed on: text, colours, cursor, erasing, scrolling, the alternate screen, modes of drawing and
//! of the mouse, titles. Everything else is held back, whether we know it or not: whatever makes a
//! terminal answer, since its answer would be typed into the session (the agent answers instead);
//! the clipboard; files, printers and pictures; links to anything but the web; alphabets in which
//! plain bytes become controls; and strings for other programs. Each of these has broken a real
//! terminal.
//!
//! It works on chunks of any size, and keeps at most one sequence of [`LONGEST`] bytes. Invalid
//! UTF-8 comes out as U+FFFD: a lone byte could be an 8-bit control.

/// The longest sequence; a longer one is held back.
const LONGEST: usize = 4096;

/// The replacement for invalid bytes.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum PassageState {
    #[default]
    Ground,
    /// Within a multi-byte character; this many bytes are still to come.
    Char(u8),
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
    state: PassageState,
    /// The sequence so far, from its ESC on; or the character.
    sequence: Vec<u8>,
    /// A program has the screen to itself.
    alternate: bool,
}

impl Passage {
    /// Appends those of the bytes to `out` that may pass.
    pub fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.state == PassageState::Ground {
                // Most of it is plain text.
                let plain = rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len());
                if plain > 0 {
                    out.extend_from_slice(rest.get(..plain).unwrap_or_default());
                    rest = rest.get(plain..).unwrap_or_default();
                    continue;
                }
            }
            self.step(byte, out);
            rest = after;
        }
    }

    /// Whether a program has the screen to itself.
    pub fn alternate(&self) -> bool {
        self.alternate
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        use PassageState::{
            Char, Csi, Escape, Ground, Held, HeldEscape, Intermediate, Osc, OscEscape,
        };
        if matches!(byte, 0x18 | 0x1a) && !matches!(self.state, Ground | Char(_)) {
            self.state = Ground;
            self.sequence.clear();
            return;
        }
        self.state = match (self.state, byte) {
            (Ground, 0x1b) => self.begin(),
            // ENQ makes the terminal answer.
            (Ground, 0x05) => Ground,
            (Ground, 0x80..) => self.char(byte, out),
            (Ground, _) => {
                out.push(byte);
                Ground
            }
            (Char(left), 0x80..=0xbf) => {
                self.sequence.push(byte);
                if left > 1 { Char(left - 1) } else { self.end_char(out) }
            }
            (Char(_), _) => {
                out.extend_from_slice(REPLACEMENT);
                self.state = Ground;
                return self.step(byte, out);
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
            (Escape, 0x20..=0x2f) => self.more(byte, Intermediate),
            (Intermediate, 0x20..=0x2f) => self.more(byte, Intermediate),
            (Escape | Intermediate, 0x30..=0x7e) => {
                match short(self.sequence.get(1..).unwrap_or_default(), byte) {
                    true => self.release(byte, out),
                    false => Ground,
                }
            }
            (Csi, 0x20..=0x3f) => self.more(byte, Csi),
            (Csi, 0x40..=0x7e) => match draws(self.sequence.get(2..).unwrap_or_default(), byte) {
                true => self.release(byte, out),
                false => Ground,
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
            // A character that cannot belong to a sequence aborts it.
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

    fn begin(&mut self) -> PassageState {
        self.sequence.clear();
        self.sequence.push(0x1b);
        PassageState::Escape
    }

    fn more(&mut self, byte: u8, state: PassageState) -> PassageState {
        if self.sequence.len() >= LONGEST {
            return PassageState::Held;
        }
        self.sequence.push(byte);
        state
    }

    fn release(&mut self, byte: u8, out: &mut Vec<u8>) -> PassageState {
        match (self.sequence.as_slice(), byte) {
            (b"\x1b[?1049" | b"\x1b[?1047" | b"\x1b[?47", b'h' | b'l') => {
                self.alternate = byte == b'h';
            }
            // RIS resets everything.
            (b"\x1b", b'c') => self.alternate = false,
            _ => {}
        }
        out.append(&mut self.sequence);
        out.push(byte);
        PassageState::Ground
    }

    /// Begins a character of several bytes.
    fn char(&mut self, first: u8, out: &mut Vec<u8>) -> PassageState {
        let left = match first {
            0xc2..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf4 => 3,
            _ => {
                out.extend_from_slice(REPLACEMENT);
                return PassageState::Ground;
            }
        };
        self.sequence.clear();
        self.sequence.push(first);
        PassageState::Char(left)
    }

    fn end_char(&mut self, out: &mut Vec<u8>) -> PassageState {
        match std::str::from_utf8(&self.sequence) {
            // U+0080 to U+009F are 8-bit controls.
            Ok(text) if text.chars().any(char::is_control) => {}
            Ok(text) => out.extend_from_slice(text.as_bytes()),
            Err(_) => out.extend_from_slice(REPLACEMENT),
        }
        self.sequence.clear();
        PassageState::Ground
    }

    fn end_osc(&mut self, out: &mut Vec<u8>) {
        let body = self.sequence.get(2..).unwrap_or_default();
        let body = body.strip_suffix(b"\x07").or_else(|| body.strip_suffix(b"\x1b\\"));
        // An 8-bit terminal would end it at any C1 within it.
        let text = body.and_then(|body| std::str::from_utf8(body).ok());
        if text.is_some_and(|text| !text.contains(char::is_control) && titles_or_links(text)) {
            out.append(&mut self.sequence);
        }
        self.sequence.clear();
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e | b'\n' | b'\r' | b'\t' | 0x08)
}

/// Titles, and links to the web.
fn titles_or_links(text: &str) -> bool {
    let mut parts = text.splitn(3, ';');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("0" | "1" | "2"), Some(_), _) => true,
        (Some("8"), Some(_), Some(link)) => {
            link.is_empty() || link.starts_with("http://") || link.starts_with("https://")
        }
        _ => false,
    }
}

/// Whether a sequence without parameters may pass.
fn short(intermediates: &[u8], last: u8) -> bool {
    match intermediates {
        // Cursor, scrolling, tabs, keypad, reset, columns, the end of a string. DECID makes the
        // terminal answer.
        b"" => b"78DEMHc=>69\\".contains(&last),
        // 7-bit character sets, such as line drawing; not those that leave UTF-8, nor 8-bit C1.
        b"(" | b")" | b"*" | b"+" => b"B0A<>%".contains(&last),
        // Line sizes, and the alignment pattern.
        b"#" => b"34568".contains(&last),
        _ => false,
    }
}

/// Whether a control sequence only draws.
fn draws(parameters: &[u8], last: u8) -> bool {
    let numbers = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b'0'..=b';'));
    if let Some(modes) = parameters.strip_prefix(b"?") {
        let all = |modes: &[u8]| modes.split(|byte| *byte == b';').all(is_mode);
        return match last {
            b'h' | b'l' => numbers(modes) && all(modes),
            b'J' | b'K' => numbers(modes),
            _ => false,
        };
    }
    let split = parameters.iter().position(|byte| !numbers(&[*byte])).unwrap_or(parameters.len());
    let (before, intermediates) = parameters.split_at(split);
    match (intermediates, last) {
        // Insert mode and the visible cursor, but not locking the keyboard.
        (b"", b'h' | b'l') => matches!(before, b"4" | b"34"),
        (b"", b'@'..=b'M' | b'P' | b'S' | b'T' | b'X' | b'Z') => true,
        (b"", b'`' | b'a' | b'b' | b'd'..=b'g' | b'm' | b'r' | b's' | b'u') => true,
        // Scrolling sideways, and the shape of the cursor.
        (b" ", b'@' | b'A' | b'q') => true,
        (b"!", b'p') => true,
        (b"\"", b'q') => true,
        // Rectangles are copied, filled and erased; columns are inserted and deleted.
        (b"$", b'v' | b'x' | b'z' | b'{' | b'r' | b't') => true,
        (b"'", b'}' | b'~') => true,
        _ => false,
    }
}

/// The private modes that change what is drawn, what keys send, or how the mouse is reported.
fn is_mode(number: &[u8]) -> bool {
    const MODES: [&[u8]; 29] = [
        b"1", b"4", b"5", b"6", b"7", b"8", b"9", b"12", b"25", b"45", b"47", b"66", b"69",
        b"1000", b"1001", b"1002", b"1003", b"1004", b"1005", b"1006", b"1007", b"1015", b"1016",
        b"1047", b"1048", b"1049", b"2004", b"2026", b"2027",
    ];
    MODES.contains(&number)
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

    /// The same, one byte at a time.
    fn dripped(text: &[u8]) -> Vec<u8> {
        let (mut out, mut passage) = (Vec::new(), Passage::default());
        text.chunks(1).for_each(|byte| passage.pass(byte, &mut out));
        out
    }

    #[test]
    fn drawing_passes_as_it_is() {
        for text in [
            "plain\r\n\t\u{e9}\u{1f600}\u{201b}6n\u{7}\u{8}",
            "\x1b[1;31mred\x1b[m\x1b[2J\x1b[H\x1b[10;20r\x1b[?1049h\x1b[?25l\x1b[?2004h",
            "\x1b7\x1b8\x1b(B\x1b(0\x1b=\x1b>\x1bM\x1bc\x1b[!p\x1b[2 q\x1b[38:2::1:2:3m",
            "\x1b[3@\x1b[4h\x1b[4l\x1b[5b\x1b[3g\x1b[s\x1b[u\x1b[2L\x1b[2M\x1b[2P\x1b[2X\x1b[2S\x1b[2T\x1b[2d",
            "\x1b[?1000;1006h\x1b[?1000;1006l\x1b[?2026h\x1b[?7l\x1b[?1h\x1b[?12;25h\x1b[1;2H",
            "\x1b]0;title\x07\x1b]2;t\u{2013}\x1b\\\x1b]8;id=1;https://x.example/\x07link\x1b]8;;\x07",
        ] {
            assert_eq!(String::from_utf8(passed(text.as_bytes())).unwrap(), text, "{text:?}");
            assert_eq!(dripped(text.as_bytes()), text.as_bytes(), "{text:?}");
        }
    }

    /// What each would do, and its bytes.
    const HARMFUL: [(&str, &[u8]); 62] = [
        ("primary attributes", b"\x1b[c"),
        ("primary attributes", b"\x1b[0c"),
        ("secondary attributes", b"\x1b[>c"),
        ("tertiary attributes", b"\x1b[=c"),
        ("DECID", b"\x1bZ"),
        ("status", b"\x1b[5n"),
        ("cursor position", b"\x1b[6n"),
        ("cursor position, DEC", b"\x1b[?6n"),
        ("title report", b"\x1b[21t"),
        ("icon report", b"\x1b[20t"),
        ("size report", b"\x1b[14t"),
        ("pushed title", b"\x1b[22;0t"),
        ("moved window", b"\x1b[3;0;0t"),
        ("DECRQM", b"\x1b[?2026$p"),
        ("DECRQM, ANSI", b"\x1b[4$p"),
        ("DECRQPSR", b"\x1b[1$w"),
        ("DECRQDE", b"\x1b[\"v"),
        ("DECREQTPARM", b"\x1b[x"),
        ("DECRQCRA", b"\x1b[1;1;1;1;9;9*y"),
        ("DECRQLP", b"\x1b['|"),
        ("DECELR", b"\x1b[1'z"),
        ("DECSR", b"\x1b[1+p"),
        ("DECTST", b"\x1b[2;1y"),
        ("XTVERSION", b"\x1b[>q"),
        ("XTREPORTSGR", b"\x1b[#|"),
        ("XTREPORTCOLORS", b"\x1b[#R"),
        ("XTSMGRAPHICS", b"\x1b[?1;1S"),
        ("keys as other keys", b"\x1b[>4;2m"),
        ("how keys are sent", b"\x1b[?4m"),
        ("kitty's keyboard", b"\x1b[?u"),
        ("kitty's keyboard", b"\x1b[>1u"),
        ("kitty's keyboard", b"\x1b[=1;1u"),
        ("printer", b"\x1b[5i"),
        ("printer", b"\x1b[?5i"),
        ("locked keyboard", b"\x1b[2h"),
        ("VT52", b"\x1b[?2l"),
        ("132 columns", b"\x1b[?3h"),
        ("sizes told unasked", b"\x1b[?2048h"),
        ("win32 input", b"\x1b[?9001h"),
        ("conformance", b"\x1b[62;1\"p"),
        ("status line", b"\x1b[1$}"),
        ("answerback", b"\x05"),
        ("out of UTF-8", b"\x1b%@"),
        ("answers of eight bits", b"\x1b G"),
        ("locking shift", b"\x1bn"),
        ("clipboard", b"\x1b]52;c;aGk=\x07"),
        ("clipboard query", b"\x1b]52;c;?\x1b\\"),
        ("colour query", b"\x1b]10;?\x07"),
        ("colour query", b"\x1b]11;?\x1b\\"),
        ("palette query", b"\x1b]4;1;?\x1b\\"),
        ("font", b"\x1b]50;x\x07"),
        ("file of iTerm2", b"\x1b]1337;File=:AA\x07"),
        ("link to a file", b"\x1b]8;;file:///etc/passwd\x07"),
        ("link to a program", b"\x1b]8;;ssh://-oProxyCommand=x\x07"),
        ("a mark of a shell", b"\x1b]133;A;nonce\x07"),
        ("XTGETTCAP", b"\x1bP+q544e\x1b\\"),
        ("DECRQSS", b"\x1bP$qm\x1b\\"),
        ("sixel", b"\x1bPq#0;2;0;0;0\x1b\\"),
        ("kitty graphics", b"\x1b_Gq=1\x1b\\"),
        ("PM", b"\x1b^x\x1b\\"),
        ("SOS", b"\x1bXx\x1b\\"),
        ("title of screen", b"\x1bkx\x1b\\"),
    ];

    #[test]
    fn what_makes_a_terminal_answer_or_act_does_not_pass_wherever_it_is_cut() {
        for (what, bytes) in HARMFUL {
            let text = [b"a", bytes, b"z"].concat();
            for cut in 0..=text.len() {
                let (mut out, mut passage) = (Vec::new(), Passage::default());
                let (first, second) = text.split_at(cut);
                passage.pass(first, &mut out);
                passage.pass(second, &mut out);
                assert_eq!(out, b"az", "{what}, cut at {cut}: {:?}", String::from_utf8_lossy(&out));
            }
        }
        assert_eq!(passed(b"a\x1b]52;c;x\x07b\x1bPx\x1b\\c\x1b[6nd"), b"abcd");
        // A sequence within another begins anew, and is held to the same.
        assert_eq!(passed(b"\x1b[\x1b[6nx\x1b]0;a\x1b]52;c;y\x07z"), b"xz");
    }

    #[test]
    fn controls_of_eight_bits_do_not_pass_in_any_form() {
        for text in [
            b"\x9b6n".as_slice(),
            b"\x9d52;c;x\x9c",
            b"\x90+q544e\x9c",
            b"\xc2\x9b6n",
            b"\xc2\x9d52;c;x\xc2\x9c",
            // Longer than need be, as old decoders take it.
            b"\xe0\x82\x9b6n",
            b"\xf0\x80\x82\x9b6n",
            // A title that ends early where C1 are controls.
            b"\x1b]0;x\x9c\x9b6n\x07",
            b"\x1b]2;x\xc2\x9c\xc2\x9b6n\x07",
            // A character that is cut off by another.
            b"\xe2\x9b\x1b[6n",
            b"\xc2\xe2\x9b",
        ] {
            for out in [passed(text), dripped(text)] {
                let out = String::from_utf8(out).expect("what passes is text");
                assert!(!out.contains(|c: char| c.is_control()), "{text:?}: {out:?}");
            }
        }
        assert_eq!(passed(b"caf\xe9 \xff"), "caf\u{fffd} \u{fffd}".as_bytes());
    }

    #[test]
    fn a_program_that_has_the_screen_to_itself_is_known() {
        let (mut out, mut passage) = (Vec::new(), Passage::default());
        let mut after = |bytes: &[u8]| {
            passage.pass(bytes, &mut out);
            passage.alternate()
        };
        assert!(!after(b"x\x1b[?104"));
        assert!(after(b"9h"));
        assert!(after(b"\x1b[?25l text"));
        assert!(!after(b"\x1b[?1049l"));
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_passes(
            bytes in prop::collection::vec(prop_oneof![
                Just(0x1b), Just(b']'), Just(b'['), Just(b'P'), Just(b'\\'), Just(0x07), Just(b'c'),
                Just(b';'), Just(b'5'), Just(b'2'), Just(0xc2), Just(0xe2), Just(0x80), Just(0x9b), Just(0x18),
                any::<u8>()
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
        bolero::check!().for_each(|bytes: &[u8]| {
            let out = passed(bytes);
            assert!(out.len() <= bytes.len() * REPLACEMENT.len());
            let text = String::from_utf8(out).expect("what passes is text");
            assert!(!text.chars().any(|c| matches!(c, '\u{80}'..='\u{9f}' | '\u{5}')));
        });
    }
}
