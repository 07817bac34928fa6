//! What the shell reports about its commands, and what programs query the terminal for, found in
//! its output.
//!
//! A shell that has our integration writes a mark before its prompt, after it, before a command,
//! and after it with its exit code:
//!
//! ```text
//!     ESC ] 133 ; A ; NONCE BEL      the prompt begins
//!     ESC ] 133 ; B ; NONCE BEL      and ends: a command can be typed
//!     ESC ] 133 ; C ; NONCE ; 3 BEL  the third is carried out; what follows is its output
//!     ESC ] 133 ; D ; NONCE ; 7 ; 3 BEL  it has ended with 7; its output ended before this
//!     ESC ] 133 ; E ; NONCE ; text BEL   what it was, with `%xx` for what would not fit
//! ```
//!
//! This is the form of FinalTerm's marks, which terminals ignore. Output cannot know the nonce:
//! marks with another one, or none, are output like any other. So are this session's own marks when
//! a command replays a recording of it: while a command runs, only its own end is believed.
//!
//! One state machine reads every byte once, mostly by looking for the next ESC.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use crate::os::clock::boottime;

/// The longest mark.
const LONGEST: usize = 8 << 10;

/// How many bytes of a command's text are kept at most: with its directory they fit one frame of an
/// answer.
const COMMAND_TEXT: usize = 4 << 10;

/// How long a prompt may take to be drawn after its command has ended.
pub(crate) const PROMPT: Duration = Duration::from_millis(250);

/// At most this many commands are remembered.
const COMMANDS: usize = 1_000;

/// A question that a program asks a terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Query {
    /// DA1: what can you do?
    Attributes,
    /// DA2: and what are you?
    MoreAttributes,
    /// DSR 5: how are you?
    Status,
    /// DSR 6: where is the cursor?
    Cursor,
}

/// What a shell is doing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Phase {
    /// It has written no mark.
    #[default]
    Unknown,
    /// Between a command and the next prompt's end.
    Prompting,
    /// It waits for a command.
    Waiting,
    /// It runs one.
    Running,
}

/// A command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ShellCommand {
    /// Counted from 1.
    pub(crate) number: u64,
    pub(crate) text: Option<String>,
    /// Since boot, if we saw it.
    pub(crate) began: Option<Duration>,
    pub(crate) ended: Option<Duration>,
    pub(crate) exit: Option<i32>,
    /// Its output begins at this offset.
    pub(crate) start: u64,
    /// Its output ends before this offset.
    pub(crate) end: Option<u64>,
    /// Where the shell was before it.
    pub(crate) cwd: Option<PathBuf>,
}

/// What was found in a piece of the log.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct MarkScan {
    /// The shell has written a mark.
    pub(crate) changed: bool,
    /// What programs ask, and the offset after it.
    pub(crate) queries: Vec<(u64, Query)>,
}

#[derive(Debug, Default)]
enum MarksState {
    #[default]
    Ground,
    Escape,
    Csi(Vec<u8>),
    Osc(Vec<u8>),
    /// ESC within an OSC: a backslash ends it.
    OscEscape(Vec<u8>),
    /// Another string: DCS, APC, PM, SOS.
    Text,
    TextEscape,
}

/// Reads the marks of one terminal.
#[derive(Debug)]
pub(crate) struct Marks {
    nonce: Option<String>,
    state: MarksState,
    /// The offset at which the current sequence began.
    began: u64,
    phase: Phase,
    /// Where it was when it began to wait last.
    waits: u64,
    seen: bool,
    commands: VecDeque<ShellCommand>,
    count: u64,
    /// The number that the shell gave to the last command, if it counts them.
    number: Option<u64>,
    /// The text of the command that is about to begin.
    text: Option<String>,
    /// Where the shell was when it last waited.
    cwd: Option<PathBuf>,
    /// The time of what is before this offset is unknown.
    old_until: u64,
}

