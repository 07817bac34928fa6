//! Keys by their names, and text, as the bytes that a terminal sends for them.
//!
//! The sequences are xterm's: <https://invisible-island.net/xterm/ctlseqs/ctlseqs.html>.

use farwire_protocol::failure::{Failure, Kind};

/// How the program wants its keys.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) application_cursor: bool,
    pub(crate) bracketed_paste: bool,
}

/// How a tab in text reaches a program as a character rather than as the key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Takes {
    /// The program gets pastes marked as such.
    Pastes,
    /// The kernel gives the program whole lines, in which a tab is a character like any other.
    Lines,
    /// Its line editor takes what follows ctrl-v literally.
    Quoted,
    /// It takes keys one by one: there is no way.
    Keys,
    /// Nobody reads now, and the next reader may take it either way.
    Nobody,
}

const PASTE: &[u8] = b"\x1b[200~";
const PASTED: &[u8] = b"\x1b[201~";

/// The unsolicited reports that a program has enabled.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Reports {
    /// That it has the focus, or has lost it.
    pub(crate) focus: bool,
    /// Where the mouse is.
    pub(crate) mouse: bool,
}

impl Reports {
    /// Whether these bytes are enabled reports, which nobody has typed.
    pub(crate) fn has(self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while let Some(length) = self.first(rest) {
            rest = rest.get(length..).unwrap_or_default();
        }
        rest.is_empty() && !bytes.is_empty()
    }

    /// The length of the report at the beginning of these bytes, if there is one.
    fn first(self, bytes: &[u8]) -> Option<usize> {
        let rest = bytes.strip_prefix(b"\x1b[")?;
        match rest {
            [b'I' | b'O', ..] if self.focus => Some(3),
            [b'M', at @ ..] if self.mouse => {
                let at = at.get(..3)?;
                at.iter().all(|byte| *byte >= b' ').then_some(6)
            }
            [b'<', mouse @ ..] if self.mouse => {
                let end = mouse.iter().position(|byte| matches!(byte, b'M' | b'm'))?;
                let numbers = mouse.get(..end)?;
                let fits = numbers.iter().all(|byte| byte.is_ascii_digit() || *byte == b';');
                fits.then_some(end + 4)
            }
            _ => None,
        }
    }
}

/// The bytes of a key: `enter`, `ctrl-c`, `alt-x`, `shift-tab`, `ctrl-left`, `f5`.
pub(crate) fn key(name: &str, wanted: Wanted) -> Result<Vec<u8>, Failure> {
    let lower = name.trim().to_ascii_lowercase().replace(['_', '+'], "-");
    bytes(&lower, wanted).ok_or_else(|| {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
        Failure::new(Kind::InvalidArgument, format!("`{shown}` is not a key")).with_hint(
            "use enter, tab, escape, up, home, f5, ctrl-c, alt-b, shift-tab and the like",
        )
    })
}

fn bytes(name: &str, wanted: Wanted) -> Option<Vec<u8>> {
    let (mut shift, mut alt, mut ctrl) = (false, false, false);
    let mut rest = name;
    // A lone `-` at the end is the key itself: `ctrl--`.
    while let Some((modifier, key)) = rest.split_once('-').filter(|(_, key)| !key.is_empty()) {
        match modifier {
            "shift" | "s" => shift = true,
            "alt" | "meta" | "m" => alt = true,
            "ctrl" | "control" | "c" => ctrl = true,
            _ => break,
        }
        rest = key;
    }
    let modifier = 1 + u8::from(shift) + 2 * u8::from(alt) + 4 * u8::from(ctrl);
    if let Some(sequence) = special(rest, modifier, wanted) {
        return Some(sequence);
    }
    let mut plain = match rest {
        "enter" | "return" | "cr" => vec![b'\r'],
        "tab" if shift => b"\x1b[Z".to_vec(),
        "tab" => vec![b'\t'],
        "escape" | "esc" => vec![0x1b],
        "backspace" | "bs" if ctrl => vec![0x08],
        "backspace" | "bs" => vec![0x7f],
        "space" if ctrl => vec![0],
        "space" => vec![b' '],
        _ => {
            let mut chars = rest.chars();
            let char = chars.next().filter(|c| !c.is_control())?;
            if chars.next().is_some() {
                return None;
            }
            let char = if shift { char.to_ascii_uppercase() } else { char };
            if ctrl { vec![control(char)?] } else { char.to_string().into_bytes() }
        }
    };
    if alt {
        plain.insert(0, 0x1b);
    }
    Some(plain)
}

