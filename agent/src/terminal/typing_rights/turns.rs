//! Turns: one exchange at a time types into a session and is answered; the others wait in line.
//!
//! An exchange has its turn from before it types until it is answered, so that the next command
//! that begins and ends is its own. Users come before agents, and do not wait for them: when a user
//! types or takes over, the turn of an agent ends, and its exchange learns who ended it.
//!
//! # Invariants
//!
//! - At most one request has the turn; a repeated request shares its own turn.
//! - The first waiting user comes next or, if there is none, the first waiting agent.
//! - Whoever has left the line, in whatever way, holds up nobody.

use std::collections::VecDeque;
use std::time::Duration;

use farwire_protocol::id::Nonce;

use crate::gate::principal::Principal;

/// At most this many users wait at once, and this many agents; and this many interrupted turns are
/// remembered.
const MOST: usize = 64;

/// The turns of one session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    now: Option<HeldTurn>,
    line: VecDeque<Waiting>,
    /// Turns that users have ended, and whose exchanges have not been answered.
    taken: VecDeque<(HeldTurn, Taken)>,
    next: u64,
}

#[derive(Clone, Debug)]
struct HeldTurn {
    request: Nonce,
    holder: Principal,
    since: Duration,
    /// The numbers by which it was taken: a repeated request shares the turn.
    shares: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Waiting {
    number: u64,
    request: Nonce,
    who: Principal,
}

/// A turn that a user has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Taken {
    /// The user.
    pub(crate) by: Principal,
    /// The end of the log then: a command that begins later does not belong to the exchange.
    pub(crate) at: u64,
}

impl Turns {
    /// Joins the line. Returns the number to call [`Self::take`] with, unless the line is full.
    pub(crate) fn wait(&mut self, request: Nonce, who: &Principal) -> Option<u64> {
        let alike = |one: &&Waiting| one.who.is_user() == who.is_user();
        if self.line.iter().filter(alike).count() >= MOST {
            return None;
        }
        self.next += 1;
        self.line.push_back(Waiting { number: self.next, request, who: who.clone() });
        Some(self.next)
    }

    /// Takes the turn, if it has come to whoever waits with this number. `at` is the end of the
    /// log.
    pub(crate) fn take(&mut self, number: u64, at: u64, now: Duration) -> bool {
        let Some(place) = self.line.iter().position(|one| one.number == number) else {
            return false;
        };
        let Some(Waiting { request, who, .. }) = self.line.get(place).cloned() else {
            return false;
        };
        if let Some(turn) = self.now.as_mut().filter(|turn| turn.request == request) {
            turn.shares.push(number);
            self.line.remove(place);
            return true;
        }
        let first = self.line.iter().position(|one| one.who.is_user()).unwrap_or(0);
        if first != place {
            return false;
        }
        self.interrupt(&who, at);
        if self.now.is_some() {
            return false;
        }
        self.line.remove(place);
        self.now = Some(HeldTurn { request, holder: who, since: now, shares: vec![number] });
        true
    }

    /// Leaves the line.
    pub(crate) fn leave(&mut self, number: u64) {
        self.line.retain(|one| one.number != number);
    }

    /// Ends the turn that was taken by this number: its exchange was answered, or given up.
    pub(crate) fn end(&mut self, request: Nonce, number: u64) {
        let gives_back = |turn: &mut HeldTurn| {
            turn.shares.retain(|share| *share != number || turn.request != request);
            turn.shares.is_empty()
        };
        self.taken.retain_mut(|(turn, _)| !gives_back(turn));
        self.now.take_if(gives_back);
    }

    /// `who` types or takes over when the log ends at `at`: a user ends the turn of an agent.
    /// Returns whether that happened.
    pub(crate) fn interrupt(&mut self, who: &Principal, at: u64) -> bool {
        let agents = |turn: &mut HeldTurn| who.is_user() && !turn.holder.is_user();
        let Some(turn) = self.now.take_if(agents) else { return false };
        self.taken.push_back((turn, Taken { by: who.clone(), at }));
        if self.taken.len() > MOST {
            self.taken.pop_front();
        }
        true
    }

    /// The user who has ended the turn of this request, if one has.
    pub(crate) fn find_taken(&self, request: Nonce) -> Option<&Taken> {
        self.taken.iter().find(|(turn, _)| turn.request == request).map(|(_, taken)| taken)
    }

    /// Whose turn it is, and since when.
    pub(crate) fn holder(&self) -> Option<(&Principal, Duration)> {
        self.now.as_ref().map(|turn| (&turn.holder, turn.since))
    }
}

