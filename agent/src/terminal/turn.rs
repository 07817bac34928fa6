//! Waiting for the turn of an exchange, and having it.

use std::sync::Arc;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use tokio::time::{Instant, timeout_at};

use super::Terminal;
use super::typing_rights::Taken;
use crate::gate::principal::Principal;
use crate::os::clock::boottime;

/// The turn of one exchange: until it is dropped no other exchange types.
#[derive(Debug)]
pub(crate) struct ExchangeTurn {
    terminal: Arc<Terminal>,
    pub(crate) request: Nonce,
    number: u64,
}

impl Drop for ExchangeTurn {
    fn drop(&mut self) {
        self.terminal.typing().arbiter.turns.end(self.request, self.number);
        self.terminal.tell_turns();
    }
}

/// A place in the line.
struct TurnPlace<'a> {
    terminal: &'a Terminal,
    number: u64,
}

impl Drop for TurnPlace<'_> {
    fn drop(&mut self) {
        // A request that got its turn has left the line already.
        self.terminal.typing().arbiter.turns.leave(self.number);
        self.terminal.tell_turns();
    }
}

impl Terminal {
    /// Waits for the turn of a request, at most until a deadline.
    ///
    /// # Errors
    ///
    /// `terminal_busy`, with who has the turn, when the time is up; and at once when too many wait.
    pub(crate) async fn turn(
        self: &Arc<Self>,
        who: &Principal,
        request: Nonce,
        until: Instant,
    ) -> Result<ExchangeTurn, Failure> {
        let number = self.typing().arbiter.turns.wait(request, who).ok_or_else(|| {
            Failure::new(Kind::TerminalBusy, "too many others wait to type into this session")
        })?;
        let place = TurnPlace { terminal: self, number };
        let mut changed = self.turns_changed();
        loop {
            changed.mark_unchanged();
            if self.typing().arbiter.turns.take(number, self.program.spool.end(), boottime()) {
                drop(place);
                return Ok(ExchangeTurn { terminal: self.clone(), request, number });
            }
            if timeout_at(until, changed.changed()).await.is_err() {
                return Err(self.busy_with());
            }
        }
    }

    fn busy_with(&self) -> Failure {
        let text = match self.typing().arbiter.turns.holder() {
            Some((holder, since)) => {
                let ago = boottime().saturating_sub(since).as_secs();
                format!("{holder} has typed something, and has waited {ago} s for the outcome")
            }
            None => "others wait to type into this session".to_owned(),
        };
        Failure::new(Kind::TerminalBusy, text)
            .with_hint("nothing was typed; wait for it to end, or open another session")
    }

    /// The user who has ended the turn of this request, if one has.
    pub(crate) fn turn_taken(&self, request: Nonce) -> Option<Taken> {
        self.typing().arbiter.turns.find_taken(request).cloned()
    }
}