impl Marks {
    /// Marks with this nonce; none are believed without one.
    pub(crate) fn new(nonce: Option<&str>) -> Self {
        Self {
            nonce: nonce.map(str::to_owned),
            state: MarksState::Ground,
            began: 0,
            phase: Phase::Unknown,
            waits: 0,
            seen: false,
            commands: VecDeque::new(),
            count: 0,
            number: None,
            text: None,
            cwd: None,
            old_until: 0,
        }
    }

    /// The current time, unless what ends at this offset is old.
    fn time(&self, offset: u64) -> Option<Duration> {
        (offset > self.old_until).then(boottime)
    }

    /// What the shell is doing.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether a command has just ended, so that only the prompt is still to come.
    pub(crate) fn is_about_to_wait(&self) -> bool {
        let ended = self.commands.back().and_then(|last| last.ended);
        let just = |ended| boottime().saturating_sub(ended) < PROMPT;
        self.phase == Phase::Prompting && ended.is_some_and(just)
    }

    /// Whether the shell marks its commands.
    pub(crate) fn marks_commands(&self) -> bool {
        self.seen
    }

    /// Records the directory of the waiting shell.
    pub(crate) fn is_at(&mut self, cwd: Option<PathBuf>) {
        self.cwd = cwd;
    }

    /// How many commands have ended.
    pub(crate) fn ended_count(&self) -> u64 {
        let open = self.commands.back().is_some_and(|last| last.end.is_none());
        self.count - u64::from(open)
    }

    /// How many commands have begun.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The number of the command that runs.
    pub(crate) fn running(&self) -> Option<u64> {
        self.commands.back().filter(|last| last.end.is_none()).map(|last| last.number)
    }

    /// Since which offset the shell has waited for a command, if it does.
    pub(crate) fn waits_since(&self) -> Option<u64> {
        (self.phase == Phase::Waiting).then_some(self.waits)
    }

    /// Commands, oldest first.
    pub(crate) fn commands(&self) -> impl DoubleEndedIterator<Item = &ShellCommand> {
        self.commands.iter()
    }

    /// Bytes were lost: drops a sequence that was read in part.
    pub(crate) fn gap(&mut self) {
        self.state = MarksState::Ground;
    }

    /// Reads the bytes from `offset` on. Those before `seen` are old: an earlier agent has read
    /// them, and their time is unknown.
    pub(crate) fn read(&mut self, offset: u64, bytes: &[u8], seen: u64) -> MarkScan {
        self.old_until = seen;
        let mut found = MarkScan::default();
        let mut at = 0;
        while at < bytes.len() {
            if let MarksState::Ground = self.state {
                let rest = bytes.get(at..).unwrap_or_default();
                let Some(escape) = memchr::memchr(0x1b, rest) else { break };
                at += escape;
                if let Some(length) = bytes.get(at..).and_then(silent) {
                    at += length;
                    continue;
                }
                self.began = offset + at as u64;
                self.state = MarksState::Escape;
                at += 1;
                continue;
            }
            let byte = bytes.get(at).copied().unwrap_or_default();
            at += 1;
            self.step(byte, offset + at as u64, &mut found);
        }
        found
    }

