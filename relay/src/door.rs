//! Which strangers may take up the relay's time before it is known who they are.
//!
//! Each connection that knocks gets a place until it is let in or leaves. Places are limited for
//! each source network and in all. When they are taken, the oldest stranger of the network that has
//! most must leave: strangers push out strangers, and a program that was let in gives its place up
//! and competes with nobody here any more. In each network a few strangers shake hands at a time,
//! the newest first. One that is not let in keeps its turn for a moment longer, so that a flood
//! from one network costs the others little.
//!
//! A pure machine: [`crate::entrance`] gives it sockets and tasks.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// How many places there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DoorLimits {
    /// In all. A place costs about 30 KiB.
    pub(crate) all: usize,
    /// For a wide network: one customer of a provider.
    pub(crate) wide: usize,
    /// For a narrow network: one address.
    pub(crate) narrow: usize,
    /// From this many taken places on, addresses must be proven first.
    pub(crate) unproven: usize,
    /// How many strangers of a narrow network shake hands at a time.
    pub(crate) turns: usize,
}

impl Default for DoorLimits {
    fn default() -> Self {
        Self { all: 1_536, wide: 1_280, narrow: 1_024, unproven: 64, turns: 16 }
    }
}

/// The network that a stranger comes from, with the wider one around it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Network {
    wide: u128,
    narrow: u128,
}

impl Network {
    /// Returns the network of an address: /32 in /24 for IPv4, /64 in /48 for IPv6.
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

/// The strangers of one narrow network.
#[derive(Debug, Default)]
struct Crowd {
    /// By number, and so by age.
    places: BTreeSet<u64>,
    /// Those that wait for a turn.
    waiting: BTreeSet<u64>,
    /// How many have a turn.
    taken: usize,
}

#[derive(Debug)]
struct Stranger {
    network: Network,
    /// Whether it has a turn: it may shake hands.
    turn: bool,
}

/// What becomes of a stranger that knocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Admission {
    /// It must prove its address first, which takes no place.
    Prove,
    /// It has a place.
    Enter {
        place: u64,
        /// Whether it has a turn already.
        turn: bool,
        /// The stranger that must leave for it.
        leaves: Option<u64>,
        /// The stranger that has a turn because the other one left.
        next: Option<u64>,
    },
}

/// The strangers at the door.
#[derive(Debug, Default)]
pub(crate) struct Door {
    limits: DoorLimits,
    strangers: HashMap<u64, Stranger>,
    crowds: HashMap<Network, Crowd>,
    last: u64,
}