fn control(char: char) -> Option<u8> {
    Some(match char.to_ascii_lowercase() {
        letter @ 'a'..='z' => letter as u8 - b'a' + 1,
        '@' | '2' => 0,
        '[' | '3' => 0x1b,
        '\\' | '4' => 0x1c,
        ']' | '5' => 0x1d,
        '^' | '6' => 0x1e,
        '_' | '7' | '/' | '-' => 0x1f,
        '?' | '8' => 0x7f,
        _ => return None,
    })
}

/// Keys that send a sequence.
fn special(name: &str, modifier: u8, wanted: Wanted) -> Option<Vec<u8>> {
    let letter = match name {
        "up" => 'A',
        "down" => 'B',
        "right" => 'C',
        "left" => 'D',
        "home" => 'H',
        "end" => 'F',
        "f1" => 'P',
        "f2" => 'Q',
        "f3" => 'R',
        "f4" => 'S',
        _ => {
            let number = match name {
                "insert" | "ins" => 2,
                "delete" | "del" => 3,
                "pageup" | "page-up" | "pgup" => 5,
                "pagedown" | "page-down" | "pgdn" => 6,
                "f5" => 15,
                "f6" => 17,
                "f7" => 18,
                "f8" => 19,
                "f9" => 20,
                "f10" => 21,
                "f11" => 23,
                "f12" => 24,
                _ => return None,
            };
            let text = match modifier {
                1 => format!("\x1b[{number}~"),
                _ => format!("\x1b[{number};{modifier}~"),
            };
            return Some(text.into_bytes());
        }
    };
    let text = match (modifier, letter) {
        (1, 'P'..='S') => format!("\x1bO{letter}"),
        (1, _) if wanted.application_cursor => format!("\x1bO{letter}"),
        (1, _) => format!("\x1b[{letter}"),
        _ => format!("\x1b[1;{modifier}{letter}"),
    };
    Some(text.into_bytes())
}

/// The bytes of text that is typed. Line feeds become what the enter key sends; several lines are
/// pasted, if the program supports that, so that none is executed before the last.
pub(crate) fn text(text: &[u8], wanted: Wanted) -> Vec<u8> {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    match wanted.bracketed_paste && memchr::memchr(b'\n', body).is_some() {
        true => pasted(text),
        false => entered(text),
    }
}

/// The bytes of text that is data: only the end of a line is sent as a key. `takes` says how tabs
/// are typed.
///
/// # Errors
///
/// `invalid_argument` for other control characters, and for tabs where the program takes keys one
/// by one; `terminal_busy` for tabs where nobody reads.
pub(crate) fn literal(
    text: &[u8],
    wanted: Wanted,
    takes: Option<Takes>,
) -> Result<Vec<u8>, Failure> {
    if let Some(control) = text.iter().find(|byte| is_control(**byte)) {
        return Err(refusal(format!("text has the control character {}", caret(*control)))
            .with_hint("text is typed literally; give keys such as ctrl-c and escape as keys"));
    }
    if !text.contains(&b'\t') {
        return Ok(self::text(text, wanted));
    }
    match takes {
        Some(Takes::Pastes) => Ok(pasted(text)),
        Some(Takes::Lines) => Ok(entered(text)),
        Some(Takes::Quoted) => {
            let quoted = text.iter().flat_map(|&byte| match byte {
                b'\t' => [0x16, b'\t'].into_iter().take(2),
                _ => [byte, 0].into_iter().take(1),
            });
            Ok(entered(&quoted.collect::<Vec<u8>>()))
        }
        Some(Takes::Nobody) => {
            let text = "no program reads the terminal now: a tab in text would act as the tab key";
            Err(Failure::new(Kind::TerminalBusy, text)
                .with_hint("wait until the program or the shell reads, or omit tabs"))
        }
        Some(Takes::Keys) | None => {
            let text = "the program reads single keys: a tab in text would act as the tab key";
            Err(refusal(text)
                .with_hint("give tab as a key, or write the text to a file and read that"))
        }
    }
}

/// Checks that a secret has no control characters: it is typed as it is to a terminal that reads
/// whole lines, where they would act as keys.
pub(crate) fn check_secret(secret: &[u8]) -> Result<(), Failure> {
    match secret.iter().any(|byte| is_control(*byte) || matches!(byte, b'\r' | b'\n')) {
        true => Err(refusal(
            "the secret has a line end or another control character, which cannot be typed",
        )),
        false => Ok(()),
    }
}

fn refusal(text: impl Into<String>) -> Failure {
    Failure::new(Kind::InvalidArgument, text)
}

