//! Who may take up the relay's time before it is known who they are.
//!
//! Everybody who knocks gets a place, until they are let in or leave. Places are limited for each source
//! network and in all; when they are taken, the one who has had theirs longest goes, in the network that has
//! most: a stranger pushes strangers out, and whoever is let in gives their place up and competes with
//! nobody here any more. In each network a few shake hands at a time, the last to come first, and whoever
//! is not let in keeps their turn for a moment longer: a flood from one network costs the others little.
//!
//! A pure machine: `entrance` gives it sockets and tasks.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// How many places there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// In all. A place costs about 30 KiB.
    pub(crate) all: usize,
    /// For a wide network.
    pub(crate) wide: usize,
    /// For a narrow network.
    pub(crate) narrow: usize,
    /// From so many on, addresses must be proven first.
    pub(crate) unproven: usize,
    /// How many shake hands at a time in a narrow network.
    pub(crate) turns: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { all: 1_536, wide: 1_280, narrow: 1_024, unproven: 64, turns: 16 }
    }
}

/// Where somebody comes from: one address, or what one customer of a provider has.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Network {
    wide: u128,
    narrow: u128,
}

impl Network {
    /// IPv4: /24 and /32. IPv6: /48 and /64.
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let bits = u128::from(u32::from(v4));
                Self { wide: bits & !0xff, narrow: bits }
            }
            IpAddr::V6(v6) => {
                let bits = u128::from(v6);
                Self { wide: bits & !(u128::MAX >> 48), narrow: bits & !(u128::MAX >> 64) }
            }
        }
    }
}

/// Those of one network.
#[derive(Debug, Default)]
struct Crowd {
    /// The oldest first.
    places: BTreeSet<u64>,
    /// Who waits for their turn, the last to come last.
    waiting: BTreeSet<u64>,
    /// How many turns are taken.
    taken: usize,
}

/// Somebody at the door.
#[derive(Debug)]
struct Guest {
    network: Network,
    /// Whether they have a turn.
    turn: bool,
}

/// What becomes of somebody who knocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// They must prove their address first, which costs nothing here.
    Prove,
    /// They have this place.
    Enter {
        place: u64,
        /// Whether it is their turn already.
        turn: bool,
        /// Who had to leave for that.
        leaves: Option<u64>,
        /// Whose turn it is because they left.
        next: Option<u64>,
    },
}

/// The door.
#[derive(Debug, Default)]
pub(crate) struct Door {
    limits: Limits,
    guests: HashMap<u64, Guest>,
    crowds: HashMap<Network, Crowd>,
    next: u64,
}

impl Door {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Somebody knocks.
    pub(crate) fn knock(&mut self, from: IpAddr, proven: bool) -> Answer {
        if !proven && self.guests.len() >= self.limits.unproven {
            return Answer::Prove;
        }
        let network = Network::of(from);
        let leaves = self.greediest(network);
        let next = leaves.and_then(|leaves| self.gone(leaves));
        self.next += 1;
        let place = self.next;
        let crowd = self.crowds.entry(network).or_default();
        let turn = crowd.taken < self.limits.turns;
        crowd.places.insert(place);
        if turn {
            crowd.taken += 1;
        } else {
            crowd.waiting.insert(place);
        }
        self.guests.insert(place, Guest { network, turn });
        Answer::Enter { place, turn, leaves, next }
    }

    /// Their turn is over, and they stay. Gives whose it is now.
    pub(crate) fn done(&mut self, place: u64) -> Option<u64> {
        let guest = self.guests.get_mut(&place).filter(|guest| guest.turn)?;
        guest.turn = false;
        let network = guest.network;
        self.pass_on(network)
    }

    /// They were let in, or have left. Gives whose turn it is now.
    pub(crate) fn gone(&mut self, place: u64) -> Option<u64> {
        let guest = self.guests.remove(&place)?;
        if let Some(crowd) = self.crowds.get_mut(&guest.network) {
            crowd.places.remove(&place);
            crowd.waiting.remove(&place);
        }
        if guest.turn {
            return self.pass_on(guest.network);
        }
        self.tidy(guest.network);
        None
    }

    /// How many are there.
    pub(crate) fn len(&self) -> usize {
        self.guests.len()
    }

    /// The turn of somebody who has had theirs goes to the last one to come.
    fn pass_on(&mut self, network: Network) -> Option<u64> {
        let crowd = self.crowds.get_mut(&network)?;
        let next = crowd.waiting.pop_last();
        match next.and_then(|place| self.guests.get_mut(&place)) {
            Some(guest) => guest.turn = true,
            None => crowd.taken = crowd.taken.saturating_sub(1),
        }
        self.tidy(network);
        next
    }

    /// Nothing is kept of a network of which nobody is there.
    fn tidy(&mut self, network: Network) {
        let empty = |crowd: &Crowd| crowd.places.is_empty() && crowd.taken == 0;
        if self.crowds.get(&network).is_some_and(empty) {
            self.crowds.remove(&network);
        }
    }

