//! Waits for the result of an exchange: that it is complete, that the terminal waits again, that a
//! line has come, or the end.

use std::time::Duration;

use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::{Because, Doing};
use tokio::time::{Instant, sleep, sleep_until};

use super::typing::{HEED, LOOK};
use crate::sessions::Session;
use crate::spool::Mode;
use crate::streams::pattern::Awaited;
use crate::streams::session::answer::QUIET;
use crate::terminal::Sent;
use crate::terminal::marks::{self, Marks, PROMPT};
use crate::terminal::typing_rights::Taken;

/// Without marks, a terminal that has been silent for this long is done: silence is the only sign.
const SILENCE: Duration = Duration::from_millis(400);

/// A program that reads single keys and waits, and has been silent for this long, is done.
const FAR: Duration = Duration::from_secs(2);

/// How an exchange ended.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) because: Because,
    /// The user who ended it, if one did.
    pub(super) taken: Option<Taken>,
}

impl Outcome {
    pub(super) fn new(because: Because) -> Self {
        Self { because, taken: None }
    }

    pub(super) fn interrupted(taken: Taken) -> Self {
        Self { because: Because::Waits, taken: Some(taken) }
    }
}

/// A wait for the result of what was typed, or for something else.
#[derive(Clone, Copy)]
pub(super) struct Waiting<'a> {
    pub(super) session: &'a Session,
    pub(super) sent: Sent,
    /// The request whose turn it is.
    pub(super) request: Option<Nonce>,
    /// The id of what was typed.
    pub(super) id: Option<Nonce>,
}

impl Waiting<'_> {
    /// What is now known of what was typed: somebody else may have typed since.
    pub(super) fn now(&self) -> Sent {
        let known = self.id.and_then(|id| self.session.terminal.exchange_of(id));
        Sent { until: known.and_then(|known| known.until).or(self.sent.until), ..self.sent }
    }

    /// Waits for the result of what was typed, or for a line.
    pub(super) async fn until_over(self, until: Option<Awaited>, deadline: Instant) -> Outcome {
        let mut turns = self.session.terminal.turns_changed();
        let waits = wait(self, until, deadline);
        tokio::pin!(waits);
        loop {
            turns.mark_unchanged();
            if let Some(taken) =
                self.request.and_then(|request| self.session.terminal.turn_taken(request))
            {
                return Outcome::interrupted(taken);
            }
            tokio::select! {
                biased;
                // The sender lives as long as the terminal.
                _ = turns.changed() => {}
                because = &mut waits => return Outcome::new(because),
            }
        }
    }
}

async fn wait(waiting: Waiting<'_>, mut until: Option<Awaited>, deadline: Instant) -> Because {
    let Waiting { session: Session { job, terminal }, sent, .. } = waiting;
    let mut log = job.spool.reader(u64::MAX, Mode::Lagging);
    let mut phase = job.phase();
    let mut marked = terminal.marked();
    let mut said = Instant::now();
    let mut end = job.spool.stats().end;
    let mut ended_at: Option<Instant> = None;
    loop {
        let now = job.spool.stats().end;
        if now > end {
            (end, said) = (now, Instant::now());
        }
        // Its output before its end has arrived by then.
        let over = job.has_ended();
        if let Some(until) = &mut until
            && until.has_come(deadline).await
        {
            return Because::Matched;
        }
        if over {
            return Because::Ended;
        }
        let come = terminal.marks(|marks| progress(marks, waiting.now()));
        if come.through && until.is_none() {
            // The prompt follows in a moment, and anything else that was typed begins after it.
            let since = *ended_at.get_or_insert_with(Instant::now);
            if sent.line || come.waiting || since.elapsed() > PROMPT {
                return Because::Ended;
            }
        } else {
            ended_at = None;
        }
        let quiet = said.elapsed();
        if until.is_none() && !come.through && quiet >= QUIET {
            terminal.draw().await;
            // Marks of the shell may have arrived and not been read: check that before the state.
            let now = job.spool.stats().end;
            let read = job.spool.memory().is_none_or(|memory| memory.seen_until() >= now);
            let doing = terminal.doing();
            let marks = terminal.marks(Marks::marks_commands);
            let taken_up = || {
                let said = end > sent.offset && read && terminal.rests();
                sent.typed == 0 || quiet >= HEED || said
            };
            match doing {
                Doing::Password | Doing::Pager | Doing::Editor | Doing::Repl => {
                    return Because::Waits;
                }
                // A shell that has not yet read what was typed still shows its old prompt.
                Doing::Prompt if !taken_up() => {}
                // It was typed to the command that has ended, and no other one follows.
                Doing::Prompt if come.earlier => return Because::Ended,
                Doing::Prompt if marks => return Because::Waits,
                Doing::Prompt if quiet >= SILENCE => return Because::Silence,
                // A program about which nothing else is known.
                Doing::Running if quiet >= SILENCE && terminal.reads() => {
                    return Because::Silence;
                }
                // Or one that has a terminal of its own elsewhere, like ssh.
                Doing::Running if quiet >= FAR && terminal.polls() => return Because::Silence,
                _ => {}
            }
        }
        if Instant::now() >= deadline {
            return Because::Time;
        }
        tokio::select! {
            biased;
            () = sleep_until(deadline) => {}
            _ = phase.changed() => {}
            _ = marked.changed() => {}
            () = sleep(LOOK) => {}
            () = async { log.wait().await; sleep(Duration::from_millis(5)).await } => log.catch_up(),
        }
    }
}

/// What has become of what was typed.
struct Progress {
    /// A command that it began has ended.
    through: bool,
    /// The command that ran when it was typed has ended, and none has begun since.
    earlier: bool,
    /// The shell waits for the next one.
    waiting: bool,
}

fn progress(marks: &Marks, sent: Sent) -> Progress {
    let until = sent.until.unwrap_or(u64::MAX);
    let last = marks.commands().rfind(|command| command.start <= until);
    let last = last.filter(|last| last.end.is_some() && last.number > sent.ended);
    let earlier = last.is_some_and(|last| sent.taken_by.is_some_and(|by| last.number <= by));
    let waiting = marks.phase() == marks::Phase::Waiting;
    Progress { through: last.is_some() && !earlier, earlier, waiting }
}
