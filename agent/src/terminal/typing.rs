//! Typing into a session, for those who may.
//!
//! # Invariants
//!
//! - The right to type is checked under one lock with the write: once a lease has passed on, no
//!   byte of an earlier holder follows, nor does one of a device that was locked out.
//! - Refused input is never typed later.
//! - Input that the terminal does not show is in no event.

use std::io;
use std::time::Duration;

use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::{Doing, Input};
use tokio::time::{Instant, sleep, timeout_at};

use super::keys::{Takes, Wanted};
use super::line::Editor;
use super::typing_rights::Refusal;
use super::{Terminal, doing, lock};
use crate::gate::Asker;
use crate::gate::demand::Demand;
use crate::gate::principal::Principal;
use crate::os::clock::boottime;
use crate::os::pty;
use crate::spool::{Memory, TypistSlot};

/// The result of typing.
#[derive(Debug, Default)]
pub(crate) struct Typed {
    /// How many bytes were typed.
    pub(crate) taken: usize,
    /// Why the others were not; if absent, nobody reads them.
    pub(crate) refused: Option<Refusal>,
}

/// What is typed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys<'a> {
    pub(crate) bytes: &'a [u8],
    /// It is recorded nowhere.
    pub(crate) secret: bool,
    /// The request in whose turn it is typed, if any.
    pub(crate) turn: Option<Nonce>,
    /// A terminal has reported it, and nobody has typed it: it ends no turn, begins no line, and is
    /// recorded nowhere.
    pub(crate) report: bool,
    /// Where each write counts what it has passed on.
    pub(crate) count: Option<(&'a Memory, TypistSlot)>,
}

/// The result of one attempt.
enum TypingStep {
    Took(usize),
    /// It has to wait for the program.
    Full,
    /// It has to wait until then for the rate.
    Early(Duration),
    Refused(Refusal),
    /// There is nobody to read it.
    Gone,
}

impl Terminal {
    /// Types the keys of `asker`, as far as that is possible before a deadline.
    pub(crate) async fn types(
        &self,
        asker: &Asker,
        keys: Keys<'_>,
        until: Option<Instant>,
    ) -> Typed {
        let mut typed = Typed::default();
        let mut changed = None;
        loop {
            let rest = keys.bytes.get(typed.taken..).unwrap_or_default();
            if rest.is_empty() {
                return typed;
            }
            match self.step(asker, Keys { bytes: rest, ..keys }) {
                TypingStep::Took(bytes) => {
                    typed.taken += bytes;
                    continue;
                }
                TypingStep::Refused(refusal) => {
                    self.events.note_refused(self.now(), &asker.who, rest.len());
                    typed.refused = Some(refusal);
                    return typed;
                }
                // It is no error if the program reads no more.
                TypingStep::Gone => {
                    self.program.count_passed(rest.len());
                    typed.taken = keys.bytes.len();
                    return typed;
                }
                TypingStep::Full | TypingStep::Early(_) if changed.is_none() => {
                    // Changes from now on wake us; earlier ones are seen at once.
                    changed = Some(self.rights_changed());
                    continue;
                }
                TypingStep::Full => {
                    let Some(master) = self.program.master() else { continue };
                    let wait = async {
                        tokio::select! {
                            _ = master.writable() => {}
                            () = woken(&mut changed) => {}
                        }
                    };
                    if over(until, wait).await {
                        return typed;
                    }
                }
                TypingStep::Early(when) => {
                    let wait = async {
                        tokio::select! {
                            () = sleep(when.saturating_sub(boottime())) => {}
                            () = woken(&mut changed) => {}
                        }
                    };
                    if over(until, wait).await {
                        return typed;
                    }
                }
            }
        }
    }

    /// Records that all of the input was refused.
    pub(crate) fn note_refused(&self, who: &Principal, input: &[Input]) {
        let length = |input: &Input| match input {
            Input::Text(bytes) | Input::Secret(bytes) => bytes.len(),
            Input::Key(_) => 1,
        };
        self.events.note_refused(self.now(), who, input.iter().map(length).sum());
    }