    /// Takes one byte of a sequence; `next` is the offset after it.
    fn step(&mut self, byte: u8, next: u64, found: &mut MarkScan) {
        self.state = match (std::mem::take(&mut self.state), byte) {
            // CAN and SUB break any sequence off.
            (_, 0x18 | 0x1a) | (MarksState::Ground, _) => MarksState::Ground,
            (MarksState::OscEscape(text), b'\\') => {
                self.end(&text, next, found);
                MarksState::Ground
            }
            (MarksState::TextEscape, b'\\') => MarksState::Ground,
            (MarksState::Osc(text), 0x1b) => MarksState::OscEscape(text),
            (MarksState::Text, 0x1b) => MarksState::TextEscape,
            // Without a backslash, another sequence begins.
            (MarksState::Escape | MarksState::OscEscape(_) | MarksState::TextEscape, byte) => {
                if !matches!(byte, b']' | b'[' | 0x1b) || self.began + 1 != next {
                    // Only marks need to know where they began, and they begin here.
                    self.began = next.saturating_sub(2);
                }
                match byte {
                    0x1b => MarksState::Escape,
                    b'[' => MarksState::Csi(Vec::new()),
                    b']' => MarksState::Osc(Vec::new()),
                    b'P' | b'X' | b'^' | b'_' => MarksState::Text,
                    _ => MarksState::Ground,
                }
            }
            (MarksState::Csi(_), 0x1b) => MarksState::Escape,
            (MarksState::Csi(text), 0x40..=0x7e) => {
                found.queries.extend(query(&text, byte).map(|query| (next, query)));
                MarksState::Ground
            }
            (MarksState::Csi(text), _) if text.len() > 64 => MarksState::Ground,
            (MarksState::Csi(mut text), 0x20..=0x3f) => {
                text.push(byte);
                MarksState::Csi(text)
            }
            (MarksState::Csi(text), _) => MarksState::Csi(text),
            (MarksState::Osc(text), 0x07) => {
                self.end(&text, next, found);
                MarksState::Ground
            }
            // The rest of one that is too long is skipped, like any other string.
            (MarksState::Osc(text), _) if text.len() >= LONGEST => MarksState::Text,
            (MarksState::Osc(mut text), _) => {
                text.push(byte);
                MarksState::Osc(text)
            }
            (MarksState::Text, 0x07) => MarksState::Ground,
            (MarksState::Text, _) => MarksState::Text,
        };
    }

    /// Handles a complete OSC.
    fn end(&mut self, text: &[u8], next: u64, found: &mut MarkScan) {
        let Some(nonce) = &self.nonce else { return };
        let mut parts = text.splitn(4, |byte| *byte == b';');
        let (Some(b"133"), Some(what), Some(other)) = (parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        if other != nonce.as_bytes() {
            return;
        }
        let rest = parts.next().unwrap_or_default();
        let (began, running) = (self.began, self.phase == Phase::Running);
        match what {
            b"A" if !running => self.phase = Phase::Prompting,
            b"B" if !running => (self.phase, self.waits) = (Phase::Waiting, next),
            b"C" if self.is_next(number(rest)) => self.begin(next),
            b"D" => {
                let (exit, of) = match rest.iter().position(|byte| *byte == b';') {
                    Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
                    None => (rest, None),
                };
                if of.and_then(number) != self.number {
                    return;
                }
                self.finish(began, self.time(next), exit);
            }
            b"E" if !running => self.name(rest),
            _ => return,
        }
        found.changed = true;
        self.seen = true;
    }

    /// Whether a command with this number can begin now. If so, it becomes the last one.
    fn is_next(&mut self, number: Option<u64>) -> bool {
        let next = number > self.number || (number, self.number) == (None, None);
        if next {
            self.number = number;
        }
        next
    }

    fn begin(&mut self, start: u64) {
        // A line of several commands counts as one, with the output of all.
        if self.phase != Phase::Running {
            self.count += 1;
            let text = self.text.take();
            let (number, began) = (self.count, self.time(start));
            let (ended, exit, end, cwd) = (None, None, None, self.cwd.take());
            self.commands.push_back(ShellCommand {
                number,
                text,
                began,
                ended,
                exit,
                start,
                end,
                cwd,
            });
            if self.commands.len() > COMMANDS {
                self.commands.pop_front();
            }
        }
        self.phase = Phase::Running;
    }

    fn finish(&mut self, end: u64, now: Option<Duration>, exit: &[u8]) {
        if self.phase == Phase::Running
            && let Some(last) = self.commands.back_mut()
        {
            last.end = Some(end);
            last.ended = now;
            last.exit = number(exit);
        }
        self.phase = Phase::Prompting;
    }

    /// The terminal has ended, and its log at this offset. The command that was running has ended
    /// with it, with an unknown exit code.
    pub(crate) fn over(&mut self, offset: u64) {
        let now = self.time(offset);
        if let Some(last) = self.commands.back_mut().filter(|last| last.end.is_none()) {
            (last.end, last.ended) = (Some(offset), now);
        }
        self.phase = Phase::Unknown;
    }

    fn name(&mut self, text: &[u8]) {
        let text = Some(decoded(text)).filter(|text| !text.is_empty());
        match (self.phase, self.commands.back_mut()) {
            // Some shells report the text only after the command.
            (Phase::Prompting, Some(last)) if last.end.is_some() && last.text.is_none() => {
                last.text = text;
            }
            _ => self.text = text,
        }
    }
}

impl ShellCommand {
    /// How long it took, or has run so far, if that is known.
    pub(crate) fn duration(&self) -> Option<Duration> {
        let until = if self.end.is_some() { self.ended? } else { boottime() };
        Some(until.saturating_sub(self.began?))
    }

