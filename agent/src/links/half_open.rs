//! Handshakes in progress: few at once, and no route can keep the others out.
//!
//! A newcomer always gets a place. When all are taken, the route that has most of them gives up its
//! oldest: a flooder loses its own handshakes. Between routes that have equally many the oldest
//! handshake goes; an honest one is rarely the oldest, since it takes only two round trips.

use std::sync::{Arc, Mutex, MutexGuard};

use farwire_protocol::header::Route;
use tokio_util::sync::CancellationToken;

/// At most this many handshakes at once: each costs a millisecond and some memory.
const PLACES: usize = 16;

/// The places for handshakes in progress.
#[derive(Clone, Debug, Default)]
pub(crate) struct HalfOpen {
    inner: Arc<Mutex<HalfOpenTable>>,
}

#[derive(Debug, Default)]
struct HalfOpenTable {
    next: u64,
    /// Oldest first.
    taken: Vec<Taken>,
}

#[derive(Debug)]
struct Taken {
    number: u64,
    route: Route,
    lost: CancellationToken,
}

/// A place, until it is dropped or lost to somebody else.
#[derive(Debug)]
pub(crate) struct HalfOpenPlace {
    number: u64,
    lost: CancellationToken,
    of: HalfOpen,
}

impl HalfOpen {
    fn lock(&self) -> MutexGuard<'_, HalfOpenTable> {
        self.inner.lock().expect("nothing panics while it is held")
    }

    /// Takes a place for a handshake that came by this route.
    pub(crate) fn take(&self, route: Route) -> HalfOpenPlace {
        let mut inner = self.lock();
        inner.next += 1;
        let (number, lost) = (inner.next, CancellationToken::new());
        if inner.taken.len() >= PLACES {
            inner.free_one(route);
        }
        inner.taken.push(Taken { number, route, lost: lost.clone() });
        HalfOpenPlace { number, lost, of: self.clone() }
    }
}

impl HalfOpenTable {
    /// Frees the oldest place of the route that has most, counting the newcomer as one of its
    /// route.
    fn free_one(&mut self, newcomer: Route) {
        let count = |route: Route| {
            let taken = self.taken.iter().filter(|taken| taken.route == route).count();
            taken + usize::from(route == newcomer)
        };
        // Of several with the same count `rev` and `max_by_key` return the oldest.
        let most = self.taken.iter().enumerate().rev().max_by_key(|(_, taken)| count(taken.route));
        if let Some((at, _)) = most {
            self.taken.remove(at).lost.cancel();
        }
    }
}

impl HalfOpenPlace {
    /// Waits until somebody else has got this place.
    pub(crate) async fn wait_for_loss(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for HalfOpenPlace {
    fn drop(&mut self) {
        self.of.lock().taken.retain(|taken| taken.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_route_that_floods_loses_its_own_places_and_nobody_elses() {
        let all = HalfOpen::default();
        let honest = all.take(1);
        let flood: Vec<_> = (0..100).map(|_| all.take(2)).collect();
        assert!(!honest.lost.is_cancelled());
        assert_eq!(flood.iter().filter(|place| !place.lost.is_cancelled()).count(), PLACES - 1);
        let others: Vec<_> = (3..10).map(|route| all.take(route)).collect();
        assert!(others.iter().all(|place| !place.lost.is_cancelled()), "everybody finds a place");
        assert!(!flood.last().unwrap().lost.is_cancelled(), "the oldest go first");
        assert!(all.lock().taken.len() <= PLACES);
    }

    #[test]
    fn routes_with_as_many_give_up_the_oldest() {
        let all = HalfOpen::default();
        let places: Vec<_> = (0..16).map(|route| all.take(route)).collect();
        let late = all.take(99);
        assert!(places[0].lost.is_cancelled() && !places[1].lost.is_cancelled());
        assert!(!late.lost.is_cancelled());
    }

    #[test]
    fn a_place_that_is_given_back_is_free() {
        let all = HalfOpen::default();
        for _ in 0..100 {
            drop(all.take(1));
        }
        assert!(all.lock().taken.is_empty());
        let kept: Vec<_> = (0..16).map(|_| all.take(1)).collect();
        assert!(kept.iter().all(|place| !place.lost.is_cancelled()));
    }
}
