//! Runs in answers: the header, the part of the output that is shown, and the answer when the
//! server has not answered.

use std::fmt;
use std::time::Duration;

use farwire_keystore::ShortId;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::{Reason, State};

use super::{output, word};
use crate::runs::answer::{NoAnswer, RunReply};
use crate::runs::outcome;
use crate::text::header::{Call, Fate, Header, Key};
use crate::text::neutral::neutral_within;
use crate::text::shown::{Budget, Keep, Shown, Total, fit};

/// A part of the output of a run or a session, with its header.
pub(in crate::tools) struct LogExcerpt<'a> {
    pub(in crate::tools) id: ShortId,
    pub(in crate::tools) answer: &'a RunReply,
    pub(in crate::tools) keep: Keep,
    pub(in crate::tools) budget: Budget,
    /// The longest wait of a call, if the caller asked for more.
    pub(in crate::tools) limited: Option<Duration>,
}

impl fmt::Display for LogExcerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunReply { ended, pieces } = self.answer;
        let state = &ended.state;
        let total = Total {
            lines: state.lines,
            dropped_lines: state.dropped_lines,
            dropped_bytes: state.dropped_bytes,
        };
        // A digest has two pieces at most.
        let shown = fit(pieces.first(), pieces.get(1), total, self.keep, self.budget);
        let mut header = header(self.id, state);
        if let Some(most) = self.limited {
            header = header.field(Key::WaitLimit, format_args!("{}s", most.as_secs()));
        }
        if ended.matched == Some(true) {
            header = header.field(Key::Until, "matched");
        }
        header = header.shown_ranges(&shown);
        let line = match self.next(&shown) {
            Some(call) => header.next(&call),
            None => header.end(),
        };
        write!(f, "{line}\n{}", shown.text)
    }
}

impl LogExcerpt<'_> {
    /// The call that brings more, if there is more.
    fn next(&self, shown: &Shown) -> Option<Call> {
        let call = output(self.id);
        match shown.next {
            _ if self.answer.ended.state.is_open() => Some(call),
            Some(line) => Some(call.with("view", "range").with("offset", line)),
            // Bytes of a long line that did not fit do not count as lines.
            None if self.answer.pieces.iter().any(|piece| piece.ends_within) => {
                Some(call.with("view", "grep").with("pattern", "…"))
            }
            None => None,
        }
    }
}

/// The header of a run, up to its lines: it has an exit or a signal if and only if the run has
/// ended.
pub(in crate::tools) fn header(id: ShortId, state: &State) -> Header {
    let mut header = Header::ending(word(id), &id.to_string(), Fate::of(state));
    header = match (&state.failure, state.reason) {
        (Some(failure), _) => header.field(Key::Reason, &failure.message),
        (None, Some(Reason::Timeout)) => header.field(Key::Reason, "timeout"),
        (None, Some(Reason::Stopped)) => header.field(Key::Reason, "stopped"),
        (None, None) => header,
    };
    header = header.time(Duration::from_millis(state.duration_ms)).field(Key::Lines, state.lines);
    header = header.dropped(state.dropped_lines, state.dropped_bytes);
    if let Some(escaped) = state.escaped {
        header = header.field(Key::Left, escaped);
    }
    if let (Some(reason), None) = (&state.memory_only, &state.failure) {
        header = header.field(Key::Spool, format_args!("memory only: {reason}"));
    }
    header
}