/// Whether it is neither text, nor a tab, nor the end of a line.
fn is_control(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | 0x7f) && !matches!(byte, b'\t' | b'\n' | b'\r')
}

/// `^C` for 3.
fn caret(control: u8) -> String {
    format!("^{}", char::from(control ^ 0x40))
}

/// Each line feed as the enter key sends it. CR LF is one end of a line.
fn entered(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    let mut before = 0;
    for &byte in text {
        match byte {
            b'\n' if before == b'\r' => {}
            b'\n' => out.push(b'\r'),
            _ => out.push(byte),
        }
        before = byte;
    }
    out
}

/// As one paste, and the end of the last line after it.
fn pasted(text: &[u8]) -> Vec<u8> {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let mut out = PASTE.to_vec();
    // Nothing in it may end the paste early.
    let mut rest = body;
    while let Some(at) = memchr::memmem::find(rest, PASTED) {
        out.extend(entered(rest.get(..at).unwrap_or_default()));
        rest = rest.get(at + PASTED.len()..).unwrap_or_default();
    }
    out.extend(entered(rest));
    out.extend_from_slice(PASTED);
    if body.len() < text.len() {
        out.push(b'\r');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(name: &str) -> Vec<u8> {
        key(name, Wanted::default()).unwrap()
    }

    #[test]
    fn what_a_terminal_reports_by_itself_is_told_from_keys() {
        let (focus, mouse) =
            (["\x1b[I", "\x1b[O", "\x1b[O\x1b[I"], ["\x1b[M !!", "\x1b[<0;12;40M\x1b[<0;12;40m"]);
        let keys = [
            "",
            "I",
            "\x1b",
            "\x1b[",
            "\x1bOA",
            "\x1b[A",
            "\x1b[Ox",
            "x\x1b[O",
            "\x1b[M !",
            "\x1b[<0;x",
            "\x1b[<0xM",
            "\x1b[Mid\r",
            "\x1b[M\x03\x03\x03",
        ];
        for (of_focus, of_mouse) in [(false, false), (true, false), (false, true), (true, true)] {
            let reports = Reports { focus: of_focus, mouse: of_mouse };
            let has = |text: &str| reports.has(text.as_bytes());
            assert!(focus.iter().all(|text| has(text) == of_focus), "{reports:?}");
            assert!(mouse.iter().all(|text| has(text) == of_mouse), "{reports:?}");
            assert!(!keys.iter().any(|text| has(text)), "{reports:?}");
        }
    }

    #[test]
    fn keys_send_what_xterm_sends() {
        for (name, bytes) in [
            ("enter", "\r"),
            ("tab", "\t"),
            ("shift-tab", "\x1b[Z"),
            ("ctrl-c", "\x03"),
            ("Ctrl+D", "\x04"),
            ("ctrl_z", "\x1a"),
            ("ctrl-]", "\x1d"),
            ("ctrl--", "\x1f"),
            ("ctrl-space", "\0"),
            ("alt-b", "\x1bb"),
            ("alt-enter", "\x1b\r"),
            ("esc", "\x1b"),
            ("backspace", "\x7f"),
            ("up", "\x1b[A"),
            ("ctrl-left", "\x1b[1;5D"),
            ("shift-alt-end", "\x1b[1;4F"),
            ("f1", "\x1bOP"),
            ("ctrl-f1", "\x1b[1;5P"),
            ("f12", "\x1b[24~"),
            ("page-up", "\x1b[5~"),
            ("shift-del", "\x1b[3;2~"),
            ("-", "-"),
            ("ü", "ü"),
            ("shift-a", "A"),
        ] {
            assert_eq!(String::from_utf8(sent(name)).unwrap(), bytes, "{name}");
        }
        for wrong in ["", "ctrl-", "enterr", "ctrl-ü", "hyper-x", "\u{7}"] {
            let failure = key(wrong, Wanted::default()).unwrap_err();
            assert_eq!(failure.kind, Kind::InvalidArgument, "{wrong}");
        }
        let wanted = Wanted { application_cursor: true, ..Wanted::default() };
        assert_eq!(key("up", wanted).unwrap(), b"\x1bOA");
        assert_eq!(key("ctrl-up", wanted).unwrap(), b"\x1b[1;5A");
    }

    /// Every name, what it sends, and what it sends in application cursor mode if that differs.
    const TABLE: [(&str, &str, Option<&str>); 36] = [
        ("enter", "\r", None),
        ("tab", "\t", None),
        ("shift-tab", "\x1b[Z", None),
        ("escape", "\x1b", None),
        ("backspace", "\x7f", None),
        ("ctrl-backspace", "\x08", None),
        ("space", " ", None),
        ("ctrl-space", "\0", None),
        ("up", "\x1b[A", Some("\x1bOA")),
        ("down", "\x1b[B", Some("\x1bOB")),
        ("right", "\x1b[C", Some("\x1bOC")),
        ("left", "\x1b[D", Some("\x1bOD")),
        ("home", "\x1b[H", Some("\x1bOH")),
        ("end", "\x1b[F", Some("\x1bOF")),
        ("shift-up", "\x1b[1;2A", None),
        ("alt-left", "\x1b[1;3D", None),
        ("ctrl-home", "\x1b[1;5H", None),
        ("insert", "\x1b[2~", None),
        ("delete", "\x1b[3~", None),
        ("page-up", "\x1b[5~", None),
        ("page-down", "\x1b[6~", None),
        ("f1", "\x1bOP", None),
        ("f2", "\x1bOQ", None),
        ("f3", "\x1bOR", None),
        ("f4", "\x1bOS", None),
        ("f5", "\x1b[15~", None),
        ("f6", "\x1b[17~", None),
        ("f7", "\x1b[18~", None),
        ("f8", "\x1b[19~", None),
        ("f9", "\x1b[20~", None),
        ("f10", "\x1b[21~", None),
        ("f11", "\x1b[23~", None),
        ("f12", "\x1b[24~", None),
        ("alt-x", "\x1bx", None),
        ("ctrl-alt-c", "\x1b\x03", None),
        ("shift-f5", "\x1b[15;2~", None),
    ];

    #[test]
    fn each_key_sends_its_bytes_in_both_cursor_modes() {
        let application = Wanted { application_cursor: true, ..Wanted::default() };
        for (name, bytes, other) in TABLE {
            assert_eq!(key(name, Wanted::default()).unwrap(), bytes.as_bytes(), "{name}");
            assert_eq!(
                key(name, application).unwrap(),
                other.unwrap_or(bytes).as_bytes(),
                "{name}"
            );
        }
        for letter in b'a'..=b'z' {
            let name = format!("ctrl-{}", char::from(letter));
            assert_eq!(key(&name, Wanted::default()).unwrap(), [letter - b'a' + 1], "{name}");
        }
    }

    #[test]
    fn several_lines_are_pasted_where_the_program_knows_how() {
        let knows = Wanted { bracketed_paste: true, ..Wanted::default() };
        assert_eq!(text(b"ls\n", knows), b"ls\r");
        assert_eq!(text(b"a\nb\r\nc", knows), b"\x1b[200~a\rb\rc\x1b[201~");
        assert_eq!(text(b"a\nb\n", knows), b"\x1b[200~a\rb\x1b[201~\r");
        assert_eq!(text(b"a\nb\n", Wanted::default()), b"a\rb\r");
        let trick = text(b"a\nb\x1b[201~\nrm -rf /\n", knows);
        assert_eq!(trick, b"\x1b[200~a\rb\rrm -rf /\x1b[201~\r");
    }

    #[test]
    fn text_is_data_and_no_character_of_it_is_pressed_as_a_key() {
        let knows = Wanted { bracketed_paste: true, ..Wanted::default() };
        let plain = Wanted::default();
        let typed = |text: &[u8], wanted, takes| literal(text, wanted, takes);
        assert_eq!(typed(b"ls\n", knows, None).unwrap(), b"ls\r");
        let pastes = Some(Takes::Pastes);
        assert_eq!(typed(b"a\tb\n", knows, pastes).unwrap(), b"\x1b[200~a\tb\x1b[201~\r");
        assert_eq!(typed(b"a\tb\n", plain, Some(Takes::Lines)).unwrap(), b"a\tb\r");
        let quoted = typed(b"a\tb\r\nc\t\n", plain, Some(Takes::Quoted)).unwrap();
        assert_eq!(quoted, b"a\x16\tb\rc\x16\t\r");
        for (takes, kind) in
            [(Takes::Keys, Kind::InvalidArgument), (Takes::Nobody, Kind::TerminalBusy)]
        {
            assert_eq!(typed(b"a\tb", plain, Some(takes)).unwrap_err().kind, kind);
        }
        for control in (0..=0x1f_u8).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
            let failure = typed(&[b'a', control], knows, pastes).unwrap_err();
            assert_eq!(failure.kind, Kind::InvalidArgument, "{control}");
            assert!(check_secret(&[b'a', control]).is_err(), "{control}");
        }
        assert!(check_secret("pass wörd\t".as_bytes()).is_ok() && check_secret(b"a\nb").is_err());
    }
}
