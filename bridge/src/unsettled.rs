//! The order of what is done to sessions, whatever a relay holds back.
//!
//! Every stream of a request has a higher generation of one conversation, and an agent refuses a
//! stream once it has seen a later one. A request whose outcome is not known leaves its
//! conversation here, and the next request about the session goes on in it: what is let go of the
//! earlier one after that changes nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use farwire_protocol::failure::Failure;
use farwire_protocol::id::Nonce;

use crate::machine::random_nonce;

/// The conversations of requests whose outcome is not known, by the session that they are about.
#[derive(Debug, Default)]
pub(crate) struct Unsettled(Mutex<HashMap<Nonce, Vec<Line>>>);

/// A conversation, and the generation of its next stream.
#[derive(Clone, Copy, Debug)]
struct Line {
    conversation: Nonce,
    generation: u32,
}

impl Unsettled {
    /// The conversation of a request about a session: one whose latest request has no known
    /// outcome, or a new one.
    pub(crate) fn begin(&self, session: Nonce) -> Result<Ordered<'_>, Failure> {
        let line = match self.take(session) {
            Some(line) => line,
            None => Line { conversation: random_nonce()?, generation: 0 },
        };
        Ok(Ordered { all: self, session, line })
    }

    fn take(&self, session: Nonce) -> Option<Line> {
        let mut all = self.lock();
        let lines = all.get_mut(&session)?;
        let line = lines.pop();
        if lines.is_empty() {
            all.remove(&session);
        }
        line
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Nonce, Vec<Line>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The conversation of one request. It is left to the next request unless this one is settled.
#[derive(Debug)]
pub(crate) struct Ordered<'a> {
    all: &'a Unsettled,
    session: Nonce,
    line: Line,
}

impl Ordered<'_> {
    /// The conversation and the generation of the next stream.
    pub(crate) fn advance(&mut self) -> (Nonce, u32) {
        let generation = self.line.generation;
        self.line.generation = generation.saturating_add(1);
        (self.line.conversation, generation)
    }

    /// The request was answered on its latest stream: no earlier one can change anything.
    pub(crate) fn settle(mut self) {
        self.line.generation = 0;
    }
}

impl Drop for Ordered<'_> {
    fn drop(&mut self) {
        if self.line.generation > 0 {
            self.all.lock().entry(self.session).or_default().push(self.line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Nonce = Nonce([1; 16]);

    #[test]
    fn what_follows_a_request_without_an_outcome_comes_after_all_its_copies() {
        let all = Unsettled::default();
        let mut first = all.begin(SESSION).unwrap();
        let (conversation, generation) = first.advance();
        assert_eq!((generation, first.advance()), (0, (conversation, 1)));
        let mut beside = all.begin(SESSION).unwrap();
        assert_ne!(beside.advance().0, conversation, "it is in use");
        beside.settle();
        drop(first);
        assert_ne!(all.begin(Nonce([2; 16])).unwrap().advance().0, conversation);
        let mut second = all.begin(SESSION).unwrap();
        assert_eq!(second.advance(), (conversation, 2));
        second.settle();
        assert_ne!(all.begin(SESSION).unwrap().advance().0, conversation, "it was answered");
    }

    #[test]
    fn what_was_not_sent_leaves_nothing() {
        let all = Unsettled::default();
        drop(all.begin(SESSION).unwrap());
        assert!(all.lock().is_empty());
    }
}