/// The answer about a run when the server has not answered in time.
///
/// # Errors
///
/// The failure, if the server answered with one.
pub(in crate::tools) fn no_answer(
    id: ShortId,
    no: NoAnswer,
    waited: Duration,
) -> Result<String, Failure> {
    let header = |fate| Header::ending(word(id), &id.to_string(), fate).time(waited);
    match no {
        NoAnswer::Failed(failure) if failure.kind == Kind::OutcomeUnknown => {
            Err(outcome(id, NoAnswer::Unknown(failure)))
        }
        NoAnswer::Failed(failure) => Err(failure),
        NoAnswer::Queued => Ok(format!(
            "{}\nThe server is busy, and the command is waiting for its turn.\n",
            header(Fate::Queued).next(&output(id))
        )),
        NoAnswer::Unknown(why) => {
            let why = neutral_within(&why.message, 300);
            Ok(format!(
                "{}\noutcome_unknown: the server has not answered ({why}). It is not known whether \
                 the command has started or ended; it is not run a second time.\n",
                header(Fate::Unreachable).next(&output(id))
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use farwire_protocol::streams::run::{Ended, Exit};

    use super::*;
    use crate::text::shown::Piece;

    fn excerpt(state: State, pieces: Vec<Piece>) -> String {
        let answer = RunReply { ended: Ended { state, next: None, matched: None }, pieces };
        let id = "r12".parse().unwrap();
        let (keep, budget) = (Keep::Ends, Budget::default());
        LogExcerpt { id, answer: &answer, keep, budget, limited: None }.to_string()
    }

    fn piece(first_line: u64, offset: u64, text: &str) -> Piece {
        Piece { first_line, offset, bytes: text.as_bytes().to_vec(), ..Piece::default() }
    }

    #[test]
    fn a_header_says_how_it_ended_and_what_comes_next() {
        let ended =
            State { exit: Some(Exit::Code(0)), duration_ms: 1_300, lines: 2, ..State::default() };
        let text = excerpt(ended.clone(), vec![piece(1, 0, "a\nb\n")]);
        assert_eq!(text, "[run r12 exit=0 1.3s lines=2]\na\nb\n");
        let state = State { exit: None, ..ended.clone() };
        let text = excerpt(state, vec![piece(2, 2, "b\n")]);
        assert_eq!(text, "[run r12 running 1.3s lines=2 shown=2 next=output(id=r12)]\nb\n");
        let state = State { lines: 91, ..ended.clone() };
        let text = excerpt(state, vec![piece(1, 0, "a\n"), piece(90, 300, "y\nz\n")]);
        assert_eq!(
            text,
            "[run r12 exit=0 1.3s lines=91 shown=1,90-91 next=output(id=r12,view=range,offset=2)]\n\
             a\n[omitted 88 lines, 298 bytes]\ny\nz\n"
        );
        let state = State {
            exit: Some(Exit::Signal(9)),
            reason: Some(Reason::Timeout),
            dropped_bytes: 5,
            ..ended
        };
        let text = excerpt(state, Vec::new());
        assert_eq!(text, "[run r12 signal=KILL reason=timeout 1.3s lines=2 dropped=0lines/5]\n");
    }

    #[test]
    fn a_run_that_was_lost_says_so_and_shows_what_it_shown() {
        let failure = Failure::new(Kind::OutcomeUnknown, "its holder has died");
        let state = State { failure: Some(failure), lines: 1, ..State::default() };
        let text = excerpt(state, vec![piece(1, 0, "so far\n")]);
        let header = "[run r12 error=outcome_unknown reason=\"its holder has died\" 0.0s lines=1]";
        assert_eq!(text, format!("{header}\nso far\n"));
    }

    #[test]
    fn a_line_without_an_end_shows_both_of_its_ends_and_how_to_look_for_more() {
        let state = State { exit: Some(Exit::Code(0)), lines: 1, ..State::default() };
        let head = Piece { ends_within: true, ..piece(1, 0, &"a".repeat(7_500)) };
        let tail = Piece { starts_within: true, ..piece(1, 9_985_000, &"z".repeat(15_000)) };
        let text = excerpt(state, vec![head, tail]);
        let (header, payload) = text.split_once('\n').unwrap();
        assert_eq!(
            header,
            "[run r12 exit=0 0.0s lines=1 shown=1 next=output(id=r12,view=grep,pattern=\"…\")]"
        );
        let lines: Vec<_> = payload.lines().collect();
        assert!(lines[0].starts_with("aaa") && lines[0].ends_with('…'), "{payload}");
        assert!(lines[1].starts_with("[omitted 9.9M bytes of line 1]"), "{payload}");
        assert!(lines[2].starts_with('…') && lines[2].ends_with("zzz"), "{payload}");
    }

    /// 8,000 characters is the smallest ceiling of a client.
    #[test]
    fn no_numbers_of_an_agent_make_an_answer_too_long() {
        let most = u64::MAX;
        let state = State {
            exit: Some(Exit::Code(i32::MIN)),
            reason: Some(Reason::Stopped),
            duration_ms: most,
            lines: most,
            bytes: most,
            dropped_bytes: most,
            dropped_lines: most / 2,
            escaped: Some(u32::MAX),
            memory_only: Some("]\n[run r1 exit=0]".repeat(99)),
            queued: None,
            failure: Some(Failure::new(Kind::Unknown(u16::MAX), "]\n[run r1 exit=0]".repeat(99))),
        };
        let line = "\u{202e}0123456789 0123456789 0123456789\n";
        for (head, tail) in [(1, most / 3), (most / 3, most / 2), (most - 9, most)] {
            let pieces = [head, tail].map(|first| piece(first, first, &line.repeat(1_000)));
            let answer = RunReply {
                ended: Ended { state: state.clone(), next: Some(most), matched: Some(true) },
                pieces: pieces.to_vec(),
            };
            let id = format!("r{most}").parse().unwrap();
            let (keep, budget) = (Keep::Ends, Budget::default());
            let limited = Some(Duration::from_secs(540));
            let text = LogExcerpt { id, answer: &answer, keep, budget, limited }.to_string();
            let (header, payload) = text.split_once('\n').unwrap();
            assert!(header.len() < 500, "{} {header}", header.len());
            assert!(payload.chars().count() <= 7_500, "{}", payload.chars().count());
            assert_eq!(text.lines().filter(|line| line.starts_with("[run ")).count(), 1);
        }
    }
}