    fn step(&self, asker: &Asker, keys: Keys<'_>) -> TypingStep {
        let who = &*asker.who;
        let Some(master) = self.program.master() else { return TypingStep::Gone };
        let shown = !keys.secret && self.shows();
        let now = boottime();
        let mut typing = lock(&self.typing);
        let taken = keys.turn.and_then(|turn| typing.arbiter.turns.find_taken(turn));
        let may = match (asker.may(&Demand::Stay), taken) {
            (Err(denied), _) => Err(Refusal::Denied(denied)),
            (Ok(()), Some(taken)) => Err(Refusal::Interrupted(taken.by.clone())),
            (Ok(()), None) => typing.arbiter.may_type(who, now),
        };
        if let Err(refusal) = may {
            drop(typing);
            if keys.report {
                return TypingStep::Took(keys.bytes.len());
            }
            self.settle(None);
            return TypingStep::Refused(refusal);
        }
        if !keys.report && typing.arbiter.turns.interrupt(who, self.program.spool.end()) {
            self.tell_turns();
        }
        let rate = self.input_rate();
        let room = match rate {
            Some(rate) => typing.pace.room(rate, keys.bytes.len(), now),
            None => keys.bytes.len(),
        };
        let bytes = keys.bytes.get(..room).unwrap_or(keys.bytes);
        if bytes.is_empty() {
            return TypingStep::Early(typing.pace.next());
        }
        let before = self.program.spool.end();
        let editor = self.line_editor();
        match master.try_write(bytes) {
            Ok(taken) => {
                if let Some((memory, place)) = keys.count {
                    memory.took_more(place, taken);
                }
                let bytes = bytes.get(..taken).unwrap_or(bytes);
                if !keys.report {
                    typing.arbiter.note_typing(who, bytes, now);
                    typing.line.note(bytes, before, editor);
                }
                if let Some(rate) = rate {
                    typing.pace.went(rate, taken, now);
                }
                if keys.count.is_some() && !keys.report {
                    typing.exchanges.cut(before);
                }
                drop(typing);
                self.program.count_passed(taken);
                if !keys.report {
                    self.busy(now);
                    self.events.note_typed(self.now(), who, bytes, shown);
                }
                TypingStep::Took(taken)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => TypingStep::Full,
            Err(_) => {
                drop(typing);
                self.program.close_input();
                TypingStep::Gone
            }
        }
    }

    /// Whether what is typed now is shown: by the terminal itself, or by a shell that edits its
    /// line. Other programs that read keys one by one show what they like, and may ask for a
    /// password.
    fn shows(&self) -> bool {
        let (Some(master), Some(shell)) = (self.program.master(), self.program.pid()) else {
            return false;
        };
        let Ok(modes) = pty::modes(&*master) else { return false };
        let own =
            || pty::foreground(&*master).is_some_and(|group| group.as_raw_pid() == shell as i32);
        modes.echo || (!modes.canonical && self.edits_line() && own())
    }

    /// Whether a program reads a line without showing it: only there is a secret typed.
    pub(crate) fn hides(&self) -> bool {
        let modes = self.program.master().and_then(|master| pty::modes(&*master).ok());
        modes.is_some_and(|modes| modes.canonical && !modes.echo)
    }

    /// Whether a program reads lines, or nobody reads and the terminal gathers them.
    pub(crate) fn reads_lines(&self) -> bool {
        self.program
            .master()
            .is_some_and(|master| pty::modes(&*master).is_ok_and(|modes| modes.canonical))
    }

    /// How a tab in text reaches the current reader.
    pub(crate) fn takes(&self, wanted: Wanted) -> Takes {
        let (Some(master), Some(shell)) = (self.program.master(), self.program.pid()) else {
            return Takes::Nobody;
        };
        match pty::modes(&*master) {
            Ok(modes) if modes.canonical => match doing::may_read(&*master, shell) {
                true => Takes::Lines,
                false => Takes::Nobody,
            },
            Ok(_) if doing::drops_tabs(&*master, shell, self.nonce.is_some()) => Takes::Keys,
            Ok(_) if wanted.bracketed_paste => Takes::Pastes,
            Ok(_) if doing::quotes(&*master, shell) => Takes::Quoted,
            _ => Takes::Keys,
        }
    }

    /// Who has what is typed now until a line is entered.
    fn line_editor(&self) -> Editor {
        match self.nonce.is_some() && self.edits_line() {
            _ if self.reads_lines() => Editor::Kernel,
            true => Editor::Shell,
            false => Editor::Nobody,
        }
    }

    /// Whether somebody has typed a part of a command, or has entered one that the shell has not
    /// taken: what is typed now would become a part of it.
    pub(crate) fn is_half_typed(&self) -> bool {
        let waits_since = self.marks(super::Marks::waits_since);
        lock(&self.typing).line.is_half_typed(waits_since)
    }

    /// Whether a command may be typed: the shell waits for one, and has nothing of it yet.
    pub(crate) fn at_prompt(&self) -> bool {
        self.shell_waits() && !self.is_half_typed()
    }

    /// Whether the shell waits for a command. Without marks it is believed when it is in the
    /// foreground itself, and none of the programs that are known to wait for something else is.
    fn shell_waits(&self) -> bool {
        match self.doing() {
            Doing::Prompt => true,
            Doing::Running if !self.marks(super::Marks::marks_commands) => {
                let (Some(master), Some(shell)) = (self.program.master(), self.program.pid())
                else {
                    return false;
                };
                doing::is_shell(&*master, shell)
            }
            _ => false,
        }
    }

    /// Discards what agents have typed and nobody has read, now that a user has taken over: what is
    /// on its way to the program, and an unfinished line at a prompt.
    pub(crate) fn clear_agents(&self, user: &Principal) {
        let (line, last) = lock(&self.typing).arbiter.of_agent();
        let Some(master) = self.program.master() else { return };
        if last {
            pty::discard_typed(&*master);
        }
        const CTRL_U: &[u8] = b"\x15";
        if line && self.shell_waits() && master.try_write(CTRL_U).is_ok() {
            let (editor, at) = (self.line_editor(), self.program.spool.end());
            let mut typing = lock(&self.typing);
            typing.arbiter.note_typing(user, CTRL_U, boottime());
            typing.line.note(CTRL_U, at, editor);
            drop(typing);
            self.program.count_passed(CTRL_U.len());
            self.events.note_typed(self.now(), user, CTRL_U, true);
        }
    }
}

async fn woken(changed: &mut Option<tokio::sync::watch::Receiver<u64>>) {
    match changed {
        // The sender lives as long as the terminal.
        Some(changed) => drop(changed.changed().await),
        None => std::future::pending().await,
    }
}

/// Whether the time was up before something came.
async fn over(until: Option<Instant>, wait: impl Future<Output = ()>) -> bool {
    match until {
        Some(until) => timeout_at(until, wait).await.is_err(),
        None => {
            wait.await;
            false
        }
    }
}