impl Door {
    pub(crate) fn new(limits: DoorLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Decides about a stranger that knocks.
    pub(crate) fn knock(&mut self, from: IpAddr, proven: bool) -> Admission {
        if !proven && self.strangers.len() >= self.limits.unproven {
            return Admission::Prove;
        }
        let network = Network::of(from);
        let leaves = self.pushed_out_by(network);
        let next = leaves.and_then(|leaves| self.leave(leaves));
        self.last += 1;
        let place = self.last;
        let crowd = self.crowds.entry(network).or_default();
        let turn = crowd.taken < self.limits.turns;
        crowd.places.insert(place);
        if turn {
            crowd.taken += 1;
        } else {
            crowd.waiting.insert(place);
        }
        self.strangers.insert(place, Stranger { network, turn });
        Admission::Enter { place, turn, leaves, next }
    }

    /// Ends the turn of a stranger that stays. Returns the one that has it now.
    pub(crate) fn end_turn(&mut self, place: u64) -> Option<u64> {
        let stranger = self.strangers.get_mut(&place).filter(|stranger| stranger.turn)?;
        stranger.turn = false;
        let network = stranger.network;
        self.pass_on(network)
    }

    /// Frees the place of a stranger that was let in or has left. Returns the one that has its turn
    /// now.
    pub(crate) fn leave(&mut self, place: u64) -> Option<u64> {
        let stranger = self.strangers.remove(&place)?;
        if let Some(crowd) = self.crowds.get_mut(&stranger.network) {
            crowd.places.remove(&place);
            crowd.waiting.remove(&place);
        }
        if stranger.turn {
            return self.pass_on(stranger.network);
        }
        self.tidy(stranger.network);
        None
    }

    /// Returns how many places are taken.
    pub(crate) fn len(&self) -> usize {
        self.strangers.len()
    }

    /// Passes a turn on to the last stranger that came.
    fn pass_on(&mut self, network: Network) -> Option<u64> {
        let crowd = self.crowds.get_mut(&network)?;
        let next = crowd.waiting.pop_last();
        match next.and_then(|place| self.strangers.get_mut(&place)) {
            Some(stranger) => stranger.turn = true,
            None => crowd.taken = crowd.taken.saturating_sub(1),
        }
        self.tidy(network);
        next
    }

    /// Forgets a network without strangers.
    fn tidy(&mut self, network: Network) {
        let empty = |crowd: &Crowd| crowd.places.is_empty() && crowd.taken == 0;
        if self.crowds.get(&network).is_some_and(empty) {
            self.crowds.remove(&network);
        }
    }

    /// Returns the stranger that must leave when one more comes from this network, `None` while
    /// there are places.
    fn pushed_out_by(&self, network: Network) -> Option<u64> {
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
        } else if self.strangers.len() >= self.limits.all {
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

    const SMALL: DoorLimits = DoorLimits { all: 8, wide: 6, narrow: 4, unproven: 3, turns: 2 };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn enter(door: &mut Door, from: &str) -> (u64, bool, Option<u64>) {
        match door.knock(address(from), true) {
            Admission::Enter { place, turn, leaves, .. } => (place, turn, leaves),
            Admission::Prove => panic!("the address is proven"),
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
        assert!(door.leave(owner).is_none() && door.len() == 4, "the owner was there until then");
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
        assert!(door.strangers.contains_key(&owner) && door.len() <= 8);
    }

    #[test]
    fn with_all_places_taken_the_greediest_network_gives_one_up() {
        let mut door = Door::new(DoorLimits { wide: 8, narrow: 8, ..SMALL });
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
            assert_ne!(door.knock(address("192.0.2.1"), false), Admission::Prove);
        }
        assert_eq!(door.knock(address("192.0.2.1"), false), Admission::Prove);
        assert_ne!(door.knock(address("192.0.2.1"), true), Admission::Prove);
    }

    #[test]
    fn the_last_to_come_has_the_next_turn() {
        let mut door = Door::new(SMALL);
        let all: Vec<_> = (0..4).map(|_| enter(&mut door, "192.0.2.1")).collect();
        assert_eq!(all.iter().map(|one| one.1).collect::<Vec<_>>(), [true, true, false, false]);
        assert!(enter(&mut door, "192.0.2.9").1, "another address has turns of its own");
        assert_eq!(door.end_turn(all[0].0), Some(all[3].0));
        assert_eq!(door.end_turn(all[0].0), None, "a turn is given back once");
        assert_eq!(door.leave(all[0].0), None);
        assert_eq!(door.leave(all[1].0), Some(all[2].0));
        assert_eq!((door.leave(all[2].0), door.leave(all[3].0)), (None, None));
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
                        let verdict = door.knock(IpAddr::V4(last.into()), which % 2 == 0);
                        if let Admission::Enter { leaves: Some(leaves), .. } = verdict {
                            // As the one who had it does, when they hear of it.
                            assert_eq!(door.leave(leaves), None);
                        }
                    }
                    1 => _ = door.end_turn(which),
                    _ => _ = door.leave(which),
                }
                let places: usize = door.crowds.values().map(|crowd| crowd.places.len()).sum();
                assert_eq!(places, door.strangers.len());
                assert!(door.strangers.len() <= SMALL.all);
                for crowd in door.crowds.values() {
                    assert!(crowd.places.len() <= SMALL.narrow && crowd.taken <= SMALL.turns);
                    assert!(crowd.waiting.is_empty() || crowd.taken > 0, "somebody calls them");
                    let turns =
                        crowd.places.iter().filter(|place| door.strangers[place].turn).count();
                    assert_eq!(turns, crowd.taken);
                }
            }
            let all: Vec<u64> = door.strangers.keys().copied().collect();
            for place in all {
                door.leave(place);
            }
            assert!(door.crowds.is_empty(), "nothing is kept of those who have left");
        });
    }
}
