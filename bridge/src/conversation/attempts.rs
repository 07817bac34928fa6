//! The attempts of one request: how far it has come, how long there is, and how long to wait in
//! between.

use std::sync::Arc;
use std::time::Duration;

use farwire_link::inner::bridge::Link;
use farwire_protocol::failure::{Failure, Kind};
use tokio::time::{Instant, sleep, timeout_at};

use super::backoff::backoff;
use super::{Effects, Next, Remote, RequestProgress, Trouble, next};
use crate::client::Server;

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// The agent, or something here, said no: it was not done.
    Failed(Failure),
    /// The request may have arrived, and no answer that can be trusted has come. It may be carried
    /// out yet.
    Unknown(Failure),
    /// The request has arrived, and waits for its turn.
    Queued,
}

impl NoAnswer {
    /// The failure for a request that reads.
    pub fn failure(self) -> Failure {
        match self {
            Self::Failed(failure) | Self::Unknown(failure) => failure,
            Self::Queued => Failure::new(Kind::TimedOut, "it still waits for its turn"),
        }
    }

    /// The failure for a request that acts. `what` is what may have been done, with its id; `look`
    /// says how to find out.
    pub fn outcome(self, what: &str, look: &str) -> Failure {
        let why = match self {
            // The agent itself does not know.
            Self::Failed(failure) if failure.kind == Kind::OutcomeUnknown => failure,
            Self::Failed(failure) => return failure,
            Self::Unknown(_) | Self::Queued => self.failure(),
        };
        let message = format!("whether {what} is not known: {}", why.message);
        Failure::new(Kind::OutcomeUnknown, message).with_hint(look)
    }
}

/// How far a request has come, and until when it is asked.
#[derive(Debug)]
pub struct Attempts {
    asked: RequestProgress,
    deadline: Option<Instant>,
    /// Attempts since the agent was heard.
    count: u32,
    /// The agent was heard in the latest attempt.
    answered: bool,
    /// The link of the latest attempt's stream.
    link: Option<Arc<Link>>,
}

/// Until when an attempt may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// Waits for the attempt, and no longer than there is time: `None` when it is up.
    pub(crate) async fn within<T>(self, attempt: impl Future<Output = T>) -> Option<T> {
        match self.0 {
            Some(deadline) => timeout_at(deadline, attempt).await.ok(),
            None => Some(attempt.await),
        }
    }
}

impl Attempts {
    /// None yet. Without `patience` there is no deadline.
    pub fn new(effects: Effects, patience: Option<Duration>) -> Self {
        Self {
            asked: RequestProgress { effects, copies: 0, heard: false, fruitless: 0 },
            deadline: patience.map(|patience| Instant::now() + patience),
            count: 0,
            answered: false,
            link: None,
        }
    }

