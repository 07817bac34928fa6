//! How often somebody may knock: token buckets for handshakes, by the relay's route.
//!
//! A route is the relay's word and is for fairness alone: it slows, and never bans. A handshake that
//! completes gives its token back, so that only those which come to nothing run dry.

use std::collections::HashMap;
use std::sync::Mutex;

use farwire_protocol::header::Route;
use tokio::time::Instant;

/// Handshakes a second that one route may leave unfinished.
const RATE: f64 = 20.0;

/// So many at once.
const BURST: f64 = 40.0;

/// So many routes are told apart; then all begin anew.
const ROUTES: usize = 4096;

/// The buckets.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    routes: Mutex<HashMap<Route, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    since: Instant,
}

impl Rates {
    /// Takes a token, if there is one.
    pub(crate) fn handshake(&self, route: Route) -> bool {
        let now = Instant::now();
        let mut routes = self.routes.lock().expect("nothing panics while it is held");
        if routes.len() > ROUTES {
            routes.clear();
        }
        let bucket = routes.entry(route).or_insert(Bucket { tokens: BURST, since: now });
        let earned = (now - bucket.since).as_secs_f64() * RATE;
        bucket.tokens = (bucket.tokens + earned).min(BURST);
        bucket.since = now;
        let there = bucket.tokens >= 1.0;
        if there {
            bucket.tokens -= 1.0;
        }
        there
    }

    /// Gives a token back.
    pub(crate) fn completed(&self, route: Route) {
        let mut routes = self.routes.lock().expect("nothing panics while it is held");
        if let Some(bucket) = routes.get_mut(&route) {
            bucket.tokens = (bucket.tokens + 1.0).min(BURST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn unfinished_handshakes_run_dry_and_finished_ones_do_not() {
        let rates = Rates::default();
        let granted = (0..100).filter(|_| rates.handshake(1)).count();
        assert_eq!(granted, 40);
        assert!(rates.handshake(2), "another route is not affected");
        for _ in 0..100 {
            assert!(rates.handshake(3));
            rates.completed(3);
        }
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!((0..100).filter(|_| rates.handshake(1)).count(), 20);
    }
}
