//! How often somebody may connect: token buckets.
//!
//! A handshake is charged to the relay's route until it completes, and then to the device. A route
//! is what the relay claims, and serves fairness alone: it slows, and never bans. A stream is
//! charged to its link, once it has authenticated.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use farwire_protocol::header::Route;
use farwire_protocol::id::Id;
use tokio::time::Instant;

/// How many per second, and how many at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    per_second: f64,
    burst: f64,
}

/// Handshakes that one route may leave unfinished.
const UNFINISHED: Rate = Rate { per_second: 20.0, burst: 40.0 };

/// Handshakes of one device. A shell loop of cold commands is normal use.
const DEVICE: Rate = Rate { per_second: 200.0, burst: 400.0 };

/// Streams of one link.
pub(crate) const OPENS: Rate = Rate { per_second: 2_000.0, burst: 4_000.0 };

/// At most this many routes and devices are tracked. Then the fullest bucket goes: forgetting it
/// forgives least.
const KNOWN: usize = 4096;

/// One token bucket, which begins full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    tokens: f64,
    since: Instant,
}

impl Bucket {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: rate.burst, since: now }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.tokens = self.level(now);
        self.since = now;
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }

    /// How many tokens there are now.
    fn level(&self, now: Instant) -> f64 {
        let earned = now.duration_since(self.since).as_secs_f64() * self.rate.per_second;
        (self.tokens + earned).min(self.rate.burst)
    }

    fn give_back(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.rate.burst);
    }
}

/// A bucket for each of many.
#[derive(Debug)]
struct Buckets<K> {
    rate: Rate,
    all: Mutex<HashMap<K, Bucket>>,
}

impl<K: Copy + Eq + Hash> Buckets<K> {
    fn new(rate: Rate) -> Self {
        Self { rate, all: Mutex::default() }
    }

    fn with<T>(&self, key: K, act: impl FnOnce(&mut Bucket, Instant) -> T) -> T {
        let now = Instant::now();
        let mut all = self.all.lock().expect("nothing panics while it is held");
        if all.len() >= KNOWN && !all.contains_key(&key) {
            let level = |bucket: &Bucket| bucket.level(now);
            let fullest = all.iter().max_by(|a, b| level(a.1).total_cmp(&level(b.1)));
            let fullest = fullest.map(|(key, _)| *key);
            fullest.and_then(|key| all.remove(&key));
        }
        act(all.entry(key).or_insert_with(|| Bucket::new(self.rate, now)), now)
    }
}

/// The rates of handshakes.
#[derive(Debug)]
pub(crate) struct Rates {
    routes: Buckets<Route>,
    devices: Buckets<Id>,
}

impl Default for Rates {
    fn default() -> Self {
        Self { routes: Buckets::new(UNFINISHED), devices: Buckets::new(DEVICE) }
    }
}

impl Rates {
    /// Whether a peer that comes by this route may begin a handshake.
    pub(crate) fn begin(&self, route: Route) -> bool {
        self.routes.with(route, Bucket::take)
    }

    /// A handshake has proven a device: the route gets its token back, and the device pays. Returns
    /// whether it can.
    pub(crate) fn complete(&self, route: Route, device: Id) -> bool {
        self.routes.with(route, |bucket, _| bucket.give_back());
        self.devices.with(device, Bucket::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn unfinished_handshakes_run_dry_and_finished_ones_do_not() {
        let rates = Rates::default();
        assert_eq!((0..100).filter(|_| rates.begin(1)).count(), 40);
        assert!(rates.begin(2), "another route is not affected");
        for _ in 0..100 {
            assert!(rates.begin(3) && rates.complete(3, Id([1; 32])));
        }
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!((0..100).filter(|_| rates.begin(1)).count(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn many_new_routes_do_not_forgive_one_that_has_run_dry() {
        let rates = Rates::default();
        assert_eq!((0..100).filter(|_| rates.begin(7)).count(), 40);
        for route in 100..100 + 2 * Route::try_from(KNOWN).unwrap() {
            assert!(rates.begin(route));
        }
        assert!(!rates.begin(7), "it is still remembered");
        assert!(rates.routes.all.lock().unwrap().len() <= KNOWN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_pays_for_what_it_finishes() {
        let rates = Rates::default();
        let finished = |device| (0..1000).filter(|_| rates.complete(1, Id([device; 32]))).count();
        assert_eq!(finished(1), 400);
        assert_eq!(finished(2), 400, "another device is not affected");
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(finished(1), 200);
    }
}