    /// Who leaves when one more comes from this network: nobody while there is room.
    fn greediest(&self, network: Network) -> Option<u64> {
        let crowd_of = |one: &Network| self.crowds.get(one).map_or(0, |crowd| crowd.places.len());
        let wide_of = |wide: u128| -> usize {
            let within = self.crowds.iter().filter(|(one, _)| one.wide == wide);
            within.map(|(_, crowd)| crowd.places.len()).sum()
        };
        let oldest = |one: &Network| self.crowds.get(one)?.places.first().copied();
        if crowd_of(&network) >= self.limits.narrow {
            return oldest(&network);
        }
        let wide = if wide_of(network.wide) >= self.limits.wide {
            network.wide
        } else if self.guests.len() >= self.limits.all {
            let mut sums = HashMap::<u128, usize>::new();
            for (one, crowd) in &self.crowds {
                *sums.entry(one.wide).or_default() += crowd.places.len();
            }
            sums.into_iter().max_by_key(|(_, sum)| *sum)?.0
        } else {
            return None;
        };
        let within = self.crowds.keys().filter(|one| one.wide == wide);
        oldest(within.max_by_key(|one| crowd_of(one))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits { all: 8, wide: 6, narrow: 4, unproven: 3, turns: 2 };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn enter(door: &mut Door, from: &str) -> (u64, bool, Option<u64>) {
        match door.knock(address(from), true) {
            Answer::Enter { place, turn, leaves, .. } => (place, turn, leaves),
            Answer::Prove => panic!("the address is proven"),
        }
    }

    #[test]
    fn a_network_pushes_itself_out_and_no_other() {
        let mut door = Door::new(SMALL);
        let (owner, ..) = enter(&mut door, "192.0.2.1");
        let flood: Vec<_> = (0..40).map(|_| enter(&mut door, "198.51.100.7")).collect();
        for (at, (_, _, leaves)) in flood.iter().enumerate() {
            let oldest = at.checked_sub(4).map(|before| flood[before].0);
            assert_eq!(*leaves, oldest, "the oldest of the same address goes");
        }
        assert!(door.gone(owner).is_none() && door.len() == 4, "the owner was there until then");
    }

    #[test]
    fn many_addresses_of_one_network_are_one_network() {
        let mut door = Door::new(SMALL);
        let (owner, ..) = enter(&mut door, "2001:db8:1::1");
        for at in 0..40 {
            let (.., leaves) = enter(&mut door, &format!("2001:db8:2:{at:x}::1"));
            assert!(at < 6 || leaves.is_some(), "{at}");
            assert_ne!(leaves, Some(owner));
        }
        assert_eq!(door.len(), 7);
        // One address of a /64 is as good as another.
        for at in 0..40 {
            enter(&mut door, &format!("2001:db8:3::{at:x}"));
        }
        assert!(door.guests.contains_key(&owner) && door.len() <= 8);
    }

    #[test]
    fn with_all_places_taken_the_greediest_network_gives_one_up() {
        let mut door = Door::new(Limits { wide: 8, narrow: 8, ..SMALL });
        let flood: Vec<_> = (0..8).map(|_| enter(&mut door, "198.51.100.7").0).collect();
        for (at, one) in ["192.0.2.1", "192.0.3.1", "192.0.4.1"].iter().enumerate() {
            assert_eq!(enter(&mut door, one).2, Some(flood[at]));
        }
        assert_eq!(door.len(), 8);
    }

    #[test]
    fn with_some_there_addresses_must_be_proven() {
        let mut door = Door::new(SMALL);
        for _ in 0..3 {
            assert_ne!(door.knock(address("192.0.2.1"), false), Answer::Prove);
        }
        assert_eq!(door.knock(address("192.0.2.1"), false), Answer::Prove);
        assert_ne!(door.knock(address("192.0.2.1"), true), Answer::Prove);
    }

    #[test]
    fn the_last_to_come_has_the_next_turn() {
        let mut door = Door::new(SMALL);
        let all: Vec<_> = (0..4).map(|_| enter(&mut door, "192.0.2.1")).collect();
        assert_eq!(all.iter().map(|one| one.1).collect::<Vec<_>>(), [true, true, false, false]);
        assert!(enter(&mut door, "192.0.2.9").1, "another address has turns of its own");
        assert_eq!(door.done(all[0].0), Some(all[3].0));
        assert_eq!(door.done(all[0].0), None, "a turn is given back once");
        assert_eq!(door.gone(all[0].0), None);
        assert_eq!(door.gone(all[1].0), Some(all[2].0));
        assert_eq!((door.gone(all[2].0), door.gone(all[3].0)), (None, None));
        assert!(enter(&mut door, "192.0.2.1").1 && enter(&mut door, "192.0.2.1").1);
        assert!(!enter(&mut door, "192.0.2.1").1);
    }

    #[test]
    fn whatever_happens_turns_and_places_add_up() {
        bolero::check!().with_type::<Vec<(u8, u8)>>().for_each(|steps: &Vec<(u8, u8)>| {
            let mut door = Door::new(SMALL);
            for (what, which) in steps {
                let which = u64::from(*which);
                match what % 3 {
                    0 => {
                        let last = u32::from(*what) + 0x0100_0000 * u32::from(*what & 3);
                        let answer = door.knock(IpAddr::V4(last.into()), which % 2 == 0);
                        if let Answer::Enter { leaves: Some(leaves), .. } = answer {
                            // As the one who had it does, when they hear of it.
                            assert_eq!(door.gone(leaves), None);
                        }
                    }
                    1 => _ = door.done(which),
                    _ => _ = door.gone(which),
                }
                let places: usize = door.crowds.values().map(|crowd| crowd.places.len()).sum();
                assert_eq!(places, door.guests.len());
                assert!(door.guests.len() <= SMALL.all);
                for crowd in door.crowds.values() {
                    assert!(crowd.places.len() <= SMALL.narrow && crowd.taken <= SMALL.turns);
                    assert!(crowd.waiting.is_empty() || crowd.taken > 0, "somebody calls them");
                    let turns = crowd.places.iter().filter(|place| door.guests[place].turn).count();
                    assert_eq!(turns, crowd.taken);
                }
            }
            let all: Vec<u64> = door.guests.keys().copied().collect();
            for place in all {
                door.gone(place);
            }
            assert!(door.crowds.is_empty(), "nothing is kept of those who have left");
        });
    }
}
