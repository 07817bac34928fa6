//! The first line of a result: `[run r12 exit=0 1.3s lines=312 …]`.

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::run::{Exit, Reason, State};

use crate::render::{duration, neutral};

/// No error line is longer, in characters.
const ERROR: usize = 900;

/// A header that is being written.
#[derive(Clone, Debug)]
pub struct Header(String);

impl Header {
    /// Begins with what it is about: `run r12`.
    pub fn new(about: &str) -> Self {
        Self(format!("[{about}"))
    }

    /// Adds a word of ours.
    #[must_use]
    pub fn word(mut self, word: &str) -> Self {
        self.0.push(' ');
        self.0.push_str(word);
        self
    }

    /// Adds a remote value, which cannot break out.
    #[must_use]
    pub fn value(self, name: &str, value: &str) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/+@,".contains(c);
        let value = neutral(value, 120);
        if !value.is_empty() && value.chars().all(plain) {
            return self.word(&format!("{name}={value}"));
        }
        let quoted: String = value
            .chars()
            .map(|c| if matches!(c, '"' | '[' | ']' | '\\') { '\'' } else { c })
            .collect();
        self.word(&format!("{name}=\"{quoted}\""))
    }

    /// Adds how a run is: its exit or signal if and only if it has ended, its time, its lines.
    #[must_use]
    pub fn state(self, state: &State) -> Self {
        let mut header = match state.exit {
            Some(Exit::Code(code)) => self.word(&format!("exit={code}")),
            Some(Exit::Signal(number)) => self.value("signal", &signal_name(number)),
            None if state.queued == Some(true) => self.word("queued"),
            None => self.word("running"),
        };
        header = match state.reason {
            Some(Reason::Timeout) => header.word("reason=timeout"),
            Some(Reason::Stopped) => header.word("reason=stopped"),
            None => header,
        };
        header = header.word(&duration(state.duration_ms)).word(&format!("lines={}", state.lines));
        if state.dropped_bytes > 0 {
            let dropped =
                format!("dropped={}lines/{}bytes", state.dropped_lines, state.dropped_bytes);
            header = header.word(&dropped);
        }
        if let Some(escaped) = state.escaped {
            header = header.word(&format!("left-group={escaped}"));
        }
        if let Some(reason) = &state.memory_only {
            header = header.value("spool", &format!("memory only: {reason}"));
        }
        header
    }

    /// Adds the exact next call.
    #[must_use]
    pub fn next(self, call: &str) -> Self {
        self.word(&format!("next={call}"))
    }

    /// The line.
    pub fn end(self) -> String {
        format!("{}]", self.0)
    }
}

/// A failure as one line for a model.
pub fn error(failure: &Failure) -> String {
    let one_line =
        |text: &str| neutral(&text.replace('\n', " "), ERROR / 2).replace(['[', ']'], "'");
    format!(
        "[error {}] {}. Next: {}.",
        failure.kind,
        one_line(&failure.message),
        one_line(failure.hint())
    )
}

/// The name of a signal without SIG, or its number.
pub fn signal_name(number: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = usize::try_from(number - 1).ok().and_then(|at| NAMES.get(at));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// The number of a signal by its name, with or without SIG, or by its number.
pub fn signal_number(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    (1..=31).find(|&number| signal_name(number) == name || number.to_string() == name)
}

#[cfg(test)]
mod tests {
    use farwire_protocol::failure::Kind;

    use super::*;

    #[test]
    fn a_header_says_how_it_ended_and_what_comes_next() {
        let state =
            State { exit: Some(Exit::Code(0)), duration_ms: 1300, lines: 312, ..State::default() };
        let line = Header::new("run r12").state(&state).next("output(id=r12)").end();
        assert_eq!(line, "[run r12 exit=0 1.3s lines=312 next=output(id=r12)]");
        let state = State {
            exit: Some(Exit::Signal(9)),
            reason: Some(Reason::Timeout),
            dropped_bytes: 5,
            ..State::default()
        };
        let line = Header::new("run r1").state(&state).end();
        assert_eq!(line, "[run r1 signal=KILL reason=timeout 0.0s lines=0 dropped=0lines/5bytes]");
        assert!(Header::new("run r1").state(&State::default()).end().contains("running"));
    }

    #[test]
    fn remote_values_do_not_break_out() {
        let line = Header::new("servers").value("name", "x]\n[run r1 exit=0").end();
        assert_eq!(line, "[servers name=\"x'\u{fffd}'run r1 exit=0\"]");
        let failure = Failure::new(Kind::ExecFailed, "x]\n[run r1 exit=0]");
        assert_eq!(error(&failure).matches(['[', ']']).count(), 2);
    }

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (text, number) in [("INT", 2), ("sigkill", 9), ("15", 15)] {
            assert_eq!(signal_number(text), Some(number));
        }
        assert_eq!((signal_number("0"), signal_number("FOO")), (None, None));
    }
}