    /// Until when there may be attempts.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline(self.deadline)
    }

    /// Another attempt begins. Returns until when it may take.
    pub(crate) fn begin(&mut self, bounded: bool) -> Deadline {
        (self.answered, self.link) = (false, None);
        Deadline(self.deadline.filter(|_| bounded))
    }

    /// The attempt goes over a stream of this link.
    pub fn goes_over(&mut self, link: &Arc<Link>) {
        self.link = Some(link.clone());
    }

    /// The deadline is this long from now.
    pub fn end_in(&mut self, patience: Duration) {
        self.deadline = Some(Instant::now() + patience);
    }

    /// From now on a stream may carry the request.
    pub fn mark_sent(&mut self) {
        self.asked.copies = self.asked.copies.saturating_add(1);
    }

    /// The agent has said something, sealed.
    pub fn mark_heard(&mut self) {
        self.asked.heard = true;
        self.asked.fruitless = 0;
        self.count = 0;
        self.answered = true;
    }

    /// Whether the agent was heard in the latest attempt.
    pub fn was_answered(&self) -> bool {
        self.answered
    }

    /// Whether a stream may have carried the request.
    pub fn was_sent(&self) -> bool {
        self.asked.copies > 0
    }

    /// What acts has been done: from now on it is only looked at, without a deadline.
    pub fn observe_only(&mut self) {
        self.asked.effects = Effects::None;
        self.deadline = None;
    }

    /// How many attempts in a row have failed without a sealed word of the agent, counting from 0.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Nothing has come in time.
    pub fn late(&self, server: &Server) -> NoAnswer {
        if self.was_sent() {
            return NoAnswer::Unknown(Trouble::silent(server).failure);
        }
        let message = format!("`{}` did not answer in time, and nothing was started", server.name);
        NoAnswer::Failed(Failure::new(Kind::TimedOut, message).with_hint(format!(
            "try again; `farwire doctor {}` checks the connection to it",
            server.name
        )))
    }

    /// There is no more time.
    pub fn give_up(&self, failure: Failure) -> NoAnswer {
        if self.was_sent() { NoAnswer::Unknown(failure) } else { NoAnswer::Failed(failure) }
    }

    /// Decides what follows, and waits until it may.
    ///
    /// # Errors
    ///
    /// Why there is no answer, when nothing more may be tried or the time is up.
    pub async fn follow(&mut self, remote: Remote<'_>, trouble: Trouble) -> Result<Next, NoAnswer> {
        let (next, wait) = self.decide(&trouble);
        match next {
            Next::Failed => return Err(NoAnswer::Failed(trouble.failure)),
            Next::Unknown => return Err(NoAnswer::Unknown(trouble.failure)),
            Next::NewLink => self.forget_link(remote),
            Next::Again | Next::NewConversation => {}
        }
        if self.deadline.is_some_and(|deadline| Instant::now() + wait >= deadline) {
            return Err(self.give_up(trouble.failure));
        }
        sleep(wait).await;
        Ok(next)
    }

    /// Forgets the link of the latest attempt: the next stream makes a new one.
    pub fn forget_link(&self, remote: Remote<'_>) {
        if let Some(link) = &self.link {
            remote.client.forget(remote.server, link);
        }
    }

    fn decide(&mut self, trouble: &Trouble) -> (Next, Duration) {
        let next = next(trouble.fault, self.asked);
        // What turns out to be gone is made anew at once; after that we wait.
        let at_once = self.count == 0 && next == Next::NewLink;
        let wait = if at_once { Duration::ZERO } else { backoff(self.count) };
        self.asked.fruitless = self.asked.fruitless.saturating_add(1);
        self.count = self.count.saturating_add(1);
        (next, wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{Fault, Word};

    fn trouble(fault: Fault) -> Trouble {
        Trouble::new(fault, Failure::new(Kind::LinkLost, "no"))
    }

    #[test]
    fn a_request_that_may_have_been_sent_is_never_given_up_as_one_that_was_not() {
        let mut attempts = Attempts::new(Effects::Once, None);
        let why = || Failure::new(Kind::ServerOffline, "the server is offline");
        assert!(matches!(attempts.give_up(why()), NoAnswer::Failed(_)));
        attempts.mark_sent();
        let Failure { kind, message, hint } =
            attempts.give_up(why()).outcome("`r12` ran", "`farwire output r12` shows it");
        assert_eq!(kind, Kind::OutcomeUnknown);
        assert_eq!(message, "whether `r12` ran is not known: the server is offline");
        assert_eq!(hint.as_deref(), Some("`farwire output r12` shows it"));
    }

    #[test]
    fn a_link_on_which_nothing_is_heard_is_made_anew_and_one_that_speaks_is_kept() {
        let mut attempts = Attempts::new(Effects::Once, None);
        attempts.mark_sent();
        assert_eq!(attempts.decide(&trouble(Fault::Cut)).0, Next::Again);
        assert_eq!(attempts.decide(&trouble(Fault::Cut)).0, Next::NewLink);
        attempts.mark_heard();
        assert_eq!(attempts.decide(&trouble(Fault::Cut)).0, Next::Again);
        attempts.mark_heard();
        assert_eq!(attempts.decide(&trouble(Fault::Said(Word::Broken))).0, Next::Again);
    }
}