#[cfg(test)]
mod tests {
    use farwire_protocol::id::Id;
    use farwire_protocol::surface::Surface;

    use super::*;
    use crate::gate::principal::Principal;

    fn actor(surface: Surface, client: &str) -> Principal {
        let client = Some(client.into());
        Principal { client, ..Principal::new(Id([1; 32]), surface, "d") }
    }

    fn agent(client: &str) -> Principal {
        actor(Surface::AiLocal, client)
    }

    fn user() -> Principal {
        actor(Surface::Human, "u")
    }

    fn id(byte: u8) -> Nonce {
        Nonce([byte; 16])
    }

    const NOW: Duration = Duration::from_secs(1);

    #[test]
    fn agents_have_their_turns_in_the_order_in_which_they_came() {
        let mut turns = Turns::default();
        let numbers: Vec<_> =
            (0..4).map(|n| turns.wait(id(n), &agent(&n.to_string())).unwrap()).collect();
        assert!(!turns.take(numbers[1], 0, NOW), "the first is the first");
        assert!(turns.take(numbers[0], 0, NOW));
        assert!(!turns.take(numbers[1], 0, NOW), "one at a time");
        turns.leave(numbers[1]);
        turns.end(id(0), numbers[0]);
        assert!(!turns.take(numbers[3], 0, NOW));
        assert!(turns.take(numbers[2], 0, NOW), "who has left holds up nobody");
        assert_eq!(turns.holder(), Some((&agent("2"), NOW)));
        turns.end(id(9), 9);
        assert!(turns.holder().is_some(), "the end of another");
        turns.end(id(2), numbers[2]);
        assert!(turns.holder().is_none());
    }

    #[test]
    fn who_ended_a_turn_is_known_until_all_who_shared_it_have_been_told() {
        let mut turns = Turns::default();
        let [first, copy] = [1, 1].map(|n| turns.wait(id(n), &agent("a")).unwrap());
        assert!(turns.take(first, 0, NOW) && turns.take(copy, 0, NOW));
        assert!(turns.interrupt(&user(), 5));
        turns.end(id(1), first);
        assert!(turns.find_taken(id(1)).is_some(), "the other copy has not been told");
        turns.end(id(1), copy);
        assert!(turns.find_taken(id(1)).is_none());
    }

    #[test]
    fn a_user_comes_first_and_ends_the_turn_of_an_agent_but_not_that_of_a_user() {
        let mut turns = Turns::default();
        let first = turns.wait(id(1), &agent("a")).unwrap();
        assert!(turns.take(first, 0, NOW));
        let second = turns.wait(id(2), &agent("b")).unwrap();
        let person = turns.wait(id(3), &user()).unwrap();
        assert!(!turns.interrupt(&agent("b"), 7), "agents end nobody's turn");
        assert!(turns.take(person, 7, NOW));
        assert_eq!(turns.find_taken(id(1)), Some(&Taken { by: user(), at: 7 }));
        assert!(!turns.interrupt(&actor(Surface::Human, "other"), 8));
        assert!(!turns.take(second, 8, NOW));
        turns.end(id(1), first);
        assert_eq!(turns.find_taken(id(1)), None);
        turns.end(id(3), person);
        assert!(turns.take(second, 8, NOW));
        assert!(turns.interrupt(&user(), 9), "so does whoever only types");
        assert!(turns.holder().is_none() && turns.find_taken(id(2)).is_some());
    }

    #[test]
    fn a_request_that_is_sent_again_shares_its_own_turn() {
        let mut turns = Turns::default();
        let first = turns.wait(id(1), &agent("a")).unwrap();
        assert!(turns.take(first, 0, NOW));
        let other = turns.wait(id(2), &agent("b")).unwrap();
        let again = turns.wait(id(1), &agent("a")).unwrap();
        assert!(turns.take(again, 0, NOW));
        turns.end(id(1), first);
        turns.end(id(1), first);
        assert!(!turns.take(other, 0, NOW), "one of the two still waits for its answer");
        turns.end(id(1), again);
        assert!(turns.take(other, 0, NOW));
    }

    #[test]
    fn the_line_is_bounded() {
        let mut turns = Turns::default();
        for _ in 0..MOST {
            assert!(turns.wait(id(1), &agent("a")).is_some());
        }
        assert!(turns.wait(id(1), &agent("a")).is_none());
        assert!(turns.wait(id(2), &user()).is_some(), "users have places of their own");
    }
}