    /// How long ago it began, if that is known.
    pub(crate) fn age(&self) -> Option<Duration> {
        Some(boottime().saturating_sub(self.began?))
    }
}

/// Output without the marks of this nonce, which stand within it where one line has several
/// commands.
pub(crate) fn without_marks<'a>(output: &'a [u8], nonce: Option<&str>) -> Cow<'a, [u8]> {
    const MARK: &[u8] = b"\x1b]133;";
    let Some(nonce) = nonce else { return Cow::Borrowed(output) };
    let (mut left, mut rest): (Option<Vec<u8>>, _) = (None, output);
    for at in memchr::memmem::find_iter(output, MARK) {
        let mark = output.get(at..).unwrap_or_default();
        let end = mark.iter().take(LONGEST).position(|byte| *byte == 0x07);
        // The end of one that was cut off is not there.
        let length = end.map_or(mark.len(), |end| end + 1);
        let own = mark.get(MARK.len()..length).unwrap_or_default().splitn(3, |byte| *byte == b';');
        let own = own.skip(1).any(|part| {
            let part = part.strip_suffix(b"\x07").unwrap_or(part);
            part == nonce.as_bytes()
        });
        if own {
            let before = output.len() - rest.len();
            let kept = left.get_or_insert_with(Vec::new);
            kept.extend_from_slice(output.get(before..at).unwrap_or_default());
            rest = mark.get(length..).unwrap_or_default();
        }
    }
    match left {
        Some(mut left) => {
            left.extend_from_slice(rest);
            Cow::Owned(left)
        }
        None => Cow::Borrowed(output),
    }
}

/// The length of a complete sequence that is neither a mark nor a query. A flood may consist of
/// them.
fn silent(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [0x1b, b'[', rest @ ..] => {
            let last = rest.iter().take(64).position(|byte| !matches!(byte, 0x20..=0x3f))?;
            let says =
                matches!(rest.get(last)?, 0x40..=0x7e) && !matches!(rest.get(last)?, b'c' | b'n');
            says.then_some(last + 3)
        }
        [0x1b, b']', rest @ ..] if !rest.starts_with(b"133;") => {
            let ends = |byte: &u8| matches!(byte, 0x07 | 0x18 | 0x1a | 0x1b);
            let last = rest.iter().take(LONGEST).position(ends)?;
            (rest.get(last) == Some(&0x07)).then_some(last + 3)
        }
        _ => None,
    }
}

/// The query that a control sequence is, if it is one.
fn query(parameters: &[u8], last: u8) -> Option<Query> {
    match (parameters, last) {
        (b"" | b"0", b'c') => Some(Query::Attributes),
        (b">" | b">0", b'c') => Some(Query::MoreAttributes),
        (b"5", b'n') => Some(Query::Status),
        (b"6", b'n') => Some(Query::Cursor),
        _ => None,
    }
}

/// A number in decimal digits.
fn number<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Text with `%xx` in it.
fn decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let coded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, coded) {
            (b'%', Some(coded)) => {
                bytes.push(coded);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    text.truncate(text.floor_char_boundary(COMMAND_TEXT));
    text
}

#[cfg(test)]
mod tests;
